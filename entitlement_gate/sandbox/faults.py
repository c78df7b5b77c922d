"""The faults that are switched on, and what each does to a reply. What a fault may say is in ``scenario``."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from entitlement_gate.resilience.fork_safety import Locked
from entitlement_gate.sandbox.messages import Delivery, Reply, encode_cursor, read_json
from entitlement_gate.sandbox.scenario import Fault

__all__ = ["REPLACING", "Faults", "make_replacement", "spoil"]


class Faults(Locked):
    """The faults switched on, in order; of those that hit a request the first is carried out."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        super().__init__()
        self._faults: list[tuple[Fault, int | None]] = []  # each with the requests it is still to hit
        self.replace(faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter([fault for fault, _ in self._faults])

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, fault: Fault) -> None:
        """Switch one more fault on, behind the others."""
        with self._lock:
            self._faults = [*self._faults, (fault, fault.times)]

    def replace(self, faults: Iterable[Fault]) -> None:
        """Switch on these faults and no others."""
        with self._lock:
            self._faults = [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        """Switch every fault off."""
        self.replace(())

    def take(self, path: str, page: int | None) -> Fault | None:
        """Find the fault that hits a request, and count it."""
        with self._lock:
            for index, (fault, times) in enumerate(self._faults):
                if fault.hits(path, page):
                    rest = [] if times == 1 else [(fault, None if times is None else times - 1)]
                    self._faults = [*self._faults[:index], *rest, *self._faults[index + 1 :]]
                    return fault
        return None


# These answer in the handler's place: the request is not carried out, so no usage event is recorded.
REPLACING = frozenset({"status", "redirect", "html"})
_JSON = {"Content-Type": "application/json"}
_HTML = b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>"
_HEAD, _TAIL = b'{"results":[', b'],"next":null}'
_BLOCK = b" " * 1_048_576


def make_replacement(fault: Fault) -> Reply:
    """Make the reply of a fault that answers in the handler's place."""
    delivery = Delivery(delay=fault.wait)
    if fault.kind == "redirect":
        # A name that never resolves: a client that follows it, with the key, fails at once.
        return Reply(302, {"Location": "https://elsewhere.invalid/"}, delivery=delivery)
    if fault.kind == "html":
        return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, _HTML, delivery)
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body is None:
        return replace(Reply.json({"detail": "Fault"}, fault.status, **headers), delivery=delivery)
    return Reply(fault.status, {"Content-Type": "text/plain", **headers}, fault.body.encode(), delivery)


def spoil(fault: Fault, reply: Reply, scope: str) -> Reply:
    """Damage a reply.

    Args:
        fault: Of a kind that is not in ``REPLACING``.
        reply: What would have been answered without the fault.
        scope: Whose list this is, for a cursor that will be taken back.
    """
    if fault.kind in _DELIVERIES:
        return replace(reply, delivery=_DELIVERIES[fault.kind](fault))
    late = Delivery(delay=fault.wait)
    if fault.kind in _BODIES:
        return replace(_BODIES[fault.kind](fault), delivery=late)
    return replace(_reshape(fault.kind, reply, scope), delivery=late)


_DELIVERIES: Mapping[str, Callable[[Fault], Delivery]] = {
    "delay": lambda fault: Delivery(delay=fault.wait),
    "drip": lambda fault: Delivery(chunk=fault.size, pause=fault.wait),
    "hang": lambda fault: Delivery(delay=fault.wait, drop=True),
    "truncate": lambda fault: Delivery(delay=fault.wait, truncate=True),
    "reset": lambda fault: Delivery(delay=fault.wait, reset=True),
}


def _make_deep(fault: Fault) -> Reply:
    depth = max(1, fault.size // 2)
    return Reply(200, _JSON, b'{"results":' + b"[" * depth + b"]" * depth + b"}")


def _make_big(fault: Fault) -> Reply:
    blanks = max(0, fault.size - len(_HEAD) - len(_TAIL))
    return Reply(200, _JSON, _HEAD + b" " * blanks + _TAIL)


@lru_cache(maxsize=4)
def _make_bomb(size: int) -> bytes:
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
    return header + _compress_flushed(_HEAD) + _compress_flushed(_BLOCK) * blocks + _compress_last(end) + trailer


def _compress_flushed(block: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)


def _compress_last(end: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(end) + packer.flush(zlib.Z_FINISH)


def _reshape(kind: str, reply: Reply, scope: str) -> Reply:
    """Change the shape of a page; any other reply stays as it is."""
    page: Any = read_json(reply.body)
    if not isinstance(page, Mapping) or "results" not in page:
        return reply
    if kind == "wrong_shape":
        return Reply.json({"data": page["results"]})
    if kind == "cursor_loop":
        return Reply.json({**page, "next": encode_cursor(scope, 0, 1)})
    return reply


_BODIES: Mapping[str, Callable[[Fault], Reply]] = {
    "garbage": lambda _: Reply(200, _JSON, b"\x00\xff{not json"),
    "null": lambda _: Reply.json(None),
    "empty": lambda _: Reply(204),
    "deep": _make_deep,
    "big": _make_big,
    "gzip_bomb": lambda fault: Reply(200, {**_JSON, "Content-Encoding": "gzip"}, _make_bomb(fault.size)),
}
