"""``manage.py entitlements``. Answers are made in ``operators``; arguments shared with the script are in ``cli``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from traceback import format_exception
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from entitlement_gate.api import default_gate
from entitlement_gate.check_messages import Check
from entitlement_gate.cli import EXIT_CODES, add_action, add_doctor, add_format, add_questions, answer, write_report
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.operators.billing import (
    collect_names,
    format_enum,
    list_customers,
    parse_ids,
    require_client,
    sample_customers,
    warm,
)
from entitlement_gate.operators.customer_report import capture_failures, parse_customer
from entitlement_gate.operators.doctor import (
    Finding,
    NameInCode,
    examine,
    find_ledger_problems,
    find_redis_problems,
    report_findings,
)
from entitlement_gate.operators.gates import find_gates, report_gates
from entitlement_gate.operators.project import find_names, find_settings_problems
from entitlement_gate.operators.shipping import (
    Plan,
    Stop,
    get_outbox,
    report_dead_letters,
    revive_dead_letters,
    run_deliveries,
)
from entitlement_gate.operators.terminal import (
    DENIED,
    FINE,
    UNKNOWN,
    LenientStream,
    OperatingError,
    Progress,
    Report,
    decode_text,
    encode_source,
    guard_output,
    make_painter,
    make_screen,
    printable,
    read_input,
    write_error,
)

__all__ = ["Command"]

_INTERRUPTED = 130
_SETTINGS_UNUSABLE = (Check.E001.id, Check.E005.id)  # the system checks say what keeps one from being made
_NOT_SHARED = "note: no shared store is set up, so this reaches the memory of this one process only"


class Command(BaseCommand):
    """One method an action, named after it; ``show``, ``check`` and ``explain`` share one."""

    help = f"Ask Zenskar's entitlements, explain them, look after them. {EXIT_CODES}."
    # `doctor` reports what the checks find, and every other action one line where the settings cannot work.
    requires_system_checks = ()

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        super().__init__(stdout, LenientStream(stderr or sys.stderr), **options)  # type: ignore[arg-type]  # all that is used

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from a shell, where 1 means "denied": a bug exits with 2."""
        try:
            super().run_from_argv(argv)
        except Exception as error:  # noqa: BLE001 - a bug, or with --traceback a `CommandError`
            self.stderr.write("".join(format_exception(error)))
            sys.exit(getattr(error, "returncode", UNKNOWN))

    def add_arguments(self, parser: CommandParser) -> None:
        """Add an action for each question."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add_questions(actions)
        _add_gates(actions)
        add_doctor(actions)
        _add_many(actions)
        _add_ship(actions)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the action; anything but success leaves through ``CommandError`` or ``SystemExit``."""
        try:
            code = getattr(self, f"_{options['action']}", self._answer)(options)
        except OperatingError as error:
            raise self._to_command_error(error, options) from None
        except ImproperlyConfigured as error:
            raise self._to_command_error(OperatingError(str(error)), options) from None
        except LedgerUnavailable as error:
            raise self._to_command_error(OperatingError(f"the ledger cannot be asked: {error}"), options) from None
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=_INTERRUPTED) from None
        if code != FINE:
            sys.exit(code)

    def _to_command_error(self, error: OperatingError, options: dict[str, Any]) -> CommandError:
        """Write the error to the output where that is for programs; return the one for people."""
        if not error.is_reported:
            write_error(str(error), options.get("format"), self.stdout)
        return CommandError(printable(str(error)), returncode=error.exit_code)

    def _gates(self, options: dict[str, Any]) -> int:
        """List gates, or views without one."""
        only_ungated, of_packages, excluded = options["ungated"], options["all"], options["exclude"]
        return self._write_report(
            report_gates(only_ungated=only_ungated, of_packages=of_packages, excluded=excluded), options
        )

    def _doctor(self, options: dict[str, Any]) -> int:
        """Examine the settings, and billing where the settings work."""
        customers = [parse_customer(customer) for customer in options["customers"]]
        findings = list(find_settings_problems())
        if not any(finding.id in _SETTINGS_UNUSABLE for finding in findings):
            findings += self._examine_billing(customers, options["name"])
        return self._write_report(report_findings(findings), options)

    def _examine_billing(self, customers: list[str], more_names: list[str]) -> list[Finding]:
        names = [NameInCode(name, gate.where) for gate in find_gates() for name in gate.names]
        names += [*find_names(), *(NameInCode(name, "--name") for name in more_names)]
        try:
            gate = default_gate()
        except ImproperlyConfigured as error:  # what no system check reads: the scenario of a sandbox
            return [Finding("error", "settings", str(error), "Correct the setting that is named.")]
        with capture_failures():
            findings = [*examine(gate, customers, names), *find_ledger_problems(gate)]
        options = gate.options
        return [*findings, *find_redis_problems(None if options.ledger == "redis" else options.redis_url)]

    def _invalidate(self, options: dict[str, Any]) -> int:
        """Invalidate customers, all or none."""
        customers = [parse_customer(customer) for customer in options["customers"]]
        for customer in customers:
            default_gate().invalidate(customer)
        self._note_reach()
        return FINE

    def _warm(self, options: dict[str, Any]) -> int:
        """Fetch customers; the ids that failed go to stdout, everything else to stderr."""
        concurrency = options["concurrency"]
        if concurrency < 1:
            raise OperatingError(f"--concurrency: at least 1, not {concurrency}")
        with Progress(self.stderr) as show:
            customers = self._list_customers(options, show)
        self._note_reach()
        with capture_failures() as capture, Progress(self.stderr) as show:
            report = warm(
                default_gate(),
                customers,
                concurrency=concurrency,
                progress=lambda so_far: show(f"{so_far.done} of {len(customers)}, {len(so_far.failed)} failed"),
            )
        why = f"; last failure: {printable(capture.why)}" if capture.why else ""
        self.stderr.write(self.style.NOTICE(f"{report}{why}"))
        for customer in (*report.missing, *report.invalid):
            self.stderr.write(self.style.NOTICE(f"not to be had: {printable(customer)}"))
        self._write("".join(f"{customer}\n" for customer in report.failed))
        return FINE if report.is_complete else DENIED

    def _list_customers(self, options: dict[str, Any], show: Progress) -> list[str]:
        if not options["all"]:
            return _read_ids(options["file"])
        return list(list_customers(default_gate().source, progress=show))

    def _names(self, options: dict[str, Any]) -> int:
        """Write a module of names."""
        source, customers = default_gate().source, [parse_customer(customer) for customer in options["customers"]]
        is_sample = not customers
        with Progress(self.stderr) as show:
            customers = customers or sample_customers(source, options["sample"], show)
            names = collect_names(source, customers, show, may_be_gone=is_sample)
        if is_sample and len(customers) == options["sample"]:
            text = f"note: only the first {len(customers)} customers were asked for; --sample takes more"
            self.stderr.write(self.style.NOTICE(text))
        self._write(encode_source(format_enum(names), self.stdout))
        return FINE

    def _ship(self, options: dict[str, Any]) -> int:
        """Deliver events; or list, or put back, what billing refused."""
        plan = Plan(options["limit"], options["batch"], options["watch"])
        gate = default_gate()
        outbox = get_outbox(gate, to_ship=not (options["dead"] or options["revive"]))
        if options["dead"]:
            return self._write_report(report_dead_letters(outbox, plan.limit), options)
        if options["revive"]:
            return self._write_report(revive_dead_letters(outbox, plan.limit), options)
        code = FINE
        with Stop() as stop, Progress(self.stderr) as show:
            for report in run_deliveries(outbox, require_client(gate.source), plan, stop=stop, progress=show):
                show.end()
                code = self._report_delivery(report, options)
        return code

    def _report_delivery(self, report: Report, options: dict[str, Any]) -> int:
        """Report one run. While watching, a ledger out of reach does not end the command, and idle runs are silent."""
        if options["watch"] is None:
            return self._write_report(report, options)
        if options["format"] == "json":
            self._write_report(replace(report, error=None), {**options, "format": "json line"})
        elif report.error is not None:
            self.stderr.write(printable(report.error))
        elif any(report.data[done] for done in ("delivered", "postponed", "set_aside")):
            self._write_report(report, options)
        return FINE

    def _answer(self, options: dict[str, Any]) -> int:
        return self._write_report(answer(default_gate(), options), options)

    def _write_report(self, report: Report, options: dict[str, Any]) -> int:
        is_painted = options["force_color"] or self.stdout.isatty()
        screen = make_screen(self.stdout, make_painter(self.style) if is_painted else None)
        return write_report(report, options["format"], screen, self.stdout)

    def _write(self, text: str) -> None:
        with guard_output(self.stdout):
            self.stdout.write(text, ending="")

    def _note_reach(self) -> None:
        """Write a note where the cache of this process is not shared."""
        if default_gate().options.redis_url is None:
            self.stderr.write(self.style.NOTICE(_NOT_SHARED))


