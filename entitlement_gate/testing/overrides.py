"""``override_entitlements``: a context manager and decorator, and the gate that the process uses meanwhile.

An override is a layer of data; while any is active, a gate that never fetches answers by the layers, the innermost
first. Global to the process on purpose: live servers answer on other threads. A decorated class keeps its contexts in
an attribute of its own, so that those of its bases are entered first, and once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from decimal import Decimal
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar
from unittest import TestCase

from django.core.signals import setting_changed

from entitlement_gate.api import _as_keywords, _Default, make_gate
from entitlement_gate.conf import SETTING
from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import EntitlementUnavailable
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.numbers import given_number
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.engine.entitlements import CustomerEntitlements, Entitlement
from entitlement_gate.engine.reservations import Reservation
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.testing.fakes import canonical_customer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from entitlement_gate.conf import Settings
    from entitlement_gate.engine.evaluation import Evaluator
    from entitlement_gate.engine.reservations import ReservationRequest
    from entitlement_gate.resilience.effects import Effects

__all__ = [
    "Layer",
    "OverridingGate",
    "Value",
    "decide_leaf",
    "decorate",
    "override",
    "override_entitlements",
    "pop_layer",
    "push_layer",
    "read_values",
    "reset_billing",
    "use_billing",
    "wait_for_signals",
]

Value = bool | Decimal | Decision | Literal["unavailable"]
"""Yes or no, a balance, a whole decision, or an outage."""

_ZERO = Decimal(0)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """One override; compared by identity, since two alike may be active at once.

    Attributes:
        values: name, alias or entitlement id → what is said of it.
        customer_id: of whom; None is everybody.
        default: what is said of every other name; None is nothing.
        stand_in: the customer of requests that have none; None leaves them without.
        decisions: takes the decisions given while it is active; None takes none.
    """

    values: Mapping[str, Value]
    customer_id: str | None = None
    default: Value | None = None
    stand_in: str | None = None
    decisions: list[Decision] | None = None

    def is_about(self, customer_id: str) -> bool:
        """Whether it says anything of this customer."""
        return self.customer_id in (None, customer_id)

    def find(self, entitlement: str, resolve: Callable[[str], str]) -> Value | None:
        """Return what is said of an entitlement; ``resolve`` gives the name or id that billing has for a name."""
        if entitlement in self.values:
            return self.values[entitlement]
        own_name = resolve(entitlement)
        return next((value for name, value in self.values.items() if resolve(name) == own_name), self.default)


def read_values(values: object) -> dict[str, Value]:
    """Return what a user wrote, checked.

    Raises:
        TypeError: it is no mapping of names.
        ValueError: a value cannot be; the message names the entitlement.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) and name for name in values):
        raise TypeError(f'a dict such as {{"sso": True, "seats": 5}} is needed, not {values!r}')
    return {str(name): _read_value(name, value) for name, value in values.items()}


def decide_leaf(value: Value, leaf: Requirement, customer_id: str) -> Decision:
    """Return the decision on one entitlement, before any policy."""
    if isinstance(value, Decision):
        defaults = {"customer_id": value.customer_id or customer_id, "requested": value.requested or leaf.requested}
        return dataclasses.replace(value, entitlement=leaf.entitlement, **defaults)  # type: ignore[arg-type]  # by name
    fields: dict[str, Any] = {"customer_id": customer_id, "requested": leaf.requested}
    if isinstance(value, Decimal):
        is_enough = value > 0 if leaf.requested is None else value >= leaf.requested
        reason = Reason.OVERRIDE if is_enough else Reason.INSUFFICIENT_QUANTITY
        fields |= {"type": EntitlementType.QUANTITY, "limit": value, "used": _ZERO, "remaining": value}
        return Decision.of(reason, leaf.entitlement, **fields)
    return Decision.of(_REASONS[value], leaf.entitlement, **fields)


_REASONS = {True: Reason.OVERRIDE, False: Reason.NOT_ENTITLED, "unavailable": Reason.UNAVAILABLE}


def _read_value(name: str, value: object) -> Value:
    if isinstance(value, (bool, Decision)):
        return value
    if value == "unavailable":
        return "unavailable"
    number = given_number(value)
    if number is None:
        raise ValueError(f'{name!r}: True, False, a quantity, a Decision or "unavailable", not {value!r}')
    return number


Layers = tuple[Layer, ...]


