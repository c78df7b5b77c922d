"""What reaches the upstream, and what callers get while billing fails. Counts and seconds, not speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from benchmarks.remotes import REMOTES, Remote
from benchmarks.tables import Table
from benchmarks.world import ASKED, NAMES

if TYPE_CHECKING:
    from benchmarks.effort import Effort

__all__ = ["answer_of", "tables"]

Make = Callable[[float], Remote]

_TTL = 60.0  # seconds: nothing ages while calls are counted
_SHORT_TTL = 0.3  # in bad days, which begin when the data is past its age: the default would make this a long table


def tables(effort: Effort) -> list[Table]:
    """Ask the gate, and the peers that make remote calls, each time against a server of its own."""
    makes = dict(REMOTES) if effort.with_peers else {"entitlement_gate": REMOTES["entitlement_gate"]}
    table = Table("Behaviour", _HOW, ["granted, and asked for", *makes])
    for title, count in _COUNTS.items():
        table.rows.append([title, *(_tried(count, make, _TTL) for make in makes.values())])
    for title, days in _bad_days(list(makes.values()), effort.patience).items():
        table.rows.append([title, *days])
    table.notes = list(_NOTES)
    return [table]


def _tried(question: Callable[[Remote], str], make: Make, ttl: float) -> str:
    try:
        remote = make(ttl)
    except ImportError as error:
        return f"not measured ({error})"
    try:
        return question(remote)
    finally:
        remote.upstream.stop()
        remote.close()


def _by_32_threads(remote: Remote) -> str:
    line = threading.Barrier(32)

    def ask(_: int) -> bool:
        line.wait()
        return remote.ask(ASKED)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    return _calls(remote) if all(answers) else f"wrong answers: {answers.count(False)} of 32"


def _five_names(remote: Remote) -> str:
    answers = [remote.ask(name) for name in NAMES[:5]]
    return _calls(remote) if all(answers) else "wrong answers"


def _repeats(remote: Remote) -> str:
    remote.upstream.be_well(delay=0)
    answers = [remote.ask(ASKED) for _ in range(200)]
    return _calls(remote) if all(answers) else "wrong answers"


def _calls(remote: Remote) -> str:
    calls = remote.upstream.calls
    return f"{calls} upstream call{'s' if calls > 1 else ''}"


_COUNTS: dict[str, Callable[[Remote], str]] = {
    "by 32 threads at once, cold": _by_32_threads,
    "five names of one customer": _five_names,
    "one name, 200 times": _repeats,
}


def _bad_days(makes: list[Make], patience: float) -> dict[str, list[str]]:
    """Try every kind of failure at the same time: nearly all of it is waiting."""
    days: dict[str, tuple[Callable[[Remote], None], bool]] = {
        "billing answers 503, data past its age": (lambda remote: remote.upstream.fail(), True),
        "nothing listens, data past its age": (lambda remote: remote.upstream.stop(), True),
        "billing hangs, data past its age": (lambda remote: remote.upstream.hang(), True),
        "billing hangs, customer unknown": (lambda remote: remote.upstream.hang(), False),
    }
    with ThreadPoolExecutor(len(days) * len(makes)) as pool:
        futures = {
            title: [
                pool.submit(_tried, _bad_day(fail, patience, is_known=is_known), make, _SHORT_TTL) for make in makes
            ]
            for title, (fail, is_known) in days.items()
        }
        return {title: [future.result() for future in row] for title, row in futures.items()}


def _bad_day(fail: Callable[[Remote], None], patience: float, *, is_known: bool) -> Callable[[Remote], str]:
    def question(remote: Remote) -> str:
        if is_known:
            assert remote.ask(ASKED)
            time.sleep(3 * _SHORT_TTL)  # past the gate's window of renewal too: within that it answers at once
        fail(remote)
        first, has_answered = answer_of(remote.ask, patience)
        return f"{first}, then {answer_of(remote.ask, patience)[0]}" if has_answered else first

    return question


def answer_of(ask: Callable[[str], bool], patience: float) -> tuple[str, bool]:
    """Return what a caller is told and when, and whether they were told anything within their patience."""
    answers: SimpleQueue[str] = SimpleQueue()

    def call() -> None:
        try:
            answer = str(ask(ASKED))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is what its callers get
            answer = f"raises {type(error).__name__}"
        answers.put(answer)

    began = time.perf_counter()
    threading.Thread(target=call, daemon=True).start()
    try:
        answer = answers.get(timeout=patience)
    except Empty:
        return f"no answer in {patience:g} s", False
    took = time.perf_counter() - began
    return f"{answer} in {f'{took:.1f} s' if took >= 0.1 else f'{took * 1000:.1f} ms'}", True


_HOW = (
    f"The customer has what is asked for, so `True` is right. An answer is fresh for {_TTL:g} s, in bad days for "
    f"{_SHORT_TTL} s, where there is such a setting; everything else is the library's default. A healthy upstream "
    "takes 50 ms. In bad days: the first ask, then the next."
)
_IN_TIME = (
    "Within the gate's window of renewal (`stale_while_revalidate`, 60 s by default) it answers from memory at once "
    "while one fetch renews the data; the bad days above begin after that window."
)
_FAIRLY = (
    "Schematic can ask for all flags of a company in one call (`check_flags`), and Flagsmith's `Flags` object can be "
    "kept for as long as a request lasts: then five names are one call there, too. Where a caller had no answer, it "
    "was left: Schematic waits 60 s by default, Flagsmith 10 s."
)
_LOCALLY = (
    "GrowthBook, LaunchDarkly, OpenFeature (in memory), Unleash, Flagsmith's local evaluation, django-waffle and "
    "django-flags make no remote call at a check: an outage leaves them with the rules they last had."
)
_NOTES = (_IN_TIME, _FAIRLY, _LOCALLY)
