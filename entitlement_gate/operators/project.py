"""What a doctor finds in a project's own settings and code. Never here: reaching billing (``doctor``)."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.checks import ERROR, WARNING, run_checks

from entitlement_gate.conf import get_settings
from entitlement_gate.operators.doctor import Finding, NameInCode
from entitlement_gate.operators.gates import all_gates
from entitlement_gate.operators.names_in_calls import calls_in
from entitlement_gate.operators.reports import DENIED, FINE, Cell, Line, Report, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.checks import CheckMessage

    from entitlement_gate.operators.gates import Gate

__all__ = [
    "names_in_code",
    "settings_findings",
    "tell_gates",
]


_TAG = "entitlement_gate"


def settings_findings() -> Iterator[Finding]:
    """Yield what the system checks say of this library's settings."""
    messages = run_checks(tags=[_TAG])
    for message in messages:
        yield _checked(message)
    if not messages:
        yield Finding("ok", "settings", "the system checks find nothing")


def names_in_code() -> list[NameInCode]:
    """Return every literal name that gates, settings and plain calls ask for."""
    gated = [NameInCode(name, gate.where) for gate in all_gates() for name in gate.names]
    return [*gated, *_names_in_settings(), *calls_in(_own_folders())]


def tell_gates(*, only_ungated: bool, of_packages: bool = False, excluded: Sequence[str] = ()) -> Report:
    """Report every gate, or the views that have none: then there is something to look at.

    Args:
        only_ungated: leave out what is gated.
        of_packages: tell also of ungated views of the admin and of other packages.
        excluded: shell patterns of routes and names of views to leave out.
    """
    every = [gate for gate in all_gates() if not _is_named(gate, excluded)]
    kept = [gate for gate in every if of_packages or gate.is_own or gate.requires]
    listed = [gate for gate in kept if gate.is_ungated or not only_ungated]
    views, ungated = sum(gate.kind == "view" for gate in kept), sum(gate.is_ungated for gate in kept)
    left_out = len(every) - len(kept)
    data = {"gates": [_gate_data(gate) for gate in listed], "views": views, "ungated": ungated, "left_out": left_out}
    nothing = Line("every view is gated or exempt" if only_ungated else "no views, no gates")
    table = Table(("GATED", "REQUIRES", "BY", "WHERE"), tuple(_gate_row(gate) for gate in listed))
    parts: tuple[Line | Table, ...] = (table, Line(f"{ungated} of {views} views ungated")) if listed else (nothing,)
    if left_out:
        parts = (*parts, Line(f"{left_out} views of the admin and of other packages left out: --all lists them"))
    return Report(exit_code=DENIED if only_ungated and ungated else FINE, data=data, parts=parts)


def _is_named(gate: Gate, patterns: Sequence[str]) -> bool:
    """Whether a view's route or name fits one of the patterns."""
    names = (gate.what.partition(" [")[0], gate.name) if gate.kind == "view" else ()
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _checked(message: CheckMessage) -> Finding:
    level = message.level
    word = "error" if level >= ERROR else "warning" if level >= WARNING else "note"
    return Finding(word, "settings", str(message.msg), str(message.hint or ""), message.id)  # type: ignore[arg-type]  # one of the words


def _names_in_settings() -> Iterator[NameInCode]:
    options = get_settings().gate
    for key in ("aliases", "on_unavailable", "on_exhausted", "null_quantity", "shadow", "usage"):
        value = getattr(options, key)
        names = value if isinstance(value, Mapping) or (key == "shadow" and not isinstance(value, bool)) else ()
        for name in names:
            if name != "*":
                yield NameInCode(name, f"ENTITLEMENT_GATE[{key.upper()!r}]")


def _own_folders() -> list[Path]:
    """Return the folders of the project's own apps: not of what is installed, nor this library's."""
    installed = {Path(sysconfig.get_paths()[key]).resolve() for key in ("purelib", "platlib", "stdlib")}
    folders = [Path(config.path).resolve() for config in apps.get_app_configs() if config.name != _TAG]
    return [folder for folder in folders if not installed.intersection(folder.parents)]


def _gate_data(gate: Gate) -> dict[str, object]:
    return {
        "kind": gate.kind,
        "what": gate.what,
        "name": gate.name or None,
        "requires": list(gate.requires),
        "by": list(gate.by),
        "where": gate.where,
        "gated": not gate.is_ungated,
    }


def _gate_row(gate: Gate) -> tuple[Cell | str, ...]:
    what = f"{gate.what} ({gate.name})" if gate.name else gate.what
    requires = Cell("nothing", "warning") if gate.is_ungated else Cell(", ".join(gate.requires))
    return what, requires, ", ".join(gate.by), gate.where