class OverridingGate(RequestGate):
    """Resolves customers, aliases and policies as the settings say, and decides by the overrides.

    Args:
        layers: gives the active overrides, the innermost last.
        **options: of the gate in the settings.
    """

    def __init__(self, layers: Callable[[], Layers], **options: Any) -> None:
        super().__init__(_NoSource(), **options)
        self._layers = layers

    def decide(self, requirement: Requirement, customer_id: str, layers: Layers = ()) -> Decision:
        """Return the decision by the active overrides; where none is any more, by the ones given."""
        layers = self._layers() or layers
        judge_leaf = partial(self._leaf, customer_id=customer_id, layers=layers)
        decision = requirement.judge(judge_leaf)
        if not decision.allowed:  # a whole decision that allows what is unknown goes before the failure policy
            decision = self._evaluator.settle(requirement, decision, judge_leaf)
        decision = dataclasses.replace(decision, source="override")
        for layer in layers:
            if layer.decisions is not None:
                layer.decisions.append(decision)
        return decision

    def list_names(self, customer_id: str, layers: Layers) -> list[str]:
        """Return the names of a customer's entitlements, as billing spells them where the settings tell."""
        layers = self._layers() or layers
        names = {name for layer in layers if layer.is_about(customer_id) for name in layer.values}
        own_names = {name if canonical_uuid(self._resolve(name)) else self._resolve(name) for name in names}
        return sorted(name for name in own_names if self.is_held(name, customer_id, layers))

    def is_held(self, name: str, customer_id: str, layers: Layers) -> bool:
        """Whether the customer has it in any state, live or not."""
        leaf = self._leaf(Requirement(name), customer_id, self._layers() or layers)
        return leaf.reason is not Reason.NOT_ENTITLED

    def identify(self, customer: object) -> str | Reason:
        """Return whose entitlements are asked for; where there is no customer, an override may name a stand-in."""
        if customer is None:
            customer = next((layer.stand_in for layer in self._layers() if layer.stand_in), None)
        return super().identify(customer)

    def knowing(
        self,
        customer_id: str | Reason,
        due: float,  # noqa: ARG002 - nothing is waited for
        *,
        refresh: bool = False,  # noqa: ARG002 - nothing is ever older than the question
    ) -> Effects[CustomerEntitlements]:
        """Return what the overrides say of the customer."""
        yield from ()
        if isinstance(customer_id, Reason):
            return CustomerEntitlements(None, self._evaluator, customer_id)
        return _OverriddenEntitlements(customer_id, self._evaluator, self, self._layers())

    def deciding(
        self,
        requirement: Requirement,
        entitlements: CustomerEntitlements,
        due: float,  # noqa: ARG002 - nothing is waited for
    ) -> Effects[tuple[Decision, CustomerEntitlements]]:
        """Decide by the overrides: of what a request fetched before they began, the customer alone counts."""
        yield from ()
        if entitlements.customer_id is None:
            return entitlements.decide(requirement), entitlements
        return self.decide(requirement, entitlements.customer_id), entitlements

    def _reserving(
        self,
        request: ReservationRequest,
        customer_id: str,
        due: float,  # noqa: ARG002 - nothing is waited for
    ) -> Effects[tuple[Decision, Reservation | None]]:
        # A test says what is there; how much of it is gone is for `FakeBilling` to count.
        yield from ()
        decision = self.decide(request.requirement, customer_id)
        return decision, Reservation(decision, request.key) if decision.allowed else None

    def _leaf(self, leaf: Requirement, customer_id: str, layers: Layers) -> Decision:
        for layer in reversed(layers):
            value = layer.find(leaf.entitlement, self._resolve) if layer.is_about(customer_id) else None
            if value is not None:
                return decide_leaf(value, leaf, customer_id)
        return decide_leaf(False, leaf, customer_id)  # noqa: FBT003 - the value a user would write

    def _resolve(self, name: str) -> str:
        target = self.options.aliases.get(name, name)
        return canonical_uuid(target) or target


class _OverriddenEntitlements(CustomerEntitlements):
    """What the overrides say of one customer; after they have ended, what they said."""

    def __init__(self, customer_id: str, evaluator: Evaluator, gate: OverridingGate, layers: Layers) -> None:
        super().__init__(None, evaluator)
        self._customer_id = customer_id
        self._gate = gate
        self._layers = layers

    @property
    def customer_id(self) -> str:
        return self._customer_id

    def decide(self, requirement: Requirement) -> Decision:
        return self._gate.decide(requirement, self._customer_id, self._layers)

    def __getitem__(self, name: str) -> Entitlement:
        decision = self.decide(as_requirement(name))
        if decision.outcome is Outcome.UNKNOWN:
            raise EntitlementUnavailable(decision)
        if not self._gate.is_held(name, self._customer_id, self._layers):
            raise KeyError(name)
        return Entitlement(name, decision, ())

    def __iter__(self) -> Iterator[str]:
        return iter(self._gate.list_names(self._customer_id, self._layers))

    def __len__(self) -> int:
        return len(self._gate.list_names(self._customer_id, self._layers))


