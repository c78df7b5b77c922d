"""The console script ``entitlement-gate``, and the arguments that it shares with ``manage.py entitlements``.

It needs no settings of Django: credentials come from the environment, ``ZENSKAR_API_KEY``, ``ZENSKAR_ORGANISATION``
and, where it is not the usual one, ``ZENSKAR_BASE_URL``. The answers are made in ``operators``.
"""

from __future__ import annotations

import argparse
import os
import sys
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from django.core.management.color import color_style, no_style, supports_color

from entitlement_gate import __version__
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.operators.customer_report import (
    ask,
    capture_failures,
    get_holdings,
    parse_customer,
    report_check,
    report_explanation,
    report_holdings,
)
from entitlement_gate.operators.doctor import NameInCode, examine, report_findings
from entitlement_gate.operators.terminal import (
    JSON,
    UNKNOWN,
    LenientStream,
    OperatingError,
    format_report,
    guard_output,
    make_painter,
    make_screen,
    printable,
    write_error,
)
from entitlement_gate.zenskar.client_options import SANDBOX, ClientOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from entitlement_gate.operators.terminal import Report, Screen, Stream

__all__ = ["EXIT_CODES", "add_action", "add_doctor", "add_format", "add_questions", "answer", "main", "write_report"]

EXIT_CODES = "exit codes: 0 allowed, or all is well; 1 denied, or something is not; 2 unknown, or misuse"


def add_questions(actions: Any) -> None:
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


def add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add one action, which takes the colour options behind its name, too."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
    for option, what in (("--no-color", "no colours"), ("--force-color", "colours even where no terminal is")):
        action.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=what)
    return action


def add_format(action: argparse.ArgumentParser) -> None:
    """Let an action answer programs."""
    action.add_argument("--format", choices=("text", "json"), default="text", help="for people, or for programs")


def answer(gate: EntitlementGate, options: Mapping[str, Any]) -> Report:
    """Run ``show``, ``check`` or ``explain``; return the report."""
    with capture_failures() as capture:
        if options["action"] == "show":
            holdings = get_holdings(gate, options["customer"])
            return report_holdings(holdings, capture.why, with_rows=options["rows"])
        is_check = options["action"] == "check"
        explained = ask(gate, options["customer"], options["name"], options["quantity"])
        return (report_check if is_check else report_explanation)(explained, capture.why)


def write_report(report: Report, style: str, screen: Screen, stream: Stream) -> int:
    """Write the report and return its exit code.

    Raises:
        OperatingError: the report is an error, or the stream is closed.
    """
    if report.error is None or style in JSON:
        with guard_output(stream):
            stream.write(format_report(report, style, screen, stream))
    if report.error is not None:
        raise OperatingError(report.error, report.exit_code, is_reported=style in JSON)
    return report.exit_code


_INTERRUPTED = 130
_ENVIRONMENT = (
    "environment: ZENSKAR_API_KEY, ZENSKAR_ORGANISATION, and ZENSKAR_BASE_URL where it is not the usual one; "
    '"sandbox:" needs neither key nor organisation'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action; the answer is the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["sandbox"]:
        from entitlement_gate.sandbox.__main__ import main as serve  # noqa: PLC0415 - the server, on use only

        return serve(arguments[1:])
    options, notes = vars(_make_parser().parse_args(arguments)), LenientStream(sys.stderr)
    try:
        return _run(options)
    except OperatingError as error:
        if not error.is_reported:
            write_error(str(error), options.get("format"), sys.stdout)
        notes.write(f"entitlement-gate: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        notes.write("entitlement-gate: interrupted\n")
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug; Python's own 1 would say "denied"
        notes.write("".join(format_exception(error)))
        return UNKNOWN


def _run(options: Mapping[str, Any]) -> int:
    with _make_gate(os.environ) as gate:
        if options["action"] == "doctor":
            customers = [parse_customer(customer) for customer in options["customers"]]
            names = [NameInCode(name, "--name") for name in options["name"]]
            with capture_failures():
                report = report_findings(examine(gate, customers, names))
        else:
            report = answer(gate, options)
    is_plain = options.get("no_color") or "NO_COLOR" in os.environ
    is_painted = not is_plain and (options.get("force_color") or supports_color())
    style = color_style(force_color=True) if is_painted else no_style()
    return write_report(report, options["format"], make_screen(sys.stdout, make_painter(style)), sys.stdout)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="entitlement-gate",
        description="May this customer do this now? Asks Zenskar's entitlements.",
        epilog=f"{EXIT_CODES}. {_ENVIRONMENT}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_questions(actions)
    add_doctor(actions)
    actions.add_parser("sandbox", help="a local Zenskar to develop against (--port, --scenario)", add_help=False)
    return parser


def _make_gate(environment: Mapping[str, str]) -> EntitlementGate:
    """Return a gate over billing, as the environment describes it.

    Raises:
        OperatingError: it does not, or what it says cannot work; names the variable.
    """
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    base_url = environment.get("ZENSKAR_BASE_URL") or ClientOptions().base_url
    secrets = {name: environment.get(f"ZENSKAR_{name.upper()}", "") for name in ("api_key", "organisation")}
    missing = [f"ZENSKAR_{name.upper()}" for name, secret in secrets.items() if not secret]
    if missing and not base_url.startswith(SANDBOX):
        raise OperatingError(f"no credentials: set {' and '.join(missing)} in the environment")
    try:
        return EntitlementGate(ZenskarClient(secrets["api_key"], secrets["organisation"], base_url=base_url))
    except ValueError as error:
        name, _, what = str(error).partition(": ")
        is_option = name in {*secrets, "base_url"}
        text = f"ZENSKAR_{name.upper()}: {what}" if is_option else f"ZENSKAR_BASE_URL: {error}"
        raise OperatingError(text) from None


if __name__ == "__main__":
    sys.exit(main())
