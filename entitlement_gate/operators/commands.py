"""Arguments that ``manage.py entitlements`` and ``entitlement-gate`` share, and the run of an action."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from entitlement_gate.operators.customer_report import (
    ask,
    failures,
    holding,
    tell_check,
    tell_explanation,
    tell_holding,
)
from entitlement_gate.operators.reports import OperatingError
from entitlement_gate.operators.terminal import JSON, as_text, open_pipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.operators.reports import Page, Report
    from entitlement_gate.operators.terminal import Stream

__all__ = [
    "EXIT_CODES",
    "add_action",
    "add_asking",
    "add_doctor",
    "add_format",
    "add_many",
    "add_ship",
    "answered",
    "deliver",
]


EXIT_CODES = "exit codes: 0 allowed, or all is well; 1 denied, or something is not; 2 unknown, or misuse"


def add_asking(actions: Any) -> None:
    """Add ``show``, ``check`` and ``explain``."""
    show = add_action(actions, "show", "every entitlement of a customer: answer, window, limit, used, left, rows")
    show.add_argument("customer", metavar="CUSTOMER", help="the customer's Zenskar id")
    show.add_argument("--rows", action="store_true", help="list the rows, too")
    add_format(show)
    for name, text in (
        ("check", "whether the customer may, in one line; the exit code says it too"),
        ("explain", "which rows counted, which did not and why, and what would have to change"),
    ):
        action = add_action(actions, name, text)
        action.add_argument("customer", metavar="CUSTOMER", help="the customer's Zenskar id")
        action.add_argument("name", metavar="NAME", help="the entitlement: its name, alias or id")
        action.add_argument("quantity", metavar="QUANTITY", nargs="?", help="how much is needed; any at all by default")
        add_format(action)


def add_doctor(actions: Any) -> None:
    """Add ``doctor``."""
    text = "what stands between a gate and true answers, and what to do; reaches billing"
    doctor = add_action(actions, "doctor", text)
    text = "customers that together hold every entitlement: names in code are compared with theirs"
    doctor.add_argument("customers", metavar="CUSTOMER", nargs="*", help=text)
    doctor.add_argument("--name", metavar="NAME", action="append", default=[], help="a name to look for; repeatable")
    add_format(doctor)


def add_many(actions: Any) -> None:
    """Add ``invalidate``, ``warm`` and ``names``, which are about many customers."""
    invalidate = add_action(actions, "invalidate", "let what is known of a customer no longer count")
    invalidate.add_argument("customers", metavar="CUSTOMER", nargs="+")
    warm = add_action(actions, "warm", "fetch customers ahead of their first check; prints those to try again")
    whom = warm.add_mutually_exclusive_group(required=True)
    whom.add_argument("file", metavar="FILE", nargs="?", help="customer ids, one a line; - reads them from stdin")
    whom.add_argument("--all", action="store_true", help="every customer that billing lists")
    warm.add_argument("--concurrency", type=int, default=8, metavar="N", help="fetches at a time (default: 8)")
    names = add_action(actions, "names", "a module with a StrEnum of what billing lists for these customers")
    text = "whose entitlements; those that billing lists first, where none is named"
    names.add_argument("customers", metavar="CUSTOMER", nargs="*", help=text)
    text = "where none is named: how many of those that billing lists (default: 200)"
    names.add_argument("--sample", type=int, default=200, metavar="N", help=text)


def add_ship(actions: Any) -> None:
    """Add ``ship``."""
    ship = add_action(actions, "ship", "deliver to billing what was used up; safe to run several at once")
    ship.add_argument("--limit", type=int, metavar="N", help="events a run, or letters; all by default (--dead: 100)")
    ship.add_argument("--batch", type=int, default=50, metavar="N", help="events at a time (default: 50)")
    what = ship.add_mutually_exclusive_group()
    what.add_argument("--watch", type=float, metavar="SECONDS", help="run again and again, so far apart")
    what.add_argument("--dead", action="store_true", help="list the events that billing refused; exit code 1 if any")
    what.add_argument("--revive", action="store_true", help="put the events back that billing refused")
    add_format(ship)


def add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add one action, which takes the colour options behind its name, too."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
    for option, what in (("--no-color", "no colours"), ("--force-color", "colours even where no terminal is")):
        action.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=what)
    return action


def add_format(action: argparse.ArgumentParser) -> None:
    """Let an action answer programs."""
    action.add_argument("--format", choices=("text", "json"), default="text", help="for people, or for programs")


def answered(gate: EntitlementGate, options: Mapping[str, Any]) -> Report:
    """Run ``show``, ``check`` or ``explain``."""
    with failures() as heard:
        if options["action"] == "show":
            held = holding(gate, options["customer"])
            return tell_holding(held, heard.why, with_rows=options["rows"])
        is_check = options["action"] == "check"
        asked = ask(gate, options["customer"], options["name"], options["quantity"])
        return (tell_check if is_check else tell_explanation)(asked, heard.why)


def deliver(report: Report, style: str, page: Page, stream: Stream) -> int:
    """Write the report and return its exit code.

    Raises:
        OperatingError: the report is an error, or nobody reads the stream.
    """
    if report.error is None or style in JSON:
        with open_pipe(stream):
            stream.write(as_text(report, style, page, stream))
    if report.error is not None:
        raise OperatingError(report.error, report.exit_code, is_told=style in JSON)
    return report.exit_code
