"""Snapshots shared between processes: each is found, waited for, or left to the caller to fetch.

The theory of operation. For each customer Redis holds a *generation* (a random word, new at each invalidation), at most
one *record* (a signed snapshot, stamped with its generation and with the instant at which its fetch began) and at most
one *lease*. Whoever looks is in one of three states:

- *found*: there is a record of the current generation that is young enough, or whose fetch began since the first look;
- *waiting*: another process has the lease; looks again until its record is there or the lease runs out;
- *to fetch*: took the lease, or has waited long enough, or Redis cannot be asked. Then ``keep`` or ``give_up`` follows.

Every step in Redis is one script. Here ``_lock`` guards the invalidations that others were not told of yet, and
``_tell_lock`` is held while Redis is told of them; nobody fetches, or waits for a record, with either.

Between a look and ``keep`` the lease may run out, so that another fetches too: what was begun later stays. The customer
may be invalidated: what was fetched serves those who wait for it, and is not kept. Redis may fail, come back empty, or
be another server: then each process does what it would do without. While others could not be told of an invalidation,
nothing shared of that customer counts here.

What never may happen: a record that none of us signed, or of another customer, is believed; a fetch that began before
an invalidation counts after it; a record passes for younger than it is; a check fails, or waits beyond its deadline,
because of Redis.
"""

from __future__ import annotations

import math
import threading
import uuid
from typing import TYPE_CHECKING

from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.fork_safety import Lock, PerProcess
from entitlement_gate.shared.invalidation_stream import InvalidationReader
from entitlement_gate.shared.records import DatedSnapshot, FetchTask, SharedRecord, Unreadable, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.resilience.failure_log import FailureLog
    from entitlement_gate.shared.invalidation_stream import InvalidationListener
    from entitlement_gate.shared.records import Need, Seal, Sealing
    from entitlement_gate.shared.store import SharedStore, StoreReply

