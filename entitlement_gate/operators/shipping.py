"""What ``entitlements ship`` does: deliver usage events once or again and again, list dead letters, revive them.

How one event is delivered is in ``zenskar.usage``.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.ledger.balances import quantity_of
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.operators.explanation import format_moment, format_number
from entitlement_gate.operators.terminal import DENIED, FINE, UNKNOWN, Cell, Line, OperatingError, Report, Table
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar.usage import DeliveryReport, ship

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.ledger.protocol import DeadLetter, Outbox
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = ["Plan", "Stop", "get_outbox", "report_dead_letters", "revive_dead_letters", "run_deliveries"]

_DEFAULT_LIMIT = 100  # dead letters listed, where no limit is given
_PAGE = 1_000  # dead letters read at a time


@dataclass(frozen=True, slots=True)
class Plan:
    """How to ship.

    Attributes:
        limit: events tried in one run; None for all that are due.
        batch: events that are taken out, and reported as progress, at a time.
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


def get_outbox(gate: EntitlementGate, *, to_ship: bool = False) -> Outbox:
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


def _count_events(delivery: DeliveryReport) -> str:
    return f"{delivery.delivered} delivered, {delivery.postponed} postponed, {delivery.buried} set aside"


def _report_run(delivery: DeliveryReport, pending: int) -> Report:
    data = {
        "delivered": delivery.delivered,
        "postponed": delivery.postponed,
        "set_aside": delivery.buried,
        "stopped": delivery.stopped or None,
        "last_failure": delivery.last_failure or None,
        "pending": pending,
    }
    is_fine = not (delivery.postponed or delivery.buried)
    lines = [Line(f"{_count_events(delivery)}; {pending} wait", "good" if is_fine else "warning")]
    if delivery.stopped or delivery.last_failure:
        lines.append(Line(": ".join(filter(None, (delivery.stopped, delivery.last_failure))), indent=2))
    if delivery.buried:
        lines.append(Line("`entitlements ship --dead` lists what was set aside, and why", indent=2))
    return Report(exit_code=FINE if is_fine else DENIED, data=data, parts=tuple(lines))


def report_dead_letters(outbox: Outbox, limit: int | None) -> Report:
    """Report the events that billing refused; the exit code is 1 where there are any."""
    most = limit or _DEFAULT_LIMIT
    letters = outbox.dead_letters(most + 1)
    letters, has_more = letters[:most], len(letters) > most
    data = {"dead_letters": [_to_dict(letter) for letter in letters], "has_more": has_more}
    if not letters:
        return Report(data=data, parts=(Line("nothing was set aside"),))
    table = Table(("USAGE", "WHY IT WAS SET ASIDE"), tuple(row for letter in letters for row in _make_rows(letter)))
    hint = "Correct what is wrong in USAGE or in billing, then put them back: `entitlements ship --revive`."
    more = (Line(f"There are more than these {most}: --limit"),) if has_more else ()
    return Report(exit_code=DENIED, data=data, parts=(table, *more, Line(hint)))


def revive_dead_letters(outbox: Outbox, limit: int | None) -> Report:
    """Put the events that billing refused back into the outbox, each once."""
    count = 0
    for letter in _list_dead_letters(outbox, limit):
        outbox.revive(letter.event)
        count += 1
    text = f"{count} put back; `entitlements ship` delivers them" if count else "nothing was set aside"
    return Report(data={"revived": count}, parts=(Line(text),))


def run_deliveries(
    outbox: Outbox, client: ZenskarClient, plan: Plan, *, stop: Stop, progress: Callable[[str], object]
) -> Iterator[Report]:
    """Yield the report of one run or, with ``plan.watch``, of run after run until ``stop``."""
    while True:
        try:
            delivery = ship(
                outbox,
                client,
                limit=plan.limit,
                batch=plan.batch,
                should_stop=stop,
                progress=lambda so_far: progress(_count_events(so_far)),
            )
            yield _report_run(delivery, outbox.pending())
        except LedgerUnavailable as error:
            text = f"the ledger cannot be asked: {error}"
            yield Report(exit_code=UNKNOWN, data={"error": text}, error=text)
        if plan.watch is None or stop.wait(plan.watch):
            return


def _list_dead_letters(outbox: Outbox, limit: int | None) -> Iterator[DeadLetter]:
    """Yield each letter once, so that this ends although another process may bury them again."""
    keys: set[tuple[str, str]] = set()
    while limit is None or len(keys) < limit:
        most = _PAGE if limit is None else min(_PAGE, limit - len(keys))
        letters = [each for each in outbox.dead_letters(most) if (each.event.customer_id, each.event.key) not in keys]
        if not letters:
            return
        keys |= {(each.event.customer_id, each.event.key) for each in letters}
        yield from letters


def _to_dict(letter: DeadLetter) -> dict[str, Any]:
    event = letter.event
    return {
        "key": event.key,
        "customer_id": event.customer_id,
        "slug": event.target.slug,
        "field": event.target.field,
        "quantity": format_number(quantity_of(event.quantity)),
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(),
        "attempts": event.attempts,
        "why": letter.why,
    }


def _make_rows(letter: DeadLetter) -> Iterator[tuple[Cell | str, ...]]:
    event = letter.event
    yield f"{format_number(quantity_of(event.quantity))} of {event.target.slug}", Cell(letter.why, "bad")
    at = format_moment(datetime.fromtimestamp(event.at, UTC))
    yield "", Cell(f"{event.target.field}, key {event.key}, customer {event.customer_id}, {at}", "faint")


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE = 0.2  # seconds: a sleep goes on after a signal, so it is slept in pieces


class Stop:
    """Becomes true at the first SIGINT or SIGTERM; the second one ends the process as without this.

    Off the main thread no signal is handled, and it stays false.
    """

    def __init__(self) -> None:
        self._is_requested = False  # no Event: its lock may be held by the very frame that a signal interrupts
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {each: signal.signal(each, self._request) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __call__(self) -> bool:
        """Return whether a signal came."""
        return self._is_requested

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal comes; return whether one came."""
        deadline = Deadline(seconds, time)
        while not self._is_requested and deadline.remaining():
            deadline.pause(_SLICE)
        return self._is_requested

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self._is_requested = True
        self._restore()

    def _restore(self) -> None:
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
