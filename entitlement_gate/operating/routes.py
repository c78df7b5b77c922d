"""Routes for people, and a path that a route would take, to try rules about paths on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.urls.resolvers import RoutePattern

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["sample_of", "shown_route"]

_CONVERTER = re.compile(r"<(?:([^>\s:]+):)?[^>\s]+>")
_SAMPLES = {"int": "1", "uuid": "00000000-0000-4000-8000-000000000000"}
_GROUP = re.compile(r"\((?:\?P<[^>]+>|\?:)?[^()]*\)[*+?]?")
_SET = re.compile(r"(?:\[[^\]]*\]|\\[dw])[*+?]?")


def shown_route(patterns: Iterable[Any]) -> str:
    """Return the route as it is written, includes joined."""
    return "/" + "".join(_written(pattern) for pattern in patterns).removeprefix("/")


def sample_of(patterns: Iterable[Any]) -> str:
    """Return a path that the route would take, as near as can be told without solving regular expressions."""
    return "/" + "".join(_sample(pattern) for pattern in patterns).removeprefix("/")


def _written(pattern: Any) -> str:
    text = str(pattern)
    return text if isinstance(pattern, RoutePattern) else text.removeprefix("^")


def _sample(pattern: Any) -> str:
    text = str(pattern)
    if isinstance(pattern, RoutePattern):
        return _CONVERTER.sub(lambda found: _SAMPLES.get(found[1] or "", "x"), text)
    text = _GROUP.sub("1", text.removeprefix("^").removesuffix("$").removesuffix("\\Z"))
    return _SET.sub("1", text).replace("\\", "")
