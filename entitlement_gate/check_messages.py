"""Every system check: its id, what it finds, and what to do. When it does find something is in ``checks``.

The reference is made of this; an id is never used again for another thing.
"""

from __future__ import annotations

from enum import Enum, unique

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

__all__ = ["Check"]


@unique
class Check(Enum):
    """What can be found: below each id what that is, beside it what to do. An ``E`` is an error, a ``W`` a warning."""

    E001 = "change the key that the message names"
    """the settings are missing, a value cannot work, or the sandbox's scenario, which `BASE_URL` names, cannot be
    read
    """

    E002 = "take the name that the hint gives"
    """a key of `ENTITLEMENT_GATE` does not exist"""

    E003 = "correct the dotted path, or the arguments"
    """`SOURCE`, `CUSTOMER_RESOLVER`, `DENIED_HANDLER` or `WEBHOOK_VERIFIER` leads nowhere, or cannot be called; one of
    them, or a callable in `API_KEY`, `ORGANISATION` or `UPGRADE_URL`, does not take what it is called with; the same of
    `key`, `customer` and `on_denied` in a rule; a URLconf of `URLCONFS` cannot be imported
    """

    E004 = "add `entitlement_gate.middleware.EntitlementMiddleware` below the authentication middleware"
    """there are `RULES`, and no middleware to enforce them"""

    E005 = (
        "install `entitlement_gate[redis]`; or add `entitlement_gate.usage` to `INSTALLED_APPS` and route it to "
        "such a database"
    )
    """`REDIS_URL` is set without the package; or `LEDGER` is `"database"` without the app, without a database, or with
    one that is neither PostgreSQL nor SQLite
    """

    E006 = 'set `LEDGER` to `"redis"`, `"database"` or `"memory"`, or take `consume=True` away'
    """a gate or a rule uses something up (`consume=True`), and `LEDGER` is `None`: each request would be a 500"""

    E007 = "write `@method_decorator(requires_entitlement(…))`, or gate the class"
    """a method of a view class is gated by `@requires_entitlement` itself, which takes its instance for the request:
    each request would be a 500. Most such gates are refused where they are decorated; this finds the rest
    """

    W001 = "move it below: a customer is found through the signed-in user"
    """the middleware stands above `AuthenticationMiddleware`"""

    W002 = "name the billing API: the sandbox answers from a file"
    """billing is the sandbox, outside `DEBUG`"""

    W003 = "the hint says how to write it"
    """a rule matches no request: it names a view or namespace that no URL of `ROOT_URLCONF` and `URLCONFS` has, a path
    that begins without a slash, or as no URL of theirs does (looked at where all middleware is Django's and none is for
    flat pages), or methods that HTTP does not have
    """

    W004 = "name where a user's Zenskar customer id is kept, or set `CUSTOMER_RESOLVER`"
    """the user model has no such attribute as `CUSTOMER_ATTRIBUTE`, so nobody has a customer"""

    W005 = 'set `LEDGER` to `"redis"` or `"database"`, or to `None` where nothing is used up here'
    """the ledger is in memory, outside `DEBUG`: each process counts for itself"""

    W006 = 'set `LEDGER` to `"redis"` or `"database"`'
    """`USAGE` is set with a ledger that the `ship` command cannot reach"""

    W007 = 'add `entitlement_gate.middleware.EntitlementMiddleware`, or take `on_denied="raise"` away'
    """a gate raises for refused requests (`on_denied="raise"`), and there is no middleware to answer: an outage would
    be a plain 500
    """

    W008 = 'take PostgreSQL, `LEDGER = "redis"`, or `ATOMIC_REQUESTS` away'
    """the ledger is in SQLite, where `ATOMIC_REQUESTS` keeps the only place to write: a view that uses something up
    waits for itself
    """

    W010 = "move it below `entitlement_gate.middleware.EntitlementMiddleware`"
    """a middleware stands above and answers by itself what rules about paths are about: the one for flat pages;
    WhiteNoise, where a rule is about a path under `STATIC_URL`
    """

    W011 = "name a URL as for `reverse()`, one that takes no arguments, or write an address: `/plans/`"
    """a refusal leads nowhere: no URL has the name in `on_denied` of a gate or a rule, in `UPGRADE_URL`, or, with
    `ANONYMOUS = "login"`, in `LOGIN_URL`; or it takes arguments. Until that is mended the refusal is told plainly, or
    without the link, and logged
    """

    W012 = "lead to a page without such a gate, or leave `on_denied` away at the gate there"
    """whom a gate or a rule refuses is led (`on_denied`) to a page whose gates or rules lead back"""

    W013 = (
        "leave `PRIVATE_RESPONSES` on and let no gated view say `public` or `s-maxage`, nor keep its pages by a "
        "`cache_page` below the gate without a `key_prefix` of its own; then silence the check"
    )
    """a middleware that caches pages (Django's `UpdateCacheMiddleware`, `CacheMiddleware`) stands above gated views:
    what it kept goes to everybody
    """

    @property
    def id(self) -> str:
        """The id that ``SILENCED_SYSTEM_CHECKS`` takes."""
        return f"entitlement_gate.{self.name}"

    def message(self, text: str, hint: str = "") -> CheckMessage:
        """Return what ``manage.py check`` shows; the hint is the remedy in general where none fits better here."""
        general = self.value.replace("`", "")
        kind = Error if self.name.startswith("E") else CheckWarning
        return kind(text, hint=hint or f"{general[0].upper()}{general[1:]}.", id=self.id)