def _add_gates(actions: Any) -> None:
    gates = add_action(actions, "gates", "every gate: views, rules, template tags; what they ask for, and where")
    gates.add_argument(
        "--ungated", action="store_true", help="only views that nothing gates and nobody exempted; exit code 1 if any"
    )
    gates.add_argument("--all", action="store_true", help="the views of the admin and of other packages, too")
    text = "leave out, and do not count, views whose route or name fits this shell pattern: '/internal/*'; repeatable"
    gates.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help=text)
    add_format(gates)


def _add_many(actions: Any) -> None:
    """Add ``invalidate``, ``warm`` and ``names``, which are about many customers."""
    invalidate = add_action(actions, "invalidate", "forget the cached snapshot of a customer")
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


def _add_ship(actions: Any) -> None:
    ship = add_action(actions, "ship", "deliver to billing what was used up; safe to run several at once")
    text = "events tried in a run (default: all); with --dead listed (default: 100), with --revive put back (all)"
    ship.add_argument("--limit", type=int, metavar="N", help=text)
    ship.add_argument("--batch", type=int, default=50, metavar="N", help="events at a time (default: 50)")
    what = ship.add_mutually_exclusive_group()
    what.add_argument(
        "--watch", type=float, metavar="SECONDS", help="run again and again, so far apart, until SIGINT or SIGTERM"
    )
    what.add_argument("--dead", action="store_true", help="list the events that billing refused; exit code 1 if any")
    what.add_argument("--revive", action="store_true", help="put the events back that billing refused")
    add_format(ship)


def _read_ids(name: str) -> list[str]:
    try:
        lines = read_input() if name == "-" else decode_text(Path(name).read_bytes())
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise OperatingError(f"{name}: {why}") from None
    return parse_ids(lines.splitlines())
