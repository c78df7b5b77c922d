"""A local Zenskar billing API that speaks the contract, with switchable faults.

It imports neither Django nor any part of the package that it is there to test.
"""

from typing import TYPE_CHECKING

from entitlement_gate.exports import export

if TYPE_CHECKING:
    from entitlement_gate.sandbox.core import Sandbox
    from entitlement_gate.sandbox.messages import Reply, Request
    from entitlement_gate.sandbox.scenario import Fault, Scenario, ScenarioError
    from entitlement_gate.sandbox.server import SandboxServer
    from entitlement_gate.sandbox.transport import SandboxTransport

__all__ = ["Fault", "Reply", "Request", "Sandbox", "SandboxServer", "SandboxTransport", "Scenario", "ScenarioError"]

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
__getattr__, __dir__ = export(__name__, _HOMES)
