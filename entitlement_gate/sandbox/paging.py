"""Pages of a list: query parameters read strictly, opaque cursors, the page's envelope.

Never here: what the rows are.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2s
from typing import Any
from urllib.parse import unquote_plus

from entitlement_gate.sandbox import facts
from entitlement_gate.sandbox.messages import Request, invalid

__all__ = ["encode", "limit_of", "one_of", "page_number", "parameters", "sliced"]

_CURSOR = re.compile(rb"([0-9]{1,9})\.([0-9]{1,9})\.[0-9a-f]{12}")
_INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def parameters(request: Request, names: Iterable[str]) -> dict[str, str]:
    """Read the named query parameters; the others are ignored, as the real endpoint does.

    Raises:
        Refusal: One of them is repeated, which says two things at once.
    """
    wanted, found = frozenset(names), dict[str, str]()
    for name, value in request.query():
        if name in found:
            raise invalid(["query", name], "value is given more than once", "value_error.repeated")
        if name in wanted:
            found[name] = value
    return found


def one_of(given: Mapping[str, str], name: str, options: Iterable[str], default: str) -> str:
    """Read a parameter that has few values, or refuse it with the documented 422."""
    value = given.get(name, default)
    if name in given and value not in options:
        raise invalid(["query", name], "value is not a permitted value", "type_error.enum")
    return value


def limit_of(given: Mapping[str, str]) -> int:
    """Read ``limit``, or refuse it with the documented 422."""
    least, default, most = facts.LIMIT
    text = given.get("limit", str(default))
    if not _INTEGER.fullmatch(text):
        raise invalid(["query", "limit"], "value is not a valid integer", "type_error.integer")
    if not least <= int(text) <= most:
        raise invalid(["query", "limit"], f"value is not from {least} to {most}", "value_error.number.range")
    return int(text)


def encode(scope: str, offset: int, page: int) -> str:
    """Make the cursor of a place in one list; in another list it is refused.

    Standard base64, so that a client which forgets to quote it is found out by its ``+`` and ``=``.
    """
    place = f"{offset}.{page}"
    seal = blake2s(f"{scope}:{place}".encode(), digest_size=6).hexdigest()
    return b64encode(f"{place}.{seal}".encode()).decode("ascii")


def _place(cursor: str) -> tuple[int, int] | None:
    try:
        found = _CURSOR.fullmatch(b64decode(cursor, validate=True))
    except ValueError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def page_number(request: Request) -> int:
    """Say which page a request is for, by its cursor; 1 where it has none that can be read."""
    cursor = next((value for name, value in _leniently(request) if name == "cursor"), "")
    return (_place(cursor) or (0, 1))[1]


def _leniently(request: Request) -> list[tuple[str, str]]:
    pairs = request.target.partition("?")[2].split("&")
    return [(name, unquote_plus(value)) for name, _, value in (pair.partition("=") for pair in pairs)]


def sliced(rows: Sequence[Any], given: Mapping[str, str], scope: str, render: Callable[[Any], Any]) -> dict[str, Any]:
    """Cut the page that ``cursor`` and ``limit`` ask for and put it into the envelope.

    Raises:
        Refusal: The limit cannot be, or the cursor is not one this list gave out.
    """
    limit = limit_of(given)
    offset, page = 0, 1
    if given.get("cursor"):
        place = _place(given["cursor"])
        if place is None or encode(scope, *place) != given["cursor"]:
            raise invalid(["query", "cursor"], "cursor is not known", "value_error.cursor")
        offset, page = place
    end = offset + limit
    return {
        "next": encode(scope, end, page + 1) if end < len(rows) else None,
        "previous": encode(scope, max(0, offset - limit), page - 1) if offset else None,
        "total_count": len(rows),
        "results": [render(row) for row in rows[offset:end]],
    }
