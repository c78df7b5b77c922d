"""Faults: what shall go wrong, how often, on which path and page, and what each makes of an honest reply."""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from entitlement_gate.resilience.fork_safety import Locked
from entitlement_gate.sandbox import exact, paging
from entitlement_gate.sandbox.messages import Delivery, Reply
from entitlement_gate.sandbox.reading import ScenarioError, integer, listed, mapping

__all__ = ["KINDS", "REPLACING", "Fault", "Faults", "parse_faults", "replacement", "spoil"]


KINDS: Mapping[str, str] = {
    "status": "answer with `status`, with `body` and `retry_after` when given",
    "delay": "answer `seconds` late",
    "drip": "send the body `bytes` at a time, `seconds` apart",
    "hang": "never answer; close after `seconds` at most",
    "truncate": "promise the whole body, send half, close",
    "reset": "reset the connection",
    "garbage": "200 with bytes that are no JSON",
    "html": "200 with a page of HTML",
    "null": "200 with the JSON null",
    "redirect": "302 to another host",
    "empty": "204 with no body",
    "wrong_shape": "200 with the rows under `data`",
    "gzip_bomb": "200 with a small gzip body that unpacks to `bytes`",
    "big": "200 with a body of `bytes`",
    "deep": "200 with JSON nested `bytes` / 2 deep",
    "cursor_loop": "the same `next` for ever",
    "foreign": "the rows of another customer",
}
_SECONDS = {"delay": 1.0, "drip": 0.05, "hang": 60.0}
_BYTES = {"drip": 16, "gzip_bomb": 200_000_000, "big": 8 << 20, "deep": 200_000}
_FIELDS = ("kind", "status", "times", "path", "page", "retry_after", "seconds", "bytes", "body")
_LONGEST = 3600
_LARGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to go wrong; see ``KINDS`` for what each kind does.

    Attributes:
        kind: One of ``KINDS``.
        status: What ``status`` answers with.
        times: Requests it hits before it is over; ``None`` for no end.
        path: Hits only paths that begin so.
        page: Hits only this page of a list, counted from 1.
        retry_after: The ``Retry-After`` header of ``status``.
        seconds: A delay, the pause of ``drip``, the end of ``hang``; any other kind answers that late.
        bytes: A size; ``None`` for the kind's own.
        body: The text that ``status`` sends.

    Raises:
        ScenarioError: A value cannot be; the text begins with its name.
    """

    kind: str
    _: KW_ONLY
    status: int = 503
    times: int | None = None
    path: str | None = None
    page: int | None = None
    retry_after: int | str | None = None
    seconds: float | None = None
    bytes: int | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ScenarioError(f"kind: expected one of {', '.join(KINDS)}, not {self.kind!r}")
        integer(self.status, "status", 200, 599)
        for name in ("times", "page", "bytes"):
            if getattr(self, name) is not None:
                integer(getattr(self, name), name, 1, _LARGEST)
        if self.seconds is not None:
            object.__setattr__(self, "seconds", _seconds(self.seconds))
        for name in ("path", "body"):
            if not isinstance(getattr(self, name), str | None):
                raise ScenarioError(f"{name}: expected a text, not {getattr(self, name)!r}")
        _check_retry_after(self.retry_after)

    @classmethod
    def parse(cls, value: Any, place: str) -> "Fault":
        """Read a fault from a mapping, or raise ``ScenarioError`` naming the place."""
        given = mapping(value, place, _FIELDS)
        if "kind" not in given:
            raise ScenarioError(f"{place}: 'kind' is missing")
        try:
            return cls(**given)
        except ScenarioError as error:
            raise ScenarioError(f"{place}.{error}") from None

    @property
    def wait(self) -> float:
        """Seconds: what was asked, or the kind's own."""
        return _SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    @property
    def size(self) -> int:
        """Bytes: what was asked, or the kind's own."""
        return self.bytes or _BYTES.get(self.kind, 1)

    def hits(self, path: str, page: int | None) -> bool:
        """Whether a request for this path and page is hit."""
        return path.startswith(self.path or "/") and self.page in {None, page}

    def as_dict(self) -> dict[str, Any]:
        """Give what was set, in the form ``parse`` reads."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return given if self.kind == "status" else {name: given[name] for name in given if name != "status"}


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ScenarioError(f"seconds: expected a number, not {value!r}")
    if not (math.isfinite(value) and 0 <= value <= _LONGEST):
        raise ScenarioError(f"seconds: expected 0 to {_LONGEST}, not {value}")
    return float(value)


def _check_retry_after(value: Any) -> None:
    """Refuse what cannot be a header value: it would split the head of the reply."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ScenarioError(f"retry_after: expected seconds or a printable text, not {value!r}")


