"""The error that stands for a call to real billing that a test did not make. Never here: when there is one."""

from __future__ import annotations

from entitlement_gate.domain.errors import SourceRejected

__all__ = ["RealBillingRefused"]


class RealBillingRefused(SourceRejected):
    """A call that tests must not make.

    Counts as a status of 400, which no breaker counts: an open one would hide the same mistake of the next tests.
    """

    def __init__(self, why: str) -> None:
        super().__init__(400, why)
        self.args = (why,)  # of which it is made anew

    def __str__(self) -> str:
        return self.detail
