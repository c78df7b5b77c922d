"""What a gate is made with, refused early where it cannot work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from entitlement_gate.domain.rule import PerName, Terms
from entitlement_gate.ledger.protocol import Ledger, UsageTarget
from entitlement_gate.resilience.redis_url import read_redis_url
from entitlement_gate.zenskar.client_options import check_at_least_one, check_seconds, is_texts

if TYPE_CHECKING:
    from entitlement_gate.domain.requirements import Requirement

__all__ = ["LEDGER_THREADS", "POLICIES", "GateKeywords", "GateOptions"]

POLICIES = ("deny", "allow")
"""What may become of an answer that could not be learned, or of a balance that is too small."""


LEDGER_THREADS = 16
"""How many questions to a ledger a gate has under way at a time, in each process."""


class GateKeywords(TypedDict, total=False):
    """The keyword arguments of ``EntitlementGate``; their meaning stands at ``GateOptions``."""

    ttl: float
    stale_while_revalidate: float
    stale_if_error: float
    denial_max_age: float
    max_customers: int
    deadline: float
    max_concurrency: int
    on_unavailable: PerName
    on_exhausted: PerName
    null_quantity: PerName
    aliases: Mapping[str, str]
    shadow: bool | Collection[str]
    ledger: Ledger | str | None
    redis_url: str | None
    usage: Mapping[str, Mapping[str, str] | UsageTarget]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """How fresh answers are, how long a check may wait, and what happens where the truth could not be learned.

    Attributes:
        ttl: seconds that data is fresh, ± 10 %, so that customers fetched together part ways.
        stale_while_revalidate: seconds after that in which it is served while one fetch renews it.
        stale_if_error: age in seconds up to which data is served when fetching fails, marked ``stale``.
        denial_max_age: seconds after which data is fetched once more before it denies.
        max_customers: customers held; the least recently refreshed leave first.
        deadline: seconds that a check may wait.
        max_concurrency: fetches at a time.
        on_unavailable: ``"deny"`` or ``"allow"`` where the truth could not be learned; or the word by name,
            ``{"reports": …, "*": …}``.
        on_exhausted: ``"deny"`` or ``"allow"``, as ``overage``, where the balance is too small; or the word by name.
        null_quantity: ``"deny"`` or ``"unlimited"``: what a counted grant without a number means; or the word by name.
        aliases: the name in code to the name or entitlement id in billing.
        shadow: allow what would be refused, and log it: for all (``True``) or for a set of names. Of ``a & b`` with
            only ``a`` in the set, ``b`` is still enforced and used up.
        ledger: what counts here: ``"memory"`` (this process alone), ``"redis"`` (whoever shares ``redis_url``),
            ``"database"`` (the app ``entitlement_gate.usage``), in code also a ``Ledger`` of your own, or ``None``:
            nothing.
        redis_url: ``redis://``, ``rediss://`` or ``unix://``: shared snapshots, fleet-wide fetching and invalidation,
            and the ledger where ``ledger`` is ``"redis"``. Needs ``entitlement_gate[redis]``.
        usage: where committed usage is reported: a name, in code or in billing, to ``{"slug": "api_calls", "field":
            "count"}``, the meter's slug and the field of its data that holds the number.

    Raises:
        ValueError: an option cannot work; the message names it.
    """

    ttl: float = 60
    stale_while_revalidate: float = 60
    stale_if_error: float = 3600
    denial_max_age: float = 5
    max_customers: int = 10_000
    deadline: float = 3.0
    max_concurrency: int = 16
    on_unavailable: PerName = "deny"
    on_exhausted: PerName = "deny"
    null_quantity: PerName = "deny"
    aliases: Mapping[str, str] = field(default_factory=dict)
    shadow: bool | Collection[str] = False
    ledger: Ledger | str | None = "memory"
    redis_url: str | None = field(default=None, repr=False)  # may hold a password
    usage: Mapping[str, Mapping[str, str] | UsageTarget] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seconds("deadline", self.deadline)
        for name in ("ttl", "stale_while_revalidate", "stale_if_error", "denial_max_age"):
            check_seconds(name, getattr(self, name), may_be_zero=True)
        for name in ("max_customers", "max_concurrency"):
            check_at_least_one(name, getattr(self, name))
        _check_words("on_unavailable", self.on_unavailable, POLICIES)
        _check_words("on_exhausted", self.on_exhausted, POLICIES)
        _check_words("null_quantity", self.null_quantity, ("deny", "unlimited"))
        _check_names(self.aliases, self.shadow)
        _check_ledger(self.ledger, self.redis_url)
        _check_connections(self.redis_url, max(self.max_concurrency, LEDGER_THREADS))
        object.__setattr__(self, "usage", _targets(self.usage))

    @property
    def terms(self) -> Terms:
        """The part of the options that the rule itself needs."""
        return Terms(self.aliases, self.on_exhausted, self.null_quantity)

    def target_of(self, *names: str) -> UsageTarget | None:
        """Return where usage of an entitlement is reported, by the first of its names that the option knows."""
        for name in names:
            target = self.usage.get(name) or self.usage.get(self.aliases.get(name, name))
            if isinstance(target, UsageTarget):
                return target
        return None

    def enforced(self, requirement: Requirement) -> Requirement | None:
        """Return what of a requirement is not in shadow; None where every refusal is only noted."""
        return requirement.without(self.is_shadowed) if self.shadow else requirement

    def is_shadowed(self, entitlement: str) -> bool:
        """Whether a refusal of this entitlement, named as in code or in billing, is only noted."""
        if isinstance(self.shadow, bool):
            return self.shadow
        return entitlement in self.shadow or self.aliases.get(entitlement) in self.shadow


def _check_words(name: str, value: object, words: tuple[str, str]) -> None:
    by_name = value if isinstance(value, Mapping) else {"*": value}
    if not all(isinstance(name, str) and isinstance(word, str) and word in words for name, word in by_name.items()):
        raise ValueError(
            f'{name}: "{words[0]}" or "{words[1]}", or a dict of name (or "*") to one of them, not {value!r}'
        )


def _check_names(aliases: object, shadow: object) -> None:
    if not isinstance(aliases, Mapping) or not all(
        isinstance(name, str) and name for pair in aliases.items() for name in pair
    ):
        raise ValueError(f"aliases: a dict of the name in code to the name or id in billing, not {aliases!r}")
    if not (isinstance(shadow, bool) or is_texts(shadow)):
        raise ValueError(f"shadow: True, False or a set of names, not {shadow!r}")


def _check_ledger(ledger: object, redis_url: object) -> None:
    if ledger == "redis" and redis_url is None:
        raise ValueError('ledger: "redis" needs redis_url (in the settings: REDIS_URL)')
    is_ledger = hasattr(ledger, "adopt_upstream") and not isinstance(ledger, type)
    if not is_ledger and ledger not in ("memory", "redis", "database", None):
        raise ValueError(f'ledger: "memory", "redis", "database", a Ledger or None, not {ledger!r}')


def _check_connections(redis_url: object, threads: int) -> None:
    """Refuse fewer connections than threads: redis-py refuses whoever comes when all of them are in use."""
    if redis_url is not None and read_redis_url(redis_url).options.get("max_connections", threads) < threads:
        raise ValueError(f"redis_url: the option max_connections is at least {threads}: so many threads ask at a time")


def _targets(usage: object) -> Mapping[str, UsageTarget]:
    if not isinstance(usage, Mapping):
        raise ValueError(f'usage: a dict of name to {{"slug": …, "field": …}}, not {usage!r}')
    return {name: _target(name, value) for name, value in usage.items()}


def _target(name: object, value: object) -> UsageTarget:
    if isinstance(value, UsageTarget):
        return value
    words = dict(value) if isinstance(value, Mapping) else {}
    is_complete = words.keys() == {"slug", "field"} and all(isinstance(word, str) and word for word in words.values())
    if not isinstance(name, str) or not is_complete:
        raise ValueError(f'usage: for each name {{"slug": …, "field": …}}, two texts, not {value!r} for {name!r}')
    return UsageTarget(words["slug"], words["field"])
