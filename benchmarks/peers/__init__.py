"""The peers: other libraries that answer "may this customer do this?", each as it is documented to be used.

One module a peer, with ``make(world) -> Contestant``. All of them run here without a network or an account. A rule
engine is given what it needs to know (``plan``) as an attribute of a context that is made before the clock runs.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.contestants import Verified, verify

if TYPE_CHECKING:
    from benchmarks.world import World

__all__ = ["PEERS", "Absent", "Peer", "load", "version_of"]


class Peer(NamedTuple):
    """A library to compare with: the name people know, its distribution, its module here."""

    name: str
    distribution: str
    module: str


class Absent(NamedTuple):
    """A peer that does not take part, and why."""

    name: str
    reason: str


PEERS = (
    Peer("Schematic", "schematichq", "schematic_cache"),
    Peer("GrowthBook", "growthbook", "growthbook_rules"),
    Peer("LaunchDarkly", "launchdarkly-server-sdk", "launchdarkly"),
    Peer("OpenFeature", "openfeature-sdk", "openfeature_memory"),
    Peer("django-waffle", "django-waffle", "waffle_flags"),
    Peer("django-flags", "django-flags", "django_flags"),
    Peer("Unleash", "UnleashClient", "unleash"),
    Peer("Flagsmith", "flagsmith", "flagsmith_local"),
)


def load(world: World) -> tuple[list[Verified], list[Absent]]:
    """Return the peers that answer rightly in this environment, and those that cannot take part."""
    present: list[Verified] = []
    absent: list[Absent] = []
    for peer in PEERS:
        try:
            contestant = import_module(f"{__name__}.{peer.module}").make(world)
            verified = verify(contestant, world)
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way: it is listed with its reason
            absent.append(Absent(peer.name, f"{type(error).__name__}: {error}"))
        else:
            present.append(verified)
    return present, absent


def version_of(distribution: str) -> str:
    """Return the installed version, or that there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
