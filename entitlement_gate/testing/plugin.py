"""The pytest plugin: the fixture ``entitlements``, the marker of the same name, and the guard before real billing.

pytest loads it in every project where the package is installed. Never here: an import that costs anything before a
test uses it; neither Django nor httpx nor pydantic.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from entitlement_gate.testing.network_guard import Guard, advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.testing.billing import FakeBilling
    from entitlement_gate.testing.overrides import override_entitlements

__all__ = ["entitlements"]

_MARKER = (
    "entitlements(entitlements={}, /, customer=None, **entitlements): override_entitlements around the test and its "
    "function fixtures: @pytest.mark.entitlements(sso=True, seats=5), or a dict for names that are no keywords."
)
_GUARD = pytest.StashKey[Guard]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and put the guard up."""
    config.addinivalue_line("markers", _MARKER)
    config.stash[_GUARD] = Guard()
    config.stash[_GUARD].start()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the guard down."""
    config.stash[_GUARD].stop()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail a phase that would have called real billing.

    Not where the call is made: that is a worker of the gate or a thread of a live server, and the gate answers an
    error of its source by the failure policy.
    """
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    refused = item.config.stash[_GUARD].taken()
    if refused and report.passed:
        report.outcome = "failed"
        report.longrepr = advice(refused)
    elif refused:
        report.sections.append(("entitlement_gate", advice(refused)))


@pytest.fixture
def entitlements() -> Iterator[FakeBilling]:
    """Run billing in the process, empty at first.

    It has ``grant``, ``revoke``, ``use``, ``expire``, ``fail``, ``recover``, ``freeze`` and ``advance``.
    """
    from entitlement_gate.testing.billing import FakeBilling  # noqa: PLC0415 - on use only

    with FakeBilling() as billing:
        yield billing


@pytest.fixture(autouse=True)
def _entitlements_as_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Override what the markers say, the closest innermost."""
    markers = list(request.node.iter_markers("entitlements"))
    with ExitStack() as stack:
        stack.callback(_forget_the_gate)
        for marker in reversed(markers):
            stack.enter_context(_override(*marker.args, **marker.kwargs))
        yield


def _forget_the_gate() -> None:
    """Let the next test begin with a gate of its own: what the sandbox and a ledger in memory count leaks otherwise."""
    api = sys.modules.get("entitlement_gate.api")  # not imported: then nothing was asked
    if api is not None:
        api.forget_gate()


def _override(values: object = None, /, customer: object = None, **named: Any) -> override_entitlements:
    from entitlement_gate.testing.overrides import override_entitlements  # noqa: PLC0415 - on use only

    if not (values is None or isinstance(values, Mapping)):
        raise TypeError(
            f"@pytest.mark.entitlements takes keywords or a dict of name to value, such as sso=True, not {values!r}"
        )
    return override_entitlements({**(values or {}), **named}, customer)
