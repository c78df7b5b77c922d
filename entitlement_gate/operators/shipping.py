"""Usage events on their way to billing, as operators send them. One event's way stands in ``zenskar.usage``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.ledger.balances import quantity_of
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.operators.explanation import moment, number
from entitlement_gate.operators.terminal import DENIED, FINE, UNKNOWN, Cell, Line, OperatingError, Report, Table
from entitlement_gate.zenskar.usage import DeliveryReport, ship

if TYPE_CHECKING:
    from types import FrameType

    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.ledger.protocol import DeadLetter, Outbox
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = ["Plan", "Stop", "outbox_of", "passes", "revive_all", "tell_dead"]

_SHOWN = 100
_AT_ONCE = 1_000
Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to ship.

    Attributes:
        limit: events tried in one run; None for all that are due.
        batch: events between two looks at the clock, the terminal and whoever wants the end.
        watch: seconds from one run to the next; None for one run.

    Raises:
        OperatingError: a number is too small; names the option.
    """

    limit: int | None = None
    batch: int = 50
    watch: float | None = None

    def __post_init__(self) -> None:
        for option in ("limit", "batch"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise OperatingError(f"--{option}: at least 1, not {value}")
        if self.watch is not None and not 0 < self.watch < float("inf"):
            raise OperatingError(f"--watch: seconds above 0, not {self.watch:g}")


def outbox_of(gate: EntitlementGate, *, to_ship: bool = False) -> Outbox:
    """Return where the gate's usage events wait.

    Args:
        gate: whose ledger it is.
        to_ship: refuse where nothing could ever be shipped.

    Raises:
        OperatingError: they do not wait anywhere that another process could reach; says what to do.
    """
    ledger: Any = gate.ledger
    if ledger is None:
        raise OperatingError("LEDGER is None: nothing is used up here, so there are no usage events")
    if isinstance(ledger, MemoryLedger):
        raise OperatingError(
            'LEDGER is "memory": usage events live in the web process and end with it; '
            'set LEDGER to "redis" or "database" to ship them from here'
        )
    if not hasattr(ledger, "take"):
        raise OperatingError(f"{type(ledger).__name__} keeps no usage events: it is no outbox")
    if to_ship and not gate.options.usage and not ledger.pending():
        raise OperatingError("USAGE is empty, and no event waits: name in USAGE the meter of each entitlement")
    outbox: Outbox = ledger
    return outbox


def _deliver_all(
    outbox: Outbox, client: ZenskarClient, plan: Plan, *, should_stop: Callable[[], bool], progress: Progress
) -> DeliveryReport:
    """Deliver events batch by batch until nothing is due, the limit is reached, or the end is asked for.

    Raises:
        LedgerUnavailable: the outbox could not be asked.
    """
    total = DeliveryReport()
    while not total.stopped and not should_stop():
        left = plan.batch if plan.limit is None else min(plan.batch, plan.limit - _tried(total))
        done = ship(outbox, client, limit=left, should_stop=should_stop)
        if not _tried(done) and not done.stopped:
            break
        total.delivered += done.delivered
        total.postponed += done.postponed
        total.buried += done.buried
        total.stopped, total.last_failure = done.stopped, done.last_failure or total.last_failure
        progress(_said_of(total))
    return total


def _said_of(shipped: DeliveryReport) -> str:
    """Return what was done, for people."""
    return f"{shipped.delivered} delivered, {shipped.postponed} postponed, {shipped.buried} set aside"


def _tell_shipped(shipped: DeliveryReport, outbox: Outbox) -> Report:
    """Report what a run did, and what waits still."""
    pending = outbox.pending()
    data = {
        "delivered": shipped.delivered,
        "postponed": shipped.postponed,
        "set_aside": shipped.buried,
        "stopped": shipped.stopped or None,
        "last_failure": shipped.last_failure or None,
        "pending": pending,
    }
    is_fine = not (shipped.postponed or shipped.buried)
    lines = [Line(f"{_said_of(shipped)}; {pending} wait", "good" if is_fine else "warning")]
    if shipped.stopped or shipped.last_failure:
        lines.append(Line(": ".join(filter(None, (shipped.stopped, shipped.last_failure))), indent=2))
    if shipped.buried:
        lines.append(Line("`entitlements ship --dead` lists what was set aside, and why", indent=2))
    return Report(exit_code=FINE if is_fine else DENIED, data=data, parts=tuple(lines))


def tell_dead(outbox: Outbox, limit: int | None) -> Report:
    """Report what was set aside; then there is something to look at."""
    most = limit or _SHOWN
    letters = outbox.dead_letters(most + 1)
    shown, has_more = letters[:most], len(letters) > most
    data = {"dead_letters": [_letter_data(letter) for letter in shown], "has_more": has_more}
    if not shown:
        return Report(data=data, parts=(Line("nothing was set aside"),))
    table = Table(("USAGE", "WHY IT WAS SET ASIDE"), tuple(row for letter in shown for row in _letter_rows(letter)))
    hint = "Correct what is wrong in USAGE or in billing, then put them back: `entitlements ship --revive`."
    more = (Line(f"There are more than these {most}: --limit"),) if has_more else ()
    return Report(exit_code=DENIED, data=data, parts=(table, *more, Line(hint)))


def revive_all(outbox: Outbox, limit: int | None) -> Report:
    """Put back what was set aside, each event once."""
    revived = 0
    for revived, letter in enumerate(_dead(outbox, limit), start=1):  # noqa: B007 - how many there were
        outbox.revive(letter.event)
    told = f"{revived} put back; `entitlements ship` delivers them" if revived else "nothing was set aside"
    return Report(data={"revived": revived}, parts=(Line(told),))


def passes(outbox: Outbox, client: ZenskarClient, plan: Plan, *, stop: Stop, progress: Progress) -> Iterator[Report]:
    """Yield the report of one run; or of one after the other, so many seconds apart, until the end is asked for."""
    while True:
        try:
            yield _tell_shipped(_deliver_all(outbox, client, plan, should_stop=stop, progress=progress), outbox)
        except LedgerUnavailable as error:
            text = f"the ledger cannot be asked: {error}"
            yield Report(exit_code=UNKNOWN, data={"error": text}, error=text)
        if plan.watch is None or stop.wait(plan.watch):
            return


def _dead(outbox: Outbox, limit: int | None) -> Iterator[DeadLetter]:
    """Yield letters a piece at a time; ends also where another process buries them again as fast."""
    seen: set[tuple[str, str]] = set()
    while limit is None or len(seen) < limit:
        most = _AT_ONCE if limit is None else min(_AT_ONCE, limit - len(seen))
        letters = [each for each in outbox.dead_letters(most) if (each.event.customer_id, each.event.key) not in seen]
        if not letters:
            return
        seen |= {(each.event.customer_id, each.event.key) for each in letters}
        yield from letters


def _tried(shipped: DeliveryReport) -> int:
    return shipped.delivered + shipped.postponed + shipped.buried


def _letter_data(letter: DeadLetter) -> dict[str, Any]:
    event = letter.event
    return {
        "key": event.key,
        "customer_id": event.customer_id,
        "slug": event.target.slug,
        "field": event.target.field,
        "quantity": number(quantity_of(event.quantity)),
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(),
        "attempts": event.attempts,
        "why": letter.why,
    }


def _letter_rows(letter: DeadLetter) -> Iterator[tuple[Cell | str, ...]]:
    event = letter.event
    yield f"{number(quantity_of(event.quantity))} of {event.target.slug}", Cell(letter.why, "bad")
    at = moment(datetime.fromtimestamp(event.at, UTC))
    yield "", Cell(f"{event.target.field}, key {event.key}, customer {event.customer_id}, {at}", "faint")


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE = 0.2  # seconds: a sleep goes on after a signal, so it is slept in pieces


class Stop:
    """Whether somebody asked for the end. The second signal ends the process at once, as without this.

    Off the main thread, where no signal can be had, nobody asks.
    """

    def __init__(self) -> None:
        self._is_asked = False  # no Event: its lock may be held by the very frame that a signal interrupts
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __call__(self) -> bool:
        """Return whether to end."""
        return self._is_asked

    def wait(self, seconds: float) -> bool:
        """Wait so long, less where the end is asked for; return whether it is."""
        until = time.monotonic() + seconds
        while not self._is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return self._is_asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked = True
        self._restore()

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for asked, handler in before.items():
            signal.signal(asked, signal.SIG_DFL if handler is None else handler)
