"""No test calls real billing: a client that would connect to it is refused, and the test is told to fail.

The client is watched for, not imported: httpx costs 100 ms that a run without any gate does not owe. Never here:
pytest, or anything heavy at import.
"""

from __future__ import annotations

import sys
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = [
    "Guard",
    "advice",
]


_CLIENT = "entitlement_gate.zenskar.client"


class Guard(MetaPathFinder):
    """Stands before every ``ZenskarClient`` of the process from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._refused: list[str] = []
        self._guarded: Any = None

    def start(self) -> None:
        """Guard the client, now or as soon as anything imports it."""
        if _CLIENT in sys.modules:
            self._guard(sys.modules[_CLIENT])
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Leave everything as it was."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._guarded is not None:
            client, make = self._guarded
            client._made_network = make  # noqa: SLF001 - put back what `_guard` found
            self._guarded = None

    def taken(self) -> list[str]:
        """Return the addresses refused since the last time it was asked."""
        refused, self._refused = self._refused, []
        return refused

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Let the client be found as ever, and be guarded when it has been run."""
        if name != _CLIENT:
            return None
        sys.meta_path.remove(self)
        spec: Any = find_spec(name)
        spec.loader = _Then(spec.loader, self._guard)
        found: ModuleSpec = spec
        return found

    def _guard(self, module: Any) -> None:
        client = module.ZenskarClient
        make = client._made_network  # noqa: SLF001 - where a connection begins, and none but real ones

        @wraps(make)
        def guarded(self_: Any) -> Any:
            address = self_.options.base_url
            if not _is_loopback(address):
                self._refused.append(address)
                raise _refusal(address)
            return make(self_)

        client._made_network = guarded  # noqa: SLF001 - as above
        self._guarded = client, make


class _Then(Loader):
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
    """Return what a test that would have called billing is told."""
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

    from entitlement_gate.zenskar import options  # noqa: PLC0415 - as above

    return options._is_loopback(urlsplit(address).hostname or "")  # noqa: SLF001 - the client's own idea of it


def _refusal(address: str) -> Exception:
    from entitlement_gate.testing.assertions import RealBillingRefused  # noqa: PLC0415 - an error of ours imports Django

    return RealBillingRefused(f"a test would have called {address}: see override_entitlements")
