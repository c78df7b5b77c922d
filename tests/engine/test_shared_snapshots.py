import builtins

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.shared.records import Seal
from tests.engine.fakes import Billing


class Sealed(Billing):
    def seal(self):
        return Seal("key", "organisation")


def test_without_a_url_nothing_is_shared(gate):
    assert gate._snapshots._shared is None
    assert "shared" not in gate.health()


def test_a_source_that_cannot_say_whose_its_snapshots_are_is_refused():
    with pytest.raises(ValueError, match=r"redis_url: snapshots of Billing cannot be shared: it has no method seal"):
        EntitlementGate(Billing(), redis_url="redis://127.0.0.1:1/0")


def test_such_a_source_shares_nothing_where_the_url_serves_the_ledger():
    gate = EntitlementGate(Billing(), redis_url="redis://127.0.0.1:1/0", ledger="redis")
    assert gate._snapshots._shared is None
    assert "shared" not in gate.health()
    gate.close()


def test_without_redis_py_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **how):
        if name.startswith(("redis", "entitlement_gate.shared.s")):
            raise ImportError("No module named 'redis'")
        return real(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"entitlement_gate\[redis\]: No module named 'redis'"):
        EntitlementGate(Sealed(), redis_url="redis://127.0.0.1:1/0", ledger=None)


def test_a_url_that_cannot_be_read_is_refused_without_being_quoted():
    with pytest.raises(ValueError, match="redis_url: a URL such as") as error:
        EntitlementGate(Sealed(), redis_url="redis://:secret@127.0.0.1:secret", ledger=None)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
