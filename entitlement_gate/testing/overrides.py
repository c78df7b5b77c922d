"""``override_entitlements``: say what customers may do while a test runs. Never here: how that is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from entitlement_gate.testing.decorating import decorated
from entitlement_gate.testing.layers import Layer, canonical_customer, read_values
from entitlement_gate.testing.swapping import pop, push

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["override_entitlements"]

AnyT = TypeVar("AnyT")


class override_entitlements:  # noqa: N801 - reads as what it does, like Django's override_settings
    """Let checks answer as the test says, in every thread of the process; no call to billing is made meanwhile.

    >>> with override_entitlements({"sso": True, "seats": 5}):  # doctest: +SKIP - needs Django's settings
    ...     has_entitlement(customer, "seats", 5), has_entitlement(customer, "seats", 6)
    (True, False)

    A context manager, and a decorator for functions, coroutine functions, generators (fixtures), ``TestCase`` classes
    and their methods, and pytest's classes and methods. It may be entered again, also while it is active.

    A name that no active override mentions is ``not_entitled``; of several that mention it the innermost answers.
    Customers are resolved as ever (``no_customer`` stands), aliases and entitlement ids too, and ``ON_UNAVAILABLE``
    and ``SHADOW`` apply. Decisions say ``source="override"``.

    Args:
        entitlements: name, alias or entitlement id → ``True`` (whatever quantity is asked for), ``False`` (not
            entitled), a number (what is left; exact), a ``Decision``, or ``"unavailable"`` (an outage).
        customer: of whom; a ``uuid.UUID`` or its text. Everybody by default.

    Raises:
        TypeError: no mapping of names was given.
        ValueError: a value or the customer cannot be.
    """

    def __init__(self, entitlements: Mapping[str, Any], customer: object = None) -> None:
        self._values = read_values(entitlements)
        self._customer_id = None if customer is None else canonical_customer(customer)
        self._entered: list[Layer] = []

    def __enter__(self) -> Self:
        # A layer for each entry: recursion and threads may share one decorator.
        layer = Layer(values=self._values, customer_id=self._customer_id)
        try:
            push(layer)
            self._entered.append(layer)  # after it: another thread that leaves takes whichever is last
        except BaseException:
            pop(layer)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        layer = self._entered[-1]
        try:
            layer = self._entered.pop()  # another thread may have ended its own since
            pop(layer)
        except BaseException:  # an exception struck: it is ended all the same
            pop(layer)
            raise

    def __del__(self) -> None:
        # An exception that strikes as the block ends leaves nobody else who could end it.
        for layer in self.__dict__.get("_entered", ()):
            pop(layer)

    def __call__(self, target: AnyT) -> AnyT:
        """Decorate a function or a class."""
        result: AnyT = decorated(self, target)
        return result

    def __repr__(self) -> str:
        whose = f", customer={self._customer_id!r}" if self._customer_id else ""
        return f"override_entitlements({self._values!r}{whose})"