__all__ = ["SharedSnapshots"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05  # seconds between two looks for the record of whoever fetches
_MOST_PENDING = 10_000


class SharedSnapshots:
    """What the processes of one fleet fetched, for any of them. Thread-safe; blocks; never raises.

    Args:
        source: knows the seal.
        store: where records are kept.
        clock: has ``time()`` and ``monotonic()``.
        lease: seconds after which somebody else may fetch in place of one who has not come back.
    """

    _lock: PerProcess[Lock] = PerProcess()
    _tell_lock: PerProcess[Lock] = PerProcess()
    _closing: PerProcess[threading.Event] = PerProcess()

    def __init__(self, source: Sealing, store: SharedStore, *, clock: Clock, lease: float) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._lease = lease
        self._scopes: set[str] = set()
        self._pending: dict[str, str] = {}  # customer → the generation that begins
        self._is_everybody_pending = False
        self._counts_from = -math.inf  # by the monotonic clock: nothing counts that was fetched before
        self._is_closed = False
        self._reader = InvalidationReader(store, self._scopes, self._tell_all, self._overtake_all)
        self.remake()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self._store!r}>"

    def remake(self) -> None:
        """Make locks, connections and threads anew, as after a fork."""
        self._lock = Lock()
        self._tell_lock = Lock()  # held while Redis is told, so that nobody tells the same twice
        self._closing = threading.Event()
        self._store.remake()
        self._reader.remake(uuid.uuid4().hex)

    def tell(self, listener: InvalidationListener) -> None:
        """Tell this one of invalidations elsewhere."""
        self._reader.tell(listener)

    @property
    def state(self) -> str:
        """``closed``, as a breaker has it, where all is well; ``open`` or ``half_open`` where Redis failed."""
        return self._store.state

    @property
    def is_at_hand(self) -> bool:
        """Whether the store can be asked now."""
        return not self._is_closed and self._store.state != "open"

    def look(self, customer_id: str, need: Need) -> DatedSnapshot | FetchTask:
        """Return a snapshot that will do, at once or from whoever fetches it now, or the task to fetch it."""
        seal = self._ready(customer_id)
        if seal is None:
            return FetchTask()
        look = _Look(seal, customer_id, need, clock=self._clock, log=self._store.log, since=lambda: self._counts_from)
        began, pause, token = self._clock.monotonic(), _FIRST_PAUSE, uuid.uuid4().hex
        while True:
            reply = self._store.look(seal.scope, customer_id, token, self._lease, always=look.count > 0)
            if reply is None:
                return FetchTask(older=look.latest)
            match = look.find(reply)
            if match is not None:
                if reply.has_lease:
                    self._store.keep(seal.scope, customer_id, token, reply.stamp)
                return match
            is_over = self._is_closed or elapsed(began, self._clock.monotonic()) >= need.patience
            if reply.has_lease or is_over:
                return FetchTask(seal, token if reply.has_lease else "", reply.stamp, look.latest)
            if look.count > 1:  # the first look only read: the second takes the lease at once
                self._closing.wait(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def keep(self, customer_id: str, task: FetchTask, snapshot: Snapshot, at: float) -> bool:
        """Share what was fetched for a task; return False where an invalidation overtook it."""
        if task.seal is None or task.stamp is None or not self._tell_pending(customer_id):
            return True
        record = write(SharedRecord(snapshot, at, task.stamp), task.seal)
        return self._store.keep(task.seal.scope, customer_id, task.token, task.stamp, record=record)

    def give_up(self, customer_id: str, task: FetchTask) -> None:
        """Give the lease back: nothing was fetched."""
        if task.seal is not None and task.stamp is not None and task.token:
            self._store.keep(task.seal.scope, customer_id, task.token, task.stamp)

    def mark(self, customer_id: str) -> None:
        """Ignore what is shared of the customer until all are told, by ``tell_of`` or a later look."""
        with self._lock:
            self._pending[customer_id] = uuid.uuid4().hex
            if len(self._pending) > _MOST_PENDING:  # the oldest is forgotten, and stands from now on for everybody
                del self._pending[next(iter(self._pending))]
                self._is_everybody_pending = True
                self._overtake_all()

    def tell_of(self, customer_id: str) -> None:
        """Tell all processes that the customer was invalidated; where that fails, again later."""
        self._tell_pending(customer_id)

    def close(self) -> None:
        """End the thread and close the connections; waits for nothing."""
        self._is_closed = True
        self._closing.set()
        self._reader.close()
        self._store.close()

    def _ready(self, customer_id: str) -> Seal | None:
        """Return the seal where the store can be used for this customer now."""
        if not self.is_at_hand or not self._reader.start() or not self._tell_pending(customer_id):
            return None
        seal = self._seal()
        if seal is not None:
            self._scopes.add(seal.scope)
        return seal

    def _seal(self) -> Seal | None:
        try:
            return self._source.seal()
        except Exception as error:  # noqa: BLE001 - a source is anybody's code; without a seal nothing is shared
            self._store.log_failure(error)
            return None

    def _tell_pending(self, customer_id: str) -> bool:
        """Return whether all were told of the customer's invalidations here, after telling them if they were not."""
        if customer_id not in self._pending:
            return True
        seal = self._seal()
        with self._tell_lock:
            generation = self._pending.get(customer_id)
            return generation is None or (seal is not None and self._tell(seal, customer_id, generation))

    def _tell(self, seal: Seal, customer_id: str, generation: str) -> bool:
        is_told = self._store.invalidate(seal.scope, customer_id, generation, self._reader.sender)
        with self._lock:
            if is_told and self._pending.get(customer_id) == generation:  # else it was invalidated once more
                del self._pending[customer_id]
        return is_told

    def _overtake_all(self) -> None:
        """Ignore all that was fetched until now, of any customer."""
        self._counts_from = self._clock.monotonic()

    def _tell_all(self) -> None:
        if self._is_everybody_pending and not self._tell_everybody():
            return
        for customer_id in tuple(self._pending):
            if not self._tell_pending(customer_id):
                return

    def _tell_everybody(self) -> bool:
        seal = self._seal()
        self._is_everybody_pending = False  # before: another may be forgotten while all are told
        is_told = seal is not None and self._store.tell_everybody({*self._scopes, seal.scope}, self._reader.sender)
        self._is_everybody_pending = self._is_everybody_pending or not is_told
        return is_told


class _Look:
    """One caller's looks at one customer.

    Attributes:
        latest: the latest record that could be read and counts.
        count: of looks.
    """

    def __init__(
        self, seal: Seal, customer_id: str, need: Need, *, clock: Clock, log: FailureLog, since: Callable[[], float]
    ) -> None:
        self.seal = seal
        self.customer_id = customer_id
        self.latest: DatedSnapshot | None = None
        self.count = 0
        self._need = need
        self._clock = clock
        self._log = log
        self._counts_from = since
        self._since = 0
        self._text = b""
        self._record: SharedRecord | None = None

    def find(self, reply: StoreReply) -> DatedSnapshot | None:
        """Read what is there; return it where it does in place of a fetch."""
        self.count += 1
        if self.count == 1:
            self._since = reply.stamp.begun
        if reply.record != self._text:  # a waiter sees the same record many times
            self._text, self._record = reply.record, self._read(reply.record)
        self.latest = latest = self._date_record(reply)
        if latest is None:
            return None
        is_young = latest.age < self._need.max_age and latest.stamp != self._need.unlike
        return latest if is_young or latest.is_new else None

    def _read(self, text: bytes) -> SharedRecord | None:
        try:
            return read(text, self.seal, self.customer_id) if text else None
        except Unreadable as error:
            self._log.note_warning("record", "%s; billing is asked instead", error)
            return None

    def _date_record(self, reply: StoreReply) -> DatedSnapshot | None:
        record = self._record
        if record is None or record.stamp.generation != reply.stamp.generation:
            return None
        # Hosts' clocks differ: by whichever says more, and a fetch in the future of both was now.
        by_redis = (reply.stamp.begun - record.stamp.begun) / 1_000_000
        age = max(0.0, by_redis, self._clock.time() - record.at)
        if elapsed(self._counts_from(), self._clock.monotonic()) <= age:
            return None
        is_new = self._since <= record.stamp.begun <= reply.stamp.begun
        return DatedSnapshot(record.snapshot, age, record.stamp, is_new)
