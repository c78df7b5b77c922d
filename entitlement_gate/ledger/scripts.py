"""What Redis runs: a script for each verb, put together from parts. Never here: who runs it."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files

from entitlement_gate.redis_client import on_primary

__all__ = ["SCRIPTS", "script"]

SCRIPTS: dict[str, tuple[str, ...]] = {
    "reserve": ("opening", "rule", "reserve", "return done(reserve)"),
    "consume": ("opening", "rule", "reserve", "settle", "consume", "return done(consume)"),
    "commit": ("opening", "settle", "return done(commit)"),
    "release": ("opening", "settle", "return done(release)"),
    "extend": ("opening", "settle", "return done(extend)"),
    "adopt": ("opening", "rule", "news", "return done(adopt_all)"),
    "charges": ("opening", "rule", "news", "return done(charges, told)"),
    "outbox": ("outbox", ""),
}
"""The parts of each script, files but for the last: a verb pays for what it needs, and no more."""

_CONSTANTS = re.compile(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = ([^({\n]+?)(?: --.*)?$", re.MULTILINE)


@cache
def script(name: str) -> tuple[str, str]:
    """Return a script, and the hash that Redis names it by."""
    *parts, ending = SCRIPTS[name]
    text = on_primary(_put_in("\n".join([*map(_read, parts), ending])), hash_key=1)
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


def _read(part: str) -> str:
    return files("entitlement_gate.ledger").joinpath(f"{part}.lua").read_text("utf-8")


def _put_in(text: str) -> str:
    """Put constants in where they are used: each that a function has from outside costs time in every run."""
    values: dict[str, str] = {}
    for names, given in _CONSTANTS.findall(text):
        values.update(zip(names.split(", "), given.split(", "), strict=True))
    used = re.compile(r"\b(" + "|".join(values or ["$"]) + r")\b")
    return used.sub(lambda name: values[name[0]], _CONSTANTS.sub("", text))