class _NoSource:
    """The source of a gate that never fetches."""

    def fetch(self, customer_id: str) -> NoReturn:
        raise AssertionError(f"an override is active and {customer_id} was fetched")

    def __repr__(self) -> str:
        return "override_entitlements"


class _Swapped:
    """What is swapped in. Written under the lock of the default gate.

    Attributes:
        layers: the active overrides, the innermost last.
        make: makes the gate below them.
        gate: that gate, while overrides are active.
    """

    layers: tuple[Layer, ...] = ()
    make: Callable[[Settings], RequestGate] = make_gate
    gate: RequestGate | None = None


def push_layer(layer: Layer) -> None:
    """Activate an override, as the innermost; where an exception interrupts this, it is not active."""
    try:
        with _Default.locked():
            if _Default.make is not _make_overriding_gate:
                _Swapped.gate, _Default.gate, _Default.make = _Default.gate, None, _make_overriding_gate
            _Swapped.layers = (*_Swapped.layers, layer)
    except BaseException:  # a time limit, say, that interrupts it
        pop_layer(layer)
        raise


def pop_layer(layer: Layer) -> None:
    """End an override, whichever others are active. Harmless when repeated."""
    try:
        _remove_layer(layer)
    except BaseException:  # an exception interrupted it: it ends all the same
        _remove_layer(layer)
        raise


def _remove_layer(layer: Layer) -> None:
    with _Default.locked():
        _Swapped.layers = tuple(other for other in _Swapped.layers if other is not layer)
        if not _Swapped.layers and _Default.make is _make_overriding_gate:
            _Default.gate, _Swapped.gate, _Default.make = _Swapped.gate, None, _Swapped.make


@contextmanager
def override(layer: Layer) -> Iterator[Layer]:
    """Activate an override for a block."""
    push_layer(layer)
    try:
        yield layer
    finally:
        pop_layer(layer)


@contextmanager
def use_billing(make: Callable[[Settings], RequestGate]) -> Iterator[None]:
    """Make the gate below all overrides by ``make``, for a block."""
    before = _Swapped.make
    try:
        _swap_billing(make)
        yield
    finally:
        _swap_billing(before)


def reset_billing() -> None:
    """Replace the gate below all overrides by a new one, with an empty cache."""
    _swap_billing(_Swapped.make)


def wait_for_signals(seconds: float = 30.0) -> None:
    """Wait until ``entitlements_refreshed`` and ``source_failed`` are sent for all fetches that have begun.

    Receivers run on threads of their own, after the callers that wait for the fetch have their answers.

    Raises:
        AssertionError: a receiver, or a fetch, took longer.
    """
    for gate in (_Default.gate, _Swapped.gate):
        if gate is not None and not gate.wait_for_signals(seconds):
            raise AssertionError(f"a fetch or a receiver of its signals was not done after {seconds} seconds")


def _swap_billing(make: Callable[[Settings], RequestGate]) -> None:
    with _Default.locked():
        _Swapped.make = make
        if _Swapped.layers:
            gate, _Swapped.gate = _Swapped.gate, None
        else:
            gate, _Default.gate = _Default.gate, None
            _Default.make = make
    if gate is not None:
        gate.close()


def _make_overriding_gate(settings: Settings) -> RequestGate:
    options = {**_as_keywords(settings.gate), "ledger": None, "redis_url": None}  # an override counts nothing
    return OverridingGate(lambda: _Swapped.layers, **options)


def _drop_kept_gate(*, setting: str, **_: Any) -> None:
    """Drop the gate that waits below the overrides when the settings change, as the default gate is dropped."""
    if setting != SETTING:
        return
    with _Default.locked():
        gate, _Swapped.gate = _Swapped.gate, None
    if gate is not None:
        gate.close()


setting_changed.connect(_drop_kept_gate, dispatch_uid="entitlement_gate.testing")


Context = AbstractContextManager[Any]

_OWN = "_entitlement_overrides"
_IS_ENTERED = "_entitlement_overrides_are_entered"


