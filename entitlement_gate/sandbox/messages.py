"""What goes in and comes out of the sandbox: a request, a reply, and how the reply travels.

Never here: sockets, sleeping, or a decision about which reply a request deserves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

from entitlement_gate.sandbox import exact

__all__ = ["Delivery", "Refusal", "Reply", "Request", "invalid"]

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
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), None)

    def query(self) -> list[tuple[str, str]]:
        """Read the query's pairs in order, blank values kept.

        Raises:
            Refusal: The query is no UTF-8, or has more pairs than anyone means.
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
    """One HTTP reply; whoever carries it adds ``Content-Length`` from ``length``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delivery: Delivery = field(default_factory=Delivery)

    @classmethod
    def json(cls, payload: Any, status: int = 200, **headers: str) -> "Reply":
        """Make a JSON reply with exact numbers."""
        return cls(status, {"Content-Type": "application/json", **headers}, exact.dumps(payload).encode())

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


class Refusal(Exception):
    """Raised anywhere under the core: the request is answered with ``reply``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def invalid(loc: list[str | int], msg: str, kind: str) -> Refusal:
    """Make the documented 422: where, what, and which kind of error."""
    return Refusal(Reply.json({"detail": [{"loc": loc, "msg": msg, "type": kind}]}, status=422))
