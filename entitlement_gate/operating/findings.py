"""What a doctor finds, and how it is told. Never here: looking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from entitlement_gate.operating.reports import DENIED, FINE, Cell, Line, Report, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from entitlement_gate.operating.reports import Tone

__all__ = ["Finding", "tell_findings"]

_TONES: dict[str, Tone] = {"ok": "good", "note": "faint", "warning": "warning", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note`` for what could not be looked at; ``warning`` and ``error`` want something done.
        about: what was looked at.
        text: what was found.
        hint: what to do.
        id: of a system check.
    """

    level: Literal["ok", "note", "warning", "error"]
    about: str
    text: str
    hint: str = ""
    id: str | None = None

    @property
    def is_problem(self) -> bool:
        """Whether something is to be done."""
        return self.level in {"warning", "error"}


def tell_findings(found: Iterable[Finding]) -> Report:
    """Report the findings; problems make the exit code 1."""
    findings = tuple(found)
    problems = sum(finding.is_problem for finding in findings)
    summary = f"{problems} problem{'s' if problems != 1 else ''}" if problems else "no problems"
    rows = tuple(row for finding in findings for row in _rows(finding))
    return Report(
        exit_code=DENIED if problems else FINE,
        data={"problems": problems, "findings": [asdict(finding) for finding in findings]},
        parts=(Table(("", "ABOUT", "FOUND, AND WHAT TO DO"), rows), Line(summary, "bad" if problems else "good")),
    )


def _rows(finding: Finding) -> Iterator[tuple[Cell | str, ...]]:
    text = f"{finding.text} ({finding.id})" if finding.id else finding.text
    yield Cell(finding.level, _TONES[finding.level]), finding.about, text
    if finding.hint:
        yield "", "", f"-> {finding.hint}"
