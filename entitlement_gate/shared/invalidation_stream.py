"""Hears of invalidations in other processes, on a thread that reads the news as they come.

A reader remembers its position in the stream. After a lost connection, or a fork, it reads on from there and misses
nothing; where the stream no longer reaches back so far (Redis began anew), all that is held counts as overtaken.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from entitlement_gate.resilience.fork_safety import Lock, PerProcess, members
from entitlement_gate.resilience.redis_connection import close_idle_connections
from entitlement_gate.resilience.worker_pool import start_thread
from entitlement_gate.shared.store import EVERYBODY, is_cut, last_news, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    import redis

    from entitlement_gate.shared.store import SharedStore

__all__ = ["InvalidationListener", "InvalidationReader"]

_BLOCK = 0.5  # seconds that one read waits for news: also how long the thread outlives ``close``
_GRACE = 0.25  # seconds that the answer may take on top
_PAUSE = 1.0  # seconds until a server that failed is asked again
_AT_A_TIME = 1_000


class InvalidationListener(Protocol):
    """What is told that data no longer counts."""

    def overtaken(self, customer_id: str | None, generation: str | None) -> None:
        """Invalidate what was fetched for a customer in another generation than this; None stands for all."""


class InvalidationReader:
    """Reads the news from its start on.

    Args:
        store: where they are.
        scopes: those that matter here.
        between: called between two reads, where the server answers: the time to make up for what failed.
        everybody: called where any customer may have been invalidated, whatever is shared of them.

    Attributes:
        sender: the name of this process in the news; its own are passed over.
    """

    sender: PerProcess[str] = PerProcess()
    _lock: PerProcess[Lock] = PerProcess()
    _closing: PerProcess[threading.Event] = PerProcess()
    _thread: PerProcess[threading.Thread | None] = PerProcess()

    def __init__(
        self, store: SharedStore, scopes: Container[str], between: Callable[[], None], everybody: Callable[[], None]
    ) -> None:
        self.sender = ""
        self._store = store
        self._scopes = scopes
        self._between = between
        self._everybody = everybody
        self._listeners: weakref.WeakSet[InvalidationListener] = weakref.WeakSet()
        self._position: str | None = None

    def remake(self, sender: str) -> None:
        """Start again without a thread, as after a fork; the position stays."""
        self.sender = sender
        self._lock = Lock()
        self._closing = threading.Event()
        self._thread = None

    def tell(self, listener: InvalidationListener) -> None:
        """Tell this one from now on, for as long as it lives."""
        self._listeners.add(listener)

    def start(self) -> bool:
        """Begin to listen, if that was not done; return whether nothing is missed from now on."""
        if self._is_listening():
            return True
        with self._lock:
            if self._position is None:
                position = self._store.position()
                if position is None:
                    return False
                self._say(None, None)  # listeners may hold data that was invalidated before
                self._position = position  # not before all were told
            if not self._is_listening():  # several may have waited for the lock
                self._begin()
            return True

    def is_read_by(self, thread: threading.Thread) -> bool:
        """Whether this is the thread that listens: one that was late to begin may have been replaced."""
        return self._thread is thread

    def close(self) -> None:
        """Let the thread end, within a second; waits for nothing."""
        self._closing.set()

    def _is_listening(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _begin(self) -> None:
        client = self._store.connected(_BLOCK + _GRACE)
        args = (weakref.ref(self), client, self._closing)
        thread = threading.Thread(target=_listen, args=args, name="entitlement_gate-listening", daemon=True)
        self._thread = thread  # before it runs: what strikes as it starts leaves no second one
        with suppress(RuntimeError):  # no more threads, or the interpreter is about to exit: data ages all the same
            start_thread(thread)

    def catch_up(self, client: redis.Redis) -> None:
        """See whether the stream is still the one that was read; a connection may have been made anew unnoticed."""
        position = self._position  # before the server is asked: what was read meanwhile is later than its answer
        last = last_news(client, self._store.news_key)
        here, there = parts_of(position or last), parts_of(last)
        if there < here:
            self._position = last
            self._say(None, None)
        elif there > here and is_cut(client, self._store.news_key, position or last):
            self._position = last
            self._say_everybody()

    def where(self) -> dict[Any, Any]:
        """Do what is to be done between two reads; return the stream and the position to read from."""
        self._between()
        return {self._store.news_key: self._position}

    def take(self, news: Any) -> None:
        """Tell the listeners what is new."""
        for position, entry in _entries(news):
            fields = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in entry.items()}
            if fields.get("scope") in self._scopes and fields.get("sender") != self.sender:
                if fields.get("customer") == EVERYBODY:
                    self._say_everybody()
                else:
                    self._say(fields.get("customer", ""), fields.get("generation"))
            self._position = position.decode()

    def _say_everybody(self) -> None:
        self._everybody()
        self._say(None, None)

    def _say(self, customer_id: str | None, generation: str | None) -> None:
        for listener in members(self._listeners):
            listener.overtaken(customer_id, generation)


def _listen(get_reader: Callable[[], InvalidationReader | None], client: redis.Redis, closing: threading.Event) -> None:
    """Read until told to end, or until nobody is there to be told, or another thread does."""
    this = threading.current_thread()
    while not closing.is_set() and (reader := get_reader()) is not None and reader.is_read_by(this):
        try:
            reader.catch_up(client)
            streams = reader.where()
            reader = None  # while it waits, the thread keeps nothing alive
            news: Any = client.xread(streams, count=_AT_A_TIME, block=round(_BLOCK * 1_000))
        except Exception:  # noqa: BLE001 - whatever it is, it is tried again; checks note the failure themselves
            news = reader = None
            close_idle_connections(client)  # it may be another server by now
            closing.wait(_PAUSE)
        if news and (reader := get_reader()) is not None:
            reader.take(news)
    client.close()


def _entries(news: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yield the entries of one stream: redis-py gives them one list deeper where it speaks RESP3."""
    for entries in news.values() if isinstance(news, dict) else [entries for _, entries in news]:
        for entry in entries:
            yield from entry if isinstance(entry, list) else (entry,)
