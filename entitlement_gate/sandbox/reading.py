"""Readers for what a scenario, a fault or a test says: each returns the value or names the place at fault.

Never here: defaults, or the shape of a scenario.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from entitlement_gate.sandbox import facts

__all__ = [
    "Reader",
    "ScenarioError",
    "identifier",
    "integer",
    "listed",
    "mapping",
    "moment",
    "number",
    "one_of",
    "optional",
    "text",
]

Reader = Callable[[Any, str], Any]

# Exact, yet bounded: a number of a million digits is a mistake, and 1e400 (beyond every float) is not.
_MOST_DIGITS = 500
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_RELATIVE = re.compile(r"([+-])([0-9]{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FARTHEST = timedelta(days=36_500)


class ScenarioError(ValueError):
    """What a scenario or a mutation says cannot be; the text names the place first."""


def mapping(value: Any, place: str, allowed: Iterable[str]) -> Mapping[str, Any]:
    """Read an object whose fields are all among ``allowed``; an unknown one is named with its neighbour."""
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{place or 'scenario'}: expected an object, not {_kind(value)}")
    names = sorted(allowed)
    for name in value:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ScenarioError(f"{place or 'scenario'}: unknown field {name!r}{hint}")
    return value


def listed(value: Any, place: str) -> list[tuple[str, Any]]:
    """Read a list as pairs of place and item."""
    if not isinstance(value, list | tuple):
        raise ScenarioError(f"{place}: expected a list, not {_kind(value)}")
    return [(f"{place}[{index}]", item) for index, item in enumerate(value)]


def optional(reader: Reader) -> Reader:
    """Let a reader take null too."""
    return lambda value, place: None if value is None else reader(value, place)


def text(value: Any, place: str) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ScenarioError(f"{place}: expected a text, not {_kind(value)}")
    return value


def identifier(value: Any, place: str) -> str:
    """Read a UUID or its hyphenated text, any case; the answer is lower case."""
    candidate = str(value) if isinstance(value, UUID) else value
    if not isinstance(candidate, str) or not _UUID.fullmatch(candidate):
        raise ScenarioError(f"{place}: expected a UUID, not {_kind(value)}")
    return candidate.lower()


def integer(value: Any, place: str, least: int, most: int) -> int:
    """Read an integer within bounds; ``True`` is no integer here."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ScenarioError(f"{place}: expected an integer from {least} to {most}, not {_kind(value)}")
    return value


def number(value: Any, place: str) -> int | Decimal:
    """Read an exact number: an int, a Decimal, their text, or a float through its ``repr``."""
    exact = value
    if isinstance(value, float | str):
        try:
            exact = Decimal(repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            exact = None
    if isinstance(exact, bool) or not isinstance(exact, int | Decimal) or not _is_bounded(Decimal(exact)):
        raise ScenarioError(f"{place}: expected a number, not {_kind(value)}")
    return exact


def _is_bounded(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_DIGITS and value.adjusted() <= _MOST_DIGITS


def moment(value: Any, place: str) -> datetime | timedelta:
    """Read an instant: a datetime or ISO text, or a time span from the start (``"-30d"``, ``"now"``)."""
    if isinstance(value, datetime):
        return value
    span = value if isinstance(value, timedelta) else _span(value)
    if span is not None and abs(span) <= _FARTHEST:
        return span
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        wanted = 'a date: ISO text, "now", or relative like "-30d", "+12h", "+90m", "-5s"'
        raise ScenarioError(f"{place}: expected {wanted}, not {_kind(value)}") from None


def _span(value: Any) -> timedelta | None:
    if value == "now":
        return timedelta()
    found = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    sign, count, unit = found.groups()
    return timedelta(**{_UNITS[unit]: int(sign + count)})


def one_of(enum: str) -> Reader:
    """Make a reader for a documented enumeration, exact in case."""

    def read(value: Any, place: str) -> str:
        options = facts.enum(enum)
        if value not in options:
            raise ScenarioError(f"{place}: expected one of {', '.join(options)}, not {_kind(value)}")
        return str(value)

    return read


def _kind(value: Any) -> str:
    """Show a value briefly, as JSON would write it."""
    if value is None:
        return "null"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."  # noqa: PLR2004 - room for one line of error
