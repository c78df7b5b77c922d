"""Assertions that a view is gated, or not, and the error for a call to real billing that a test did not make.

Each makes two requests: with everything granted but the entitlement, and with everything granted. So decorators,
mixins, rules and checks inside the view are all found alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.shortcuts import resolve_url
from django.test import AsyncClient, Client
from django.utils.html import escape

from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.errors import EntitlementDenied, SourceRejected
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.guard import is_answered
from entitlement_gate.responses import is_login_url, status_of
from entitlement_gate.testing.overrides import Layer, override

__all__ = ["RealBillingRefused", "aassert_gated", "aassert_not_gated", "assert_gated", "assert_not_gated"]


class RealBillingRefused(SourceRejected):
    """A call that tests must not make.

    Counts as a status of 400, which no breaker counts: an open one would hide the same mistake of the next tests.
    """

    def __init__(self, why: str) -> None:
        super().__init__(400, why)
        self.args = (why,)  # a copy is made of these

    def __str__(self) -> str:
        return self.detail


_SOMEBODY = "00000000-0000-4000-8000-00000000abcd"
_REFUSED = 400


def assert_gated(*client_url_entitlement: Any, method: str = "get", **request: Any) -> None:
    """Assert that a URL is refused without the entitlement, and let in with it.

    >>> assert_gated("/reports/", "reports")  # doctest: +SKIP - needs a project
    >>> assert_gated(client, "reports:export", "export", method="post")  # doctest: +SKIP - as above

    Args:
        *client_url_entitlement: optionally a test client (one that is logged in, where the view asks for that), the
            URL or its name, and the name of the entitlement or a ``Requirement``.
        method: of the request. The view runs once, with everything granted.
        **request: what the client's method takes: ``data``, ``headers`` …

    Raises:
        AssertionError: it is not, or that cannot be found out.
    """
    __tracebackhide__ = True
    trial = _Trial.of(Client, client_url_entitlement)
    _check_gated(trial, *(trial.send(layer, method, request) for layer in trial.layers))


async def aassert_gated(*client_url_entitlement: Any, method: str = "get", **request: Any) -> None:
    """Assert it through an ``AsyncClient``; see ``assert_gated``."""
    __tracebackhide__ = True
    trial = _Trial.of(AsyncClient, client_url_entitlement)
    _check_gated(trial, *[await trial.asend(layer, method, request) for layer in trial.layers])


def assert_not_gated(*client_url_entitlement: Any, method: str = "get", **request: Any) -> None:
    """Assert that a URL is let in without the entitlement; arguments as those of ``assert_gated``."""
    __tracebackhide__ = True
    trial = _Trial.of(Client, client_url_entitlement)
    _check_not_gated(trial, *(trial.send(layer, method, request) for layer in trial.layers))


async def aassert_not_gated(*client_url_entitlement: Any, method: str = "get", **request: Any) -> None:
    """Assert it through an ``AsyncClient``; see ``assert_not_gated``."""
    __tracebackhide__ = True
    trial = _Trial.of(AsyncClient, client_url_entitlement)
    _check_not_gated(trial, *[await trial.asend(layer, method, request) for layer in trial.layers])


@dataclass(frozen=True, slots=True)
class _Visit:
    """What a request was answered, and what was decided for it."""

    status: int
    location: str | None
    decisions: tuple[Decision, ...]
    text: str = ""

    @property
    def answer(self) -> str:
        """What somebody in front of it sees, for comparing and for messages."""
        return f"HTTP {self.status}" + (f" to {self.location}" if self.location else "")

    @property
    def is_to_log_in(self) -> bool:
        """Whether somebody is sent to the login page."""
        return self.location is not None and is_login_url(self.location)

    @property
    def names(self) -> str:
        """The entitlements that were asked for, for messages."""
        return ", ".join(sorted({repr(decision.entitlement) for decision in self.decisions})) or "nothing"

    @property
    def denial(self) -> Decision | None:
        """The denial whose exception is what is answered: somebody caught it who does not know what to answer."""
        denials = (decision for decision in self.decisions if decision.outcome is Outcome.DENIED)
        return next((decision for decision in denials if self._shows(str(EntitlementDenied(decision)))), None)

    def _shows(self, text: str) -> bool:
        return any(form in self.text for form in (text, escape(text), json.dumps(text)[1:-1]))

    def is_refused(self, without_it: _Visit) -> bool:
        """Whether the other visit, which lacked an entitlement, was turned away for that."""
        is_denied = any(decision.outcome is Outcome.DENIED for decision in without_it.decisions)
        return is_denied and (without_it.status >= _REFUSED or without_it.answer != self.answer)


@dataclass(frozen=True, slots=True)
class _Trial:
    """One URL, one client and one entitlement."""

    client: Any
    url: str
    requirement: Requirement

    @classmethod
    def of(cls, client_class: type, arguments: tuple[Any, ...]) -> _Trial:
        client, url, entitlement = arguments if len(arguments) == 3 else (client_class(), *arguments)  # noqa: PLR2004 - all of them
        return cls(client, resolve_url(url), as_requirement(entitlement))

    @property
    def layers(self) -> tuple[Layer, Layer]:
        """Everything but the entitlement, and everything."""
        without = {leaf.entitlement: False for leaf in self.requirement.leaves()}
        return tuple(Layer(values=values, default=True, stand_in=_SOMEBODY, decisions=[]) for values in (without, {}))  # type: ignore[return-value]  # two of them

    def send(self, layer: Layer, method: str, request: dict[str, Any]) -> _Visit:
        with override(layer):
            return _make_visit(getattr(self.client, method)(self.url, **request), layer)

    async def asend(self, layer: Layer, method: str, request: dict[str, Any]) -> _Visit:
        with override(layer):
            return _make_visit(await getattr(self.client, method)(self.url, **request), layer)


def _make_visit(response: Any, layer: Layer) -> _Visit:
    """Return what came of a request; its text only where the answer is not the one that a refusal gets here."""
    request = getattr(response, "wsgi_request", None) or getattr(response, "asgi_request", None)
    content = b"" if is_answered(request) else getattr(response, "content", b"")
    location, decisions = response.headers.get("Location"), tuple(layer.decisions or ())
    return _Visit(response.status_code, location, decisions, content.decode(errors="replace"))


def _check_gated(trial: _Trial, without: _Visit, full: _Visit) -> None:
    __tracebackhide__ = True
    _check_tellable(trial, full)
    if without.denial is not None:
        raise AssertionError(
            f"{trial.url} answers {without.answer} with the text of EntitlementDenied: a framework caught it that does "
            f"not know it. The answer of a refusal is HTTP {status_of(without.denial)}, and says what can be done"
        )
    if full.is_refused(without):
        return
    what = f"{trial.url} is not gated by {trial.requirement!r}: without it the answer is {without.answer}"
    raise AssertionError(f"{what}; what was asked: {without.names}")


def _check_not_gated(trial: _Trial, without: _Visit, full: _Visit) -> None:
    __tracebackhide__ = True
    _check_tellable(trial, full)
    if full.is_refused(without):
        raise AssertionError(
            f"{trial.url} is gated by {trial.requirement!r}: without it the answer is {without.answer}"
        )


def _check_tellable(trial: _Trial, full: _Visit) -> None:
    __tracebackhide__ = True
    if full.is_to_log_in:
        raise AssertionError(
            f"{trial.url} answers {full.answer} with every entitlement granted: it sends people to log in. Give a "
            "client that is logged in."
        )
    if full.status >= _REFUSED:
        raise AssertionError(
            f"{trial.url} answers {full.answer} with every entitlement granted: something else refuses it. Does it "
            "need a client that is logged in, another method, or data?"
        )