def decorate(context: Context, target: Any) -> Any:
    """Return the function or class with the context around each call, or around all of the class.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(target, type):
        setattr(target, _OWN, (context, *_get_own_contexts(target)))
        return _decorate_test_case(target) if issubclass(target, TestCase) else _decorate_pytest_class(target)
    if not callable(target):
        raise TypeError(f"decorates functions and test classes, not {target!r}")
    kinds = (
        (iscoroutinefunction, _wrap_coroutine),
        (isasyncgenfunction, _wrap_async_generator),
        (isgeneratorfunction, _wrap_generator),
    )
    wrap = next((wrap for is_kind, wrap in kinds if is_kind(target)), _wrap_function)
    return wraps(target)(wrap(context, target))


def _wrap_function(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Any:
        with context:
            return target(*args, **kwargs)

    return within


def _wrap_coroutine(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    async def within(*args: Any, **kwargs: Any) -> Any:
        with context:
            return await target(*args, **kwargs)

    return within


def _wrap_generator(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with context:
            yield from target(*args, **kwargs)

    return within


def _wrap_async_generator(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    async def within(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with context:
            async for item in target(*args, **kwargs):
                yield item

    return within


def _decorate_test_case(target: type[TestCase]) -> type[TestCase]:
    """Enter before ``setUpClass`` and leave after ``tearDownClass``: ``setUpTestData`` asks gates too."""
    own = vars(target).get("setUpClass")

    def set_up_class(cls: type[TestCase]) -> None:
        if _IS_ENTERED not in vars(cls):
            stack = _enter_contexts(cls)
            setattr(cls, _IS_ENTERED, True)
            stack.callback(delattr, cls, _IS_ENTERED)
            cls.addClassCleanup(stack.close)
        # Not the inherited function itself, which would skip the siblings in multiple inheritance.
        parent: Any = super(target, cls)
        own.__get__(None, cls)() if own else parent.setUpClass()

    target.setUpClass = classmethod(set_up_class)  # type: ignore[assignment,method-assign]  # the point of it
    return target


def _decorate_pytest_class(target: type) -> type:
    """Enter by an autouse fixture of the class: pytest's own ``setup_method`` and function fixtures are inside."""
    import pytest  # noqa: PLC0415 - only a project that tests with it gets here

    def enter(request: Any) -> Iterator[None]:
        nearest = next((cls for cls in request.cls.__mro__ if _get_own_contexts(cls)), target)
        if nearest is not target and issubclass(request.cls, target):
            yield  # the fixture of the subclass enters these, and its own inside them
            return
        with _enter_contexts(target):
            yield

    name = f"_entitlements_of_{target.__name__}"
    # A static method: pytest deprecates fixtures of a class's scope that take `self`.
    setattr(target, name, pytest.fixture(scope="class", autouse=True, name=name)(staticmethod(enter)))
    return target


def _enter_contexts(target: type) -> ExitStack:
    """Enter the contexts of a class: its bases' first, then from the top of its decorators down."""
    with ExitStack() as stack:
        for cls in reversed(target.__mro__):
            for context in _get_own_contexts(cls):
                stack.enter_context(context)
        return stack.pop_all()


def _get_own_contexts(target: type) -> tuple[Context, ...]:
    own: tuple[Context, ...] = vars(target).get(_OWN, ())
    return own


AnyT = TypeVar("AnyT")


class override_entitlements:  # noqa: N801 - reads as what it does, like Django's override_settings
    """Answer checks as the test says, in every thread of the process, without a call to billing.

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
        self._active: list[Layer] = []

    def __enter__(self) -> Self:
        # A layer for each entry: recursion and threads may share one decorator.
        layer = Layer(values=self._values, customer_id=self._customer_id)
        try:
            push_layer(layer)
            self._active.append(layer)  # after it: another thread that leaves takes whichever is last
        except BaseException:  # as above
            pop_layer(layer)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        layer = self._active[-1]
        try:
            layer = self._active.pop()  # another thread may have ended its own since
            pop_layer(layer)
        except BaseException:  # an exception interrupted it: it ends all the same
            pop_layer(layer)
            raise

    def __del__(self) -> None:
        # Where an exception interrupts the end of the block, nothing else ends the override.
        for layer in self.__dict__.get("_active", ()):
            pop_layer(layer)

    def __call__(self, target: AnyT) -> AnyT:
        """Decorate a function or a class."""
        result: AnyT = decorate(self, target)
        return result

    def __repr__(self) -> str:
        whose = f", customer={self._customer_id!r}" if self._customer_id else ""
        return f"override_entitlements({self._values!r}{whose})"
