"""A local Zenskar billing API that speaks the contract, with switchable faults.

Never here: Django, or any part of the package that the sandbox is there to test.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entitlement_gate.sandbox.core import Sandbox
    from entitlement_gate.sandbox.messages import Reply, Request
    from entitlement_gate.sandbox.scenario import Fault, Scenario, ScenarioError
    from entitlement_gate.sandbox.server import SandboxServer
    from entitlement_gate.sandbox.transport import SandboxTransport

__all__ = [
    "Fault",
    "Reply",
    "Request",
    "Sandbox",
    "SandboxServer",
    "SandboxTransport",
    "Scenario",
    "ScenarioError",
]

_HOMES = {
    "Fault": "scenario",
    "Reply": "messages",
    "Request": "messages",
    "Sandbox": "core",
    "SandboxServer": "server",
    "SandboxTransport": "transport",
    "Scenario": "scenario",
    "ScenarioError": "scenario",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