class Faults(Locked):
    """The faults switched on, in order; of those that hit a request the first is carried out."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        super().__init__()
        self._left: list[tuple[Fault, int | None]] = []
        self.replace(faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter([fault for fault, _ in self._left])

    def __len__(self) -> int:
        return len(self._left)

    def add(self, fault: Fault) -> None:
        """Switch one more fault on, behind the others."""
        with self._lock:
            self._left = [*self._left, (fault, fault.times)]

    def replace(self, faults: Iterable[Fault]) -> None:
        """Switch on these faults and no others."""
        with self._lock:
            self._left = [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        """Switch every fault off."""
        self.replace(())

    def take(self, path: str, page: int | None) -> Fault | None:
        """Find the fault that hits a request, and count it."""
        with self._lock:
            for index, (fault, left) in enumerate(self._left):
                if fault.hits(path, page):
                    rest = [] if left == 1 else [(fault, None if left is None else left - 1)]
                    self._left = [*self._left[:index], *rest, *self._left[index + 1 :]]
                    return fault
        return None


def parse_faults(value: Any) -> list[Fault]:
    """Read a list of faults, or raise ``ScenarioError`` naming the place."""
    return [Fault.parse(item, place) for place, item in listed(value, "faults")]


# These answer in the handler's place: the request is not carried out, so no usage event is recorded.
REPLACING = frozenset({"status", "redirect", "html"})
_JSON = {"Content-Type": "application/json"}
_HTML = b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>"
_HEAD, _TAIL = b'{"results":[', b'],"next":null}'
_BLOCK = b" " * 1_048_576


def replacement(fault: Fault) -> Reply:
    """Make the reply of a fault that answers in the handler's place."""
    delivery = Delivery(delay=fault.wait)
    if fault.kind == "redirect":
        # A name that resolves nowhere: whoever follows it with the key in hand finds out at once.
        return Reply(302, {"Location": "https://elsewhere.invalid/"}, delivery=delivery)
    if fault.kind == "html":
        return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, _HTML, delivery)
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body is None:
        return replace(Reply.json({"detail": "Fault"}, fault.status, **headers), delivery=delivery)
    return Reply(fault.status, {"Content-Type": "text/plain", **headers}, fault.body.encode(), delivery)


def spoil(fault: Fault, honest: Reply, scope: str) -> Reply:
    """Damage an honest reply.

    Args:
        fault: Of a kind that is not in ``REPLACING``.
        honest: What would have been answered.
        scope: Whose list this is, for a cursor that will be taken back.
    """
    if fault.kind in _DELIVERIES:
        return replace(honest, delivery=_DELIVERIES[fault.kind](fault))
    late = Delivery(delay=fault.wait)
    if fault.kind in _BODIES:
        return replace(_BODIES[fault.kind](fault), delivery=late)
    return replace(_reshaped(fault.kind, honest, scope), delivery=late)


_DELIVERIES: Mapping[str, Callable[[Fault], Delivery]] = {
    "delay": lambda fault: Delivery(delay=fault.wait),
    "drip": lambda fault: Delivery(chunk=fault.size, pause=fault.wait),
    "hang": lambda fault: Delivery(delay=fault.wait, drop=True),
    "truncate": lambda fault: Delivery(delay=fault.wait, truncate=True),
    "reset": lambda fault: Delivery(delay=fault.wait, reset=True),
}


def _deep(fault: Fault) -> Reply:
    depth = max(1, fault.size // 2)
    return Reply(200, _JSON, b'{"results":' + b"[" * depth + b"]" * depth + b"}")


def _big(fault: Fault) -> Reply:
    blanks = max(0, fault.size - len(_HEAD) - len(_TAIL))
    return Reply(200, _JSON, _HEAD + b" " * blanks + _TAIL)


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    """Make gzip that unpacks to ``size`` bytes of valid JSON, about a thousandth of that on the wire.

    A block of blanks is compressed once and repeated: flushed in full, it refers to nothing before it.
    """
    blocks, rest = divmod(max(0, size - len(_HEAD) - len(_TAIL)), len(_BLOCK))
    checksum = zlib.crc32(_HEAD)
    for _ in range(blocks):
        checksum = zlib.crc32(_BLOCK, checksum)
    end = b" " * rest + _TAIL
    checksum = zlib.crc32(end, checksum)
    length = len(_HEAD) + blocks * len(_BLOCK) + len(end)
    header = bytes.fromhex("1f8b08000000000000ff")
    trailer = checksum.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")
    return header + _flushed(_HEAD) + _flushed(_BLOCK) * blocks + _deflated(end) + trailer


def _flushed(block: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)


def _deflated(end: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(end) + packer.flush(zlib.Z_FINISH)


def _reshaped(kind: str, honest: Reply, scope: str) -> Reply:
    """Change the shape of a page; what is no page passes unharmed."""
    page: Any = exact.loads(honest.body)
    if not isinstance(page, Mapping) or "results" not in page:
        return honest
    if kind == "wrong_shape":
        return Reply.json({"data": page["results"]})
    if kind == "cursor_loop":
        return Reply.json({**page, "next": paging.encode(scope, 0, 1)})
    return honest


_BODIES: Mapping[str, Callable[[Fault], Reply]] = {
    "garbage": lambda _: Reply(200, _JSON, b"\x00\xff{not json"),
    "null": lambda _: Reply.json(None),
    "empty": lambda _: Reply(204),
    "deep": _deep,
    "big": _big,
    "gzip_bomb": lambda fault: Reply(200, {**_JSON, "Content-Encoding": "gzip"}, _bomb(fault.size)),
}
