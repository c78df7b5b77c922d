"""Faults as data: what shall go wrong, how often, on which path and page.

Never here: carrying a fault out. ``spoil`` makes the broken reply, the carriers do the rest.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from decimal import Decimal
from threading import Lock
from typing import Any

from entitlement_gate.sandbox.reading import ScenarioError, integer, listed, mapping

__all__ = ["KINDS", "Fault", "Faults", "parse_faults"]

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


class Faults:
    """The faults switched on, in order; of those that hit a request the first is carried out."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = Lock()
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
