"""Names: which are near, and a module of them for code to import. Pure."""

from __future__ import annotations

import difflib
import keyword
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "enum_source", "nearest"]

_MOST = 3
_CUTOFF = 0.6
_HEAD = '''"""What billing lists, spelled as billing spells it.

Written by `manage.py entitlements names`; write it again when billing changes.
"""

from enum import StrEnum

__all__ = ["Entitlements"]


class Entitlements(StrEnum):
    """Every entitlement; a member is accepted wherever a name is."""

'''


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the known names that somebody who wrote ``name`` may have meant, nearest first.

    Case, blanks, hyphens and underscores count for nothing; a name is not near to itself.
    """
    folded: dict[str, list[str]] = {}
    for other in sorted(set(known) - {name}):
        folded.setdefault(_folded(other), []).append(other)
    found = difflib.get_close_matches(_folded(name), folded, n=_MOST, cutoff=_CUTOFF)
    return tuple(other for key in found for other in folded[key])[:_MOST]


def did_you_mean(near: Iterable[str]) -> str:
    """Return the question, or nothing where nothing is near."""
    quoted = [repr(name) for name in near]
    return f"Did you mean {' or '.join(quoted)}?" if quoted else ""


def enum_source(names: Iterable[str]) -> str:
    """Return Python source of a ``StrEnum`` with a member for each name."""
    members: dict[str, str] = {}
    for name in sorted(set(names)):
        members[_free(_member(name), members)] = name
    lines = [f"    {member} = {_quoted(name)}\n" for member, name in members.items()]
    return _HEAD + ("".join(lines) or "    pass\n")


def _folded(name: str) -> str:
    return re.sub(r"[\s_\-.:/]+", "", name).casefold()


def _member(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    member = re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_").upper() or "UNNAMED"
    return f"N{member}" if member[0].isdigit() else member


def _free(member: str, taken: Iterable[str]) -> str:
    free, number = member, 1
    while free in taken or keyword.iskeyword(free):
        number += 1
        free = f"{member}_{number}"
    return free


def _quoted(name: str) -> str:
    """Return the literal as a formatter would leave it: in double quotes where that needs no escape."""
    return repr(name) if '"' in name else f'"{repr(chr(39) + name)[2:]}'
