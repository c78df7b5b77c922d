"""Which gate the process's functions ask while tests run: the settings', the test's own, or one that overrides it.

Global to the process on purpose: live servers answer on other threads. Never here: what these gates answer.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed

from entitlement_gate.api import _as_keywords, _Default
from entitlement_gate.conf import SETTING
from entitlement_gate.testing.overriding import OverridingGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.conf import Settings
    from entitlement_gate.request_gate import RequestGate
    from entitlement_gate.testing.layers import Layer

__all__ = ["billing_by", "forget_billing", "overriding", "pop", "push", "wait_for_signals"]


class _Swapped:
    """What is swapped in. Written under the lock of the default gate.

    Attributes:
        layers: the active overrides, the innermost last.
        make: makes the gate below them; None makes the settings' own.
        kept: that gate, while overrides are active.
    """

    layers: tuple[Layer, ...] = ()
    make: Callable[[Settings], RequestGate] | None = None
    kept: RequestGate | None = None


def push(layer: Layer) -> None:
    """Let an override answer before all others; where an exception strikes, it does not."""
    try:
        with _Default.locked():
            if _Default.make is not _overriding_gate:
                _Swapped.kept, _Default.gate, _Default.make = _Default.gate, None, _overriding_gate
            _Swapped.layers = (*_Swapped.layers, layer)
    except BaseException:
        pop(layer)
        raise


def pop(layer: Layer) -> None:
    """End an override, whatever others have begun or ended since. Again is harmless."""
    try:
        _pop(layer)
    except BaseException:  # an exception struck: it is ended all the same
        _pop(layer)
        raise


def _pop(layer: Layer) -> None:
    with _Default.locked():
        _Swapped.layers = tuple(other for other in _Swapped.layers if other is not layer)
        if not _Swapped.layers and _Default.make is _overriding_gate:
            _Default.gate, _Swapped.kept, _Default.make = _Swapped.kept, None, _Swapped.make


@contextmanager
def overriding(layer: Layer) -> Iterator[Layer]:
    """Let an override answer for the length of a block."""
    push(layer)
    try:
        yield layer
    finally:
        pop(layer)


@contextmanager
def billing_by(make: Callable[[Settings], RequestGate]) -> Iterator[None]:
    """Let ``make`` make the gate below all overrides, for the length of a block."""
    before = _Swapped.make
    try:
        _replace(make)
        yield
    finally:
        _replace(before)


def forget_billing() -> None:
    """Let the gate below all overrides be made anew, with nothing cached."""
    _replace(_Swapped.make)


def wait_for_signals(seconds: float = 30.0) -> None:
    """Wait until the receivers of ``entitlements_refreshed`` and ``source_failed`` have heard of all fetches begun.

    They run on threads of their own, after who waited for the fetch has the answer.

    Raises:
        AssertionError: a receiver, or a fetch, took longer.
    """
    for gate in (_Default.gate, _Swapped.kept):
        if gate is not None and not gate.wait_for_signals(seconds):
            raise AssertionError(f"a fetch or a receiver of its signals was not done after {seconds} seconds")


def _replace(make: Callable[[Settings], RequestGate] | None) -> None:
    with _Default.locked():
        _Swapped.make = make
        if _Swapped.layers:
            gate, _Swapped.kept = _Swapped.kept, None
        else:
            gate, _Default.gate = _Default.gate, None
            _Default.make = make
    if gate is not None:
        gate.close()


def _overriding_gate(settings: Settings) -> RequestGate:
    options = {**_as_keywords(settings.gate), "ledger": None, "redis_url": None}  # an override counts nothing
    return OverridingGate(lambda: _Swapped.layers, **options)


def _forget(*, setting: str, **_: Any) -> None:
    """Drop the gate that waits below the overrides when the settings change, as the default gate is dropped."""
    if setting != SETTING:
        return
    with _Default.locked():
        gate, _Swapped.kept = _Swapped.kept, None
    if gate is not None:
        gate.close()


setting_changed.connect(_forget, dispatch_uid="entitlement_gate.testing")
