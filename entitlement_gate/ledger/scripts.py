"""What Redis runs: a script for each verb, put together from parts. Never here: who runs it."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files

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


@cache
def script(name: str) -> tuple[str, str]:
    """Return a script, and the hash that Redis names it by."""
    *parts, ending = SCRIPTS[name]
    directory = files("entitlement_gate.ledger")
    text = "\n".join([*(directory.joinpath(f"{part}.lua").read_text("utf-8") for part in parts), ending])
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()
