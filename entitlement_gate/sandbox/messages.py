"""HTTP as the sandbox speaks it: requests, replies and how they travel, JSON with exact numbers, pages of a list.

No I/O is done here, and no reply is chosen here.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from hashlib import blake2s
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, unquote_plus

from entitlement_gate.sandbox import facts

__all__ = [
    "Delivery",
    "RefusedRequest",
    "Reply",
    "Request",
    "cut_page",
    "encode_cursor",
    "invalid",
    "page_number",
    "read_choice",
    "read_json",
    "read_limit",
    "read_parameters",
    "write_json",
]

_PIECE = 65_536


@dataclass(frozen=True)
class Request:
    """One HTTP request: the target is the path and query as they stand in the request line."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query, as it was sent."""
        return self.target.partition("?")[0]

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path, unquoted one by one, so that a quoted slash splits nothing."""
        return tuple(unquote(part) for part in self.path.removeprefix("/").split("/"))

    def header(self, name: str) -> str | None:
        """Find a header, whatever the case of its name."""
        name = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == name), None)

    def query(self) -> list[tuple[str, str]]:
        """Read the query's pairs in order, blank values kept.

        Raises:
            RefusedRequest: The query is no UTF-8, or has more than 100 pairs.
        """
        text = self.target.partition("?")[2]
        try:
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError:
            raise invalid(["query"], "query could not be read", "value_error") from None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a carrier sends a reply: the default is at once, whole, and with a clean end.

    Attributes:
        delay: Seconds before the first byte.
        chunk: Bytes of body a piece; ``None`` sends large pieces without a pause.
        pause: Seconds before each piece of the body.
        truncate: Promise the whole body, send the first half, close.
        drop: Close without an answer once the delay has passed.
        reset: Reset the connection once the delay has passed.
    """

    delay: float = 0.0
    chunk: int | None = None
    pause: float = 0.0
    truncate: bool = False
    drop: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; the server or transport adds ``Content-Length`` from ``length``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delivery: Delivery = field(default_factory=Delivery)

    @classmethod
    def json(cls, payload: Any, status: int = 200, **headers: str) -> "Reply":
        """Make a JSON reply with exact numbers."""
        return cls(status, {"Content-Type": "application/json", **headers}, write_json(payload).encode())

    @property
    def length(self) -> int | None:
        """What ``Content-Length`` promises: the whole body, or nothing where HTTP forbids a body."""
        return None if self.status in {204, 304} else len(self.body)

    def pieces(self) -> Iterator[bytes]:
        """Give the body as it reaches the client, piece by piece: half of it when truncated."""
        end = len(self.body) // 2 if self.delivery.truncate else len(self.body)
        size = self.delivery.chunk or _PIECE
        for start in range(0, end, size):
            yield self.body[start : min(start + size, end)]


class RefusedRequest(Exception):
    """Raised anywhere under the core: the request is answered with ``reply``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def invalid(loc: list[str | int], msg: str, kind: str) -> RefusedRequest:
    """Make the documented 422: where, what, and which kind of error."""
    return RefusedRequest(Reply.json({"detail": [{"loc": loc, "msg": msg, "type": kind}]}, status=422))


def read_json(text: str | bytes) -> Any:
    """Read JSON with exact numbers.

    Raises:
        ValueError: The text is no JSON, is nested too deep to read, or holds NaN or an infinity.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def write_json(value: Any) -> str:
    """Write JSON with exact numbers.

    >>> write_json({"quantity": Decimal("9007199254740993.5")})
    '{"quantity":9007199254740993.5}'
    """
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{write_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write_json, value)) + "]"
    return json.dumps(value)


_CURSOR = re.compile(rb"([0-9]{1,9})\.([0-9]{1,9})\.[0-9a-f]{12}")
_INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def read_parameters(request: Request, names: Iterable[str]) -> dict[str, str]:
    """Read the named query parameters; the others are ignored, as the real endpoint does.

    Raises:
        RefusedRequest: One of them is repeated, which says two things at once.
    """
    names, parameters = frozenset(names), dict[str, str]()
    for name, value in request.query():
        if name in parameters:
            raise invalid(["query", name], "value is given more than once", "value_error.repeated")
        if name in names:
            parameters[name] = value
    return parameters


def read_choice(parameters: Mapping[str, str], name: str, options: Iterable[str], default: str) -> str:
    """Read a parameter that has few values, or refuse it with the documented 422."""
    value = parameters.get(name, default)
    if name in parameters and value not in options:
        raise invalid(["query", name], "value is not a permitted value", "type_error.enum")
    return value


def read_limit(parameters: Mapping[str, str]) -> int:
    """Read ``limit``, or refuse it with the documented 422."""
    least, default, most = facts.LIMIT
    text = parameters.get("limit", str(default))
    if not _INTEGER.fullmatch(text):
        raise invalid(["query", "limit"], "value is not a valid integer", "type_error.integer")
    if not least <= int(text) <= most:
        raise invalid(["query", "limit"], f"value is not from {least} to {most}", "value_error.number.range")
    return int(text)


def encode_cursor(scope: str, offset: int, page: int) -> str:
    """Make the cursor of a place in one list; in another list it is refused.

    Standard base64, so that a client which forgets to quote it is found out by its ``+`` and ``=``.
    """
    place = f"{offset}.{page}"
    digest = blake2s(f"{scope}:{place}".encode(), digest_size=6).hexdigest()
    return b64encode(f"{place}.{digest}".encode()).decode("ascii")


def _read_cursor(cursor: str) -> tuple[int, int] | None:
    try:
        match = _CURSOR.fullmatch(b64decode(cursor, validate=True))
    except ValueError:
        return None
    return (int(match[1]), int(match[2])) if match else None


def page_number(request: Request) -> int:
    """Say which page a request is for, by its cursor; 1 where it has none that can be read."""
    pairs = (pair.partition("=") for pair in request.target.partition("?")[2].split("&"))
    cursor = next((unquote_plus(value) for name, _, value in pairs if name == "cursor"), "")
    return (_read_cursor(cursor) or (0, 1))[1]


def cut_page(
    rows: Sequence[Any], parameters: Mapping[str, str], scope: str, render: Callable[[Any], Any]
) -> dict[str, Any]:
    """Cut the page that ``cursor`` and ``limit`` ask for and put it into the envelope.

    Raises:
        RefusedRequest: The limit cannot be, or the cursor is not one this list gave out.
    """
    limit = read_limit(parameters)
    offset, page = 0, 1
    if cursor := parameters.get("cursor"):
        place = _read_cursor(cursor)
        if place is None or encode_cursor(scope, *place) != cursor:
            raise invalid(["query", "cursor"], "cursor is not known", "value_error.cursor")
        offset, page = place
    end = offset + limit
    return {
        "next": encode_cursor(scope, end, page + 1) if end < len(rows) else None,
        "previous": encode_cursor(scope, max(0, offset - limit), page - 1) if offset else None,
        "total_count": len(rows),
        "results": [render(row) for row in rows[offset:end]],
    }
