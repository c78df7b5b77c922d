"""The pytest plugin: the fixture ``entitlements``, the marker of the same name, and the guard before real billing.

pytest loads it in every project where the package is installed, so it imports neither Django nor httpx nor pydantic
before a test uses it. The guard waits for the import of the client in place of importing it: httpx costs 100 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from entitlement_gate.testing.fake_billing import FakeBilling
    from entitlement_gate.testing.overrides import override_entitlements

__all__ = ["BillingGuard", "advice", "entitlements"]

_MARKER = (
    "entitlements(entitlements={}, /, customer=None, **entitlements): override_entitlements around the test and its "
    "function fixtures: @pytest.mark.entitlements(sso=True, seats=5), or a dict for names that are no keywords."
)
_GUARD = pytest.StashKey["BillingGuard"]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and put the guard up."""
    config.addinivalue_line("markers", _MARKER)
    config.stash[_GUARD] = BillingGuard()
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
    addresses = item.config.stash[_GUARD].take_refused()
    if addresses and report.passed:
        report.outcome = "failed"
        report.longrepr = advice(addresses)
    elif addresses:
        report.sections.append(("entitlement_gate", advice(addresses)))


@pytest.fixture
def entitlements() -> Iterator[FakeBilling]:
    """Run billing in the process, empty at first.

    It has ``grant``, ``revoke``, ``use``, ``expire``, ``fail``, ``recover``, ``freeze`` and ``advance``.
    """
    from entitlement_gate.testing.fake_billing import FakeBilling  # noqa: PLC0415 - on use only

    with FakeBilling() as billing:
        yield billing


@pytest.fixture(autouse=True)
def _entitlements_as_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Apply the overrides of the markers, the closest as the innermost."""
    markers = list(request.node.iter_markers("entitlements"))
    with ExitStack() as stack:
        stack.callback(_forget_gate)
        for marker in reversed(markers):
            stack.enter_context(_override(*marker.args, **marker.kwargs))
        yield


def _forget_gate() -> None:
    """Close the gate after each test: the counts of its sandbox and ledger in memory would reach the next test."""
    api = sys.modules.get("entitlement_gate.api")  # not imported: then there is no gate
    if api is not None:
        api.forget_gate()


def _override(values: object = None, /, customer: object = None, **more: Any) -> override_entitlements:
    from entitlement_gate.testing.overrides import override_entitlements  # noqa: PLC0415 - on use only

    if not (values is None or isinstance(values, Mapping)):
        raise TypeError(
            f"@pytest.mark.entitlements takes keywords or a dict of name to value, such as sso=True, not {values!r}"
        )
    return override_entitlements({**(values or {}), **more}, customer)


_CLIENT = "entitlement_gate.zenskar.client"


class BillingGuard(MetaPathFinder):
    """Stands before every ``ZenskarClient`` of the process from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._addresses: list[str] = []  # that were refused
        self._original: Any = None  # the client, and what `_guard` found in it

    def start(self) -> None:
        """Guard the client, now or as soon as anything imports it."""
        if _CLIENT in sys.modules:
            self._guard(sys.modules[_CLIENT])
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Undo ``start``."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._original is not None:
            client, make = self._original
            client._make_transport = make  # noqa: SLF001 - put back what `_guard` found
            self._original = None

    def take_refused(self) -> list[str]:
        """Return the addresses refused since the last call."""
        addresses, self._addresses = self._addresses, []
        return addresses

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find the client's module as usual, and guard the client once the module has run."""
        if name != _CLIENT:
            return None
        sys.meta_path.remove(self)
        client_spec: Any = find_spec(name)
        client_spec.loader = _ThenLoader(client_spec.loader, self._guard)
        spec: ModuleSpec = client_spec
        return spec

    def _guard(self, module: Any) -> None:
        client = module.ZenskarClient
        make = client._make_transport  # noqa: SLF001 - where a connection begins, and none but real ones

        @wraps(make)
        def guarded(self_: Any) -> Any:
            address = self_.options.base_url
            if not _is_loopback(address):
                self._addresses.append(address)
                raise _make_refusal(address)
            return make(self_)

        client._make_transport = guarded  # noqa: SLF001 - as above
        self._original = client, make


class _ThenLoader(Loader):
    """Runs a module as its own loader does, then does one more thing. That loader may serve other modules too."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)


def advice(addresses: list[str]) -> str:
    """Return the message for a test that would have called billing."""
    return f"""this test would have called billing at {", ".join(sorted(set(addresses)))}, and tests must not.

Say what the customer may do:

    from entitlement_gate.testing import override_entitlements

    with override_entitlements({{"sso": True, "seats": 5}}):
        ...

or mark the test @pytest.mark.entitlements(sso=True), or take the fixture `entitlements`, a billing in the process
that grants what you tell it. For all tests at once, let their settings say
ENTITLEMENT_GATE = {{"BASE_URL": "sandbox:"}} with no API_KEY and no ORGANISATION. A run that is meant to call billing:
pytest -p no:entitlement_gate"""


def _is_loopback(address: str) -> bool:
    from urllib.parse import urlsplit  # noqa: PLC0415 - with the client, which is here by now

    from entitlement_gate.zenskar.client_options import is_loopback  # noqa: PLC0415 - as above

    return is_loopback(urlsplit(address).hostname or "")


def _make_refusal(address: str) -> Exception:
    from entitlement_gate.testing.assertions import RealBillingRefused  # noqa: PLC0415 - an error of ours imports Django

    return RealBillingRefused(f"a test would have called {address}: see override_entitlements")
