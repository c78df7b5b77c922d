"""``manage.py entitlements``: what operators ask and do. Never here: the answers (``operators``)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from traceback import format_exception
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from entitlement_gate.api import default_gate
from entitlement_gate.cli import (
    EXIT_CODES,
    add_action,
    add_asking,
    add_doctor,
    add_format,
    add_many,
    add_ship,
    answered,
    deliver,
)
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.operators.billing import (
    client_of,
    enum_source,
    every_customer,
    ids_in,
    names_held,
    sampled,
    warm,
)
from entitlement_gate.operators.customer_report import customer_named, failures
from entitlement_gate.operators.doctor import (
    Finding,
    NameInCode,
    examine,
    ledger_findings,
    redis_findings,
    tell_findings,
)
from entitlement_gate.operators.gates import all_gates, tell_gates
from entitlement_gate.operators.project import names_in_code, settings_findings
from entitlement_gate.operators.shipping import Plan, Stop, outbox_of, passes, revive_all, tell_dead
from entitlement_gate.operators.terminal import (
    DENIED,
    FINE,
    UNKNOWN,
    Notes,
    OperatingError,
    Progress,
    Report,
    as_read,
    as_source,
    open_pipe,
    page_for,
    painter,
    printable,
    read_input,
    tell_error,
)

__all__ = ["Command"]

_INTERRUPTED = 130
_NO_GATE = ("entitlement_gate.E001", "entitlement_gate.E005")  # the system checks say what keeps one from being made
_ONLY_HERE = "note: no shared store is set up, so this reaches the memory of this one process only"


class Command(BaseCommand):
    """Every action of its own is one method, named after it; ``show``, ``check`` and ``explain`` share one."""

    help = f"Ask Zenskar's entitlements, explain them, look after them. {EXIT_CODES}."
    # `doctor` tells what the checks find, and every action needs one clear line where the settings cannot work.
    requires_system_checks = ()

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        super().__init__(stdout, Notes(stderr or sys.stderr), **options)  # type: ignore[arg-type]  # all that is used

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from a shell, where 1 says "denied": whatever ends the command by mistake is a 2."""
        try:
            super().run_from_argv(argv)
        except Exception as error:  # noqa: BLE001 - a bug, or with --traceback a `CommandError`
            self.stderr.write("".join(format_exception(error)))
            sys.exit(getattr(error, "returncode", UNKNOWN))

    def add_arguments(self, parser: CommandParser) -> None:
        """Add an action for each question."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add_asking(actions)
        gates = add_action(actions, "gates", "every gate: views, rules, template tags; what they ask for, and where")
        gates.add_argument("--ungated", action="store_true", help="the views that nothing gates; exit code 1 if any")
        gates.add_argument("--all", action="store_true", help="tell of the admin's and other packages' views, too")
        text = "leave out views whose route or name fits this shell pattern, as '/internal/*'; repeatable"
        gates.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help=text)
        add_format(gates)
        add_doctor(actions)
        add_many(actions)
        add_ship(actions)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the action; anything but success leaves through ``CommandError`` or ``SystemExit``."""
        try:
            code = getattr(self, f"_{options['action']}", self._answer)(options)
        except OperatingError as error:
            raise self._ended(error, options) from None
        except ImproperlyConfigured as error:
            raise self._ended(OperatingError(str(error)), options) from None
        except LedgerUnavailable as error:
            raise self._ended(OperatingError(f"the ledger cannot be asked: {error}"), options) from None
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=_INTERRUPTED) from None
        if code != FINE:
            sys.exit(code)

    def _ended(self, error: OperatingError, options: dict[str, Any]) -> CommandError:
        """Tell programs why nothing came of it; return what tells people."""
        if not error.is_told:
            tell_error(str(error), options.get("format"), self.stdout)
        return CommandError(printable(str(error)), returncode=error.exit_code)

    def _gates(self, options: dict[str, Any]) -> int:
        """List gates, or views without one."""
        only_ungated, of_packages, excluded = options["ungated"], options["all"], options["exclude"]
        return self._deliver(tell_gates(only_ungated=only_ungated, of_packages=of_packages, excluded=excluded), options)

    def _doctor(self, options: dict[str, Any]) -> int:
        """Look at settings first, and at billing where they work."""
        customers = [customer_named(customer) for customer in options["customers"]]
        found = list(settings_findings())
        if not any(finding.id in _NO_GATE for finding in found):
            found += self._examined(customers, options["name"])
        return self._deliver(tell_findings(found), options)

    def _examined(self, customers: list[str], asked: list[str]) -> list[Finding]:
        names = [NameInCode(name, gate.where) for gate in all_gates() for name in gate.names]
        names += [*names_in_code(), *(NameInCode(name, "--name") for name in asked)]
        try:
            gate = default_gate()
        except ImproperlyConfigured as error:  # what no system check reads: the scenario of a sandbox
            return [Finding("error", "settings", str(error), "Correct the setting that is named.")]
        with failures():
            found = [*examine(gate, customers, names), *ledger_findings(gate)]
        options = gate.options
        return [*found, *redis_findings(None if options.ledger == "redis" else options.redis_url)]

    def _invalidate(self, options: dict[str, Any]) -> int:
        """Forget customers, all or none."""
        customers = [customer_named(customer) for customer in options["customers"]]
        for customer in customers:
            default_gate().invalidate(customer)
        self._note_reach()
        return FINE

    def _warm(self, options: dict[str, Any]) -> int:
        """Fetch customers; what failed goes to stdout, the rest of the story to stderr."""
        concurrency = options["concurrency"]
        if concurrency < 1:
            raise OperatingError(f"--concurrency: at least 1, not {concurrency}")
        with Progress(self.stderr) as show:
            customers = self._whom(options, show)
        self._note_reach()
        with failures() as heard, Progress(self.stderr) as show:
            warmth = warm(
                default_gate(),
                customers,
                concurrency=concurrency,
                progress=lambda so_far: show(f"{so_far.done} of {len(customers)}, {len(so_far.failed)} failed"),
            )
        why = f"; last failure: {printable(heard.why)}" if heard.why else ""
        self.stderr.write(self.style.NOTICE(f"{warmth}{why}"))
        for customer in (*warmth.missing, *warmth.invalid):
            self.stderr.write(self.style.NOTICE(f"not to be had: {printable(customer)}"))
        self._write("".join(f"{customer}\n" for customer in warmth.failed))
        return FINE if warmth.is_complete else DENIED

    def _whom(self, options: dict[str, Any], show: Progress) -> list[str]:
        if not options["all"]:
            return _read_ids(options["file"])
        return list(every_customer(default_gate().source, progress=show))

    def _names(self, options: dict[str, Any]) -> int:
        """Write a module of names."""
        source, named = default_gate().source, [customer_named(customer) for customer in options["customers"]]
        with Progress(self.stderr) as show:
            customers = named or sampled(source, options["sample"], show)
            names = names_held(source, customers, show, may_be_gone=not named)
        if not named and len(customers) == options["sample"]:
            text = f"note: only the first {len(customers)} customers were asked for; --sample takes more"
            self.stderr.write(self.style.NOTICE(text))
        self._write(as_source(enum_source(names), self.stdout))
        return FINE

    def _ship(self, options: dict[str, Any]) -> int:
        """Deliver events; or list, or put back, what billing refused."""
        plan = Plan(options["limit"], options["batch"], options["watch"])
        tell = tell_dead if options["dead"] else revive_all if options["revive"] else None
        gate = default_gate()
        outbox = outbox_of(gate, to_ship=tell is None)
        if tell is not None:
            return self._deliver(tell(outbox, plan.limit), options)
        code = FINE
        with Stop() as stop, Progress(self.stderr) as show:
            for report in passes(outbox, client_of(gate.source), plan, stop=stop, progress=show):
                show.end()
                code = self._passed(report, options)
        return code

    def _passed(self, report: Report, options: dict[str, Any]) -> int:
        """Tell of one run. While watching, a ledger that cannot be asked is no end, and idle runs are no news."""
        if options["watch"] is None:
            return self._deliver(report, options)
        if options["format"] == "json":
            self._deliver(replace(report, error=None), {**options, "format": "json line"})
        elif report.error is not None:
            self.stderr.write(printable(report.error))
        elif any(report.data[done] for done in ("delivered", "postponed", "set_aside")):
            self._deliver(report, options)
        return FINE

    def _answer(self, options: dict[str, Any]) -> int:
        return self._deliver(answered(default_gate(), options), options)

    def _deliver(self, report: Report, options: dict[str, Any]) -> int:
        is_painted = options["force_color"] or self.stdout.isatty()
        page = page_for(self.stdout, painter(self.style) if is_painted else None)
        return deliver(report, options["format"], page, self.stdout)

    def _write(self, text: str) -> None:
        with open_pipe(self.stdout):
            self.stdout.write(text, ending="")

    def _note_reach(self) -> None:
        """Say so where the work of this process is lost when it ends."""
        if default_gate().options.redis_url is None:
            self.stderr.write(self.style.NOTICE(_ONLY_HERE))


def _read_ids(name: str) -> list[str]:
    try:
        lines = read_input() if name == "-" else as_read(Path(name).read_bytes())
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise OperatingError(f"{name}: {why}") from None
    return ids_in(lines.splitlines())
