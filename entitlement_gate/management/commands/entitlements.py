"""``manage.py entitlements``: what operators ask and do. Never here: the answers (``operating``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from entitlement_gate.api import default_gate
from entitlement_gate.domain.errors import SourceError
from entitlement_gate.operating.arguments import EXIT_CODES, add_action, add_asking, add_doctor, add_format
from entitlement_gate.operating.asking import customer_named, failures
from entitlement_gate.operating.billing import every_grant
from entitlement_gate.operating.doctor import NameInCode, examine
from entitlement_gate.operating.findings import Finding, tell_findings
from entitlement_gate.operating.names import enum_source
from entitlement_gate.operating.output import open_pipe, page_for, painter
from entitlement_gate.operating.project import names_in_code, settings_findings, tell_gates
from entitlement_gate.operating.reports import DENIED, FINE, OperatingError, Report
from entitlement_gate.operating.running import answered, deliver
from entitlement_gate.operating.tables import printable
from entitlement_gate.operating.warming import Warmth, ids_in, warm

__all__ = ["Command"]

_INTERRUPTED = 130
_ONLY_HERE = "note: no shared store is set up, so this reaches the memory of this one process only"


class Command(BaseCommand):
    """Every action of its own is one method, named after it; ``show``, ``check`` and ``explain`` share one."""

    help = f"Ask Zenskar's entitlements, explain them, look after them. {EXIT_CODES}."
    # `doctor` tells what the checks find, and every action needs one clear line where the settings cannot work.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add an action for each question."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add_asking(actions)
        gates = add_action(actions, "gates", "every gate: views, rules, template tags; what they ask for, and where")
        gates.add_argument("--ungated", action="store_true", help="the views that nothing gates; exit code 1 if any")
        add_format(gates)
        add_doctor(actions)
        invalidate = add_action(actions, "invalidate", "let what is known of a customer no longer count")
        invalidate.add_argument("customers", metavar="CUSTOMER", nargs="+")
        warming = add_action(actions, "warm", "fetch customers ahead of their first check; prints those to try again")
        warming.add_argument("file", metavar="FILE", help="customer ids, one a line; - reads them from stdin")
        warming.add_argument("--concurrency", type=int, default=8, metavar="N", help="fetches at a time (default: 8)")
        names = add_action(actions, "names", "a module with a StrEnum of what billing lists for these customers")
        names.add_argument("customers", metavar="CUSTOMER", nargs="+")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the action; anything but success leaves through ``CommandError`` or ``SystemExit``."""
        try:
            code = getattr(self, f"_{options['action']}", self._answer)(options)
        except OperatingError as error:
            raise CommandError(printable(str(error)), returncode=error.exit_code) from None
        except ImproperlyConfigured as error:
            raise CommandError(printable(str(error)), returncode=2) from None
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=_INTERRUPTED) from None
        if code != FINE:
            sys.exit(code)

    def _gates(self, options: dict[str, Any]) -> int:
        """List gates, or views without one."""
        return self._deliver(tell_gates(only_ungated=options["ungated"]), options)

    def _doctor(self, options: dict[str, Any]) -> int:
        """Look at settings first, and at billing where they work."""
        customers = [customer_named(customer) for customer in options["customers"]]
        found = list(settings_findings())
        if not any(finding.id == "entitlement_gate.E001" for finding in found):
            found += self._examined(customers, options["name"])
        return self._deliver(tell_findings(found), options)

    def _examined(self, customers: list[str], asked: list[str]) -> list[Finding]:
        names = [*names_in_code(), *(NameInCode(name, "--name") for name in asked)]
        try:
            gate = default_gate()
        except ImproperlyConfigured as error:  # what no system check sees: the scenario of a sandbox
            return [Finding("error", "settings", str(error), "Correct the setting that is named.")]
        with failures():
            return list(examine(gate, customers, names))

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
        customers = _read_ids(options["file"])
        self._note_reach()
        with failures() as heard:
            warmth = warm(default_gate(), customers, concurrency=concurrency, progress=self._progress(len(customers)))
        why = f"; last failure: {printable(heard.why)}" if heard.why else ""
        self.stderr.write(self.style.NOTICE(f"{warmth}{why}"))
        for customer in (*warmth.missing, *warmth.invalid):
            self.stderr.write(self.style.NOTICE(f"not to be had: {printable(customer)}"))
        self._write("".join(f"{customer}\n" for customer in warmth.failed))
        return FINE if warmth.is_complete else DENIED

    def _names(self, options: dict[str, Any]) -> int:
        """Write a module of names."""
        source, listed = default_gate().source, set()
        for customer in map(customer_named, options["customers"]):
            try:
                listed |= {grant.name for grant in every_grant(source, customer)}
            except SourceError as error:
                raise OperatingError(f"{customer}: {type(error).__name__}: {error}") from None
        self._write(enum_source(listed))
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
        self.stderr.write(self.style.NOTICE(_ONLY_HERE))

    def _progress(self, total: int) -> Any:
        if not self.stderr.isatty():
            return lambda _: None

        def show(warmth: Warmth) -> None:
            end = "\n" if warmth.done == total else ""
            self.stderr.write(f"\r{warmth.done} of {total}, {len(warmth.failed)} failed", lambda text: text, end)

        return show


def _read_ids(name: str) -> list[str]:
    try:
        lines = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise OperatingError(f"{name}: {why}") from None
    return ids_in(lines.splitlines())
