"""Runs the actions that both doors share, and hands the report over. Never here: arguments, or how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.operating.asking import ask, failures, holding
from entitlement_gate.operating.output import JSON, as_text, open_pipe
from entitlement_gate.operating.reports import OperatingError
from entitlement_gate.operating.telling import tell_check, tell_explanation, tell_holding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.operating.output import Stream
    from entitlement_gate.operating.reports import Report
    from entitlement_gate.operating.tables import Page
    from entitlement_gate.runtime.gate import EntitlementGate

__all__ = ["answered", "deliver"]


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
