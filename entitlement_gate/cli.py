"""The console script ``entitlement-gate``: what operators ask, without Django's settings.

Credentials come from the environment: ``ZENSKAR_API_KEY``, ``ZENSKAR_ORGANISATION`` and, where it is not the usual
one, ``ZENSKAR_BASE_URL``. Never here: the answers (``operators``).
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
from entitlement_gate.operators.commands import EXIT_CODES, add_asking, add_doctor, answered, deliver
from entitlement_gate.operators.customer_report import customer_named, failures
from entitlement_gate.operators.doctor import NameInCode, examine, tell_findings
from entitlement_gate.operators.reports import UNKNOWN, OperatingError, printable
from entitlement_gate.operators.terminal import Notes, page_for, painter, tell_error
from entitlement_gate.zenskar.options import SANDBOX, ClientOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

_INTERRUPTED = 130
_ENVIRONMENT = (
    "environment: ZENSKAR_API_KEY, ZENSKAR_ORGANISATION, and ZENSKAR_BASE_URL where it is not the usual one; "
    '"sandbox:" needs neither key nor organisation'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action; the answer is the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["sandbox"]:
        from entitlement_gate.sandbox.__main__ import main as serve  # noqa: PLC0415 - the server, on use only

        return serve(given[1:])
    options, notes = vars(_parser().parse_args(given)), Notes(sys.stderr)
    try:
        return _run(options)
    except OperatingError as error:
        if not error.is_told:
            tell_error(str(error), options.get("format"), sys.stdout)
        notes.write(f"entitlement-gate: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        notes.write("entitlement-gate: interrupted\n")
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug; Python's own 1 would say "denied"
        notes.write("".join(format_exception(error)))
        return UNKNOWN


def _run(options: Mapping[str, Any]) -> int:
    with _gate(os.environ) as gate:
        if options["action"] == "doctor":
            customers = [customer_named(customer) for customer in options["customers"]]
            names = [NameInCode(name, "--name") for name in options["name"]]
            with failures():
                report = tell_findings(examine(gate, customers, names))
        else:
            report = answered(gate, options)
    is_plain = options.get("no_color") or "NO_COLOR" in os.environ
    is_painted = not is_plain and (options.get("force_color") or supports_color())
    style = color_style(force_color=True) if is_painted else no_style()
    return deliver(report, options["format"], page_for(sys.stdout, painter(style)), sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="entitlement-gate",
        description="May this customer do this now? Asks Zenskar's entitlements.",
        epilog=f"{EXIT_CODES}. {_ENVIRONMENT}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_asking(actions)
    add_doctor(actions)
    actions.add_parser("sandbox", help="a local Zenskar to develop against (--port, --scenario)", add_help=False)
    return parser


def _gate(environment: Mapping[str, str]) -> EntitlementGate:
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
