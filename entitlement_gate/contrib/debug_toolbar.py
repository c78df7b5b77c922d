"""django-debug-toolbar: the checks of a request, with their reasons, where the data came from, and its rows.

In the settings::

    DEBUG_TOOLBAR_PANELS = [..., "entitlement_gate.contrib.debug_toolbar.EntitlementsPanel"]

A panel observes every gate while its request is answered, and records the checks that are made in the request's own
context: its task, and the threads that get a copy of its context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join

from entitlement_gate.engine.observers import Observer, everywhere

try:
    from debug_toolbar.panels import Panel
except ImportError as error:
    raise ImportError(f"the toolbar is not here: install entitlement_gate[debug-toolbar]: {error}") from error

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from entitlement_gate.domain.decisions import Decision

__all__ = ["EntitlementsPanel"]

_current: ContextVar[_CheckRecorder | None] = ContextVar("entitlement_gate.contrib.debug_toolbar", default=None)


class _CheckRecorder(Observer):
    """The checks that are made in one context, as JSON has them: the toolbar stores them so."""

    def __init__(self) -> None:
        self.checks: list[dict[str, Any]] = []

    def check(self, decision: Decision, seconds: float) -> None:
        if _current.get() is self:
            self.checks.append({**decision.as_dict(), "milliseconds": seconds * 1000})


class EntitlementsPanel(Panel):
    """Shows what was checked while a request was answered, by whatever gate."""

    is_async = True
    title = nav_title = "Entitlements"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorder = _CheckRecorder()

    @property
    def nav_subtitle(self) -> str:
        """Say how many checks there were, how many refused, and how long they took."""
        checks = self._stored_checks
        refused = sum(not check["allowed"] for check in checks)
        milliseconds = sum(check["milliseconds"] for check in checks)
        number = f"{len(checks)} check{'' if len(checks) == 1 else 's'}"
        return f"{number}{f', {refused} refused' if refused else ''} in {milliseconds:.2f}{_SPACE}ms"

    @property
    def content(self) -> str:
        """Return the table of checks."""
        if not self._stored_checks:
            return format_html("<p>{}</p>", "Nothing was checked.")
        head = format_html_join("", "<th>{}</th>", ((name,) for name in _COLUMNS))
        rows = format_html_join("", "<tr>{}</tr>", ((_render_row(check),) for check in self._stored_checks))
        table = format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, rows)
        return format_html('<link rel="stylesheet" href="{}">{}', static(_STYLE), table) if _has_style() else table

    def enable_instrumentation(self) -> None:
        """Begin to record checks."""
        _current.set(self._recorder)
        everywhere.discard(self._recorder)
        everywhere.add(self._recorder)

    def disable_instrumentation(self) -> None:
        """Record no more."""
        everywhere.discard(self._recorder)
        _current.set(None)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002 - the toolbar's
        """Hand what was checked to the toolbar."""
        self.record_stats({"checks": self._recorder.checks})  # type: ignore[no-untyped-call]  # the toolbar annotates little

    @property
    def _stored_checks(self) -> list[dict[str, Any]]:
        checks: list[dict[str, Any]] = self.get_stats().get("checks", [])  # type: ignore[no-untyped-call]  # as above
        return checks


_SPACE = "\N{NO-BREAK SPACE}"
_STYLE = "entitlement_gate/debug_toolbar.css"
_COLUMNS = ("Entitlement", "Quantity", "Answer", "Reason", "Left", "Source", "Age", "Time", "Rows", "Customer")


def _has_style() -> bool:
    """Return whether the app's static files are found: the panel needs the app for nothing else."""
    return apps.is_installed("entitlement_gate")


def _render_row(check: dict[str, Any]) -> str:
    answer = "allowed" if check["allowed"] else "refused"
    cells = (
        check["entitlement"],
        check["requested"] or "",
        f"{answer} (shadow)" if check["shadow"] else answer,
        check["reason"],
        "unlimited" if check["unlimited"] else check["remaining"] or "",
        check["source"],
        "" if check["age"] is None else f"{check['age']:.1f}{_SPACE}s",
        f"{check['milliseconds']:.2f}{_SPACE}ms",
        ", ".join(check["grants"]),
        check["customer_id"] or "",
    )
    return format_html_join("", '<td data-label="{}">{}</td>', zip(_COLUMNS, cells, strict=True))
