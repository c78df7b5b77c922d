"""An exception may strike at every line: whatever is half done then, the next check and reservation are right."""

import time
import uuid
from contextlib import contextmanager, nullcontext

import pytest

from entitlement_gate import EntitlementGate, check_entitlement, has_entitlement
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.shared.records import Seal
from entitlement_gate.testing import FakeSource, override_entitlements
from entitlement_gate.testing.fakes import MovableClock
from tests.engine.fakes import eventually
from tests.lab.striking import strike_everywhere
from tests.ledger.clocks import pass_time_in_redis
from tests.ledger.servers import RedisServer

ANNA = "10000000-0000-4000-8000-000000000001"
BERT = "20000000-0000-4000-8000-000000000002"
DEADLINE = 5.0  # generous: a strike that is not recovered from costs all of it


class World:
    """A gate over a source in memory."""

    def __init__(self, source=None, customers=(ANNA, BERT), **options):
        self.anna, self.bert = customers
        self.clock = MovableClock()
        self.source = source or FakeSource(clock=self.clock)
        for customer in (self.anna, self.bert):
            self.source.grant(customer, "sso")
            self.source.grant(customer, "calls", 5)
        self.gate = EntitlementGate(self.source, **{"deadline": DEADLINE, "clock": self.clock, **options})


@contextmanager
def cold():
    world = World()
    yield world
    world.gate.close()


@contextmanager
def warm():
    """A gate that has a thread, and knows Anna."""
    world = World()
    assert world.gate.has(world.anna, "sso")
    yield world
    world.gate.close()


def check_both(world):
    """Both customers are answered rightly, and newly invalidated as well, each within the deadline."""
    for customer in (world.anna, world.bert):
        for refresh in (False, True):
            began = time.monotonic()
            decision = world.gate.check(customer, "sso", refresh=refresh)
            assert decision.reason == "allowed", decision.reason
            assert time.monotonic() - began < DEADLINE, "too late"
    world.source.revoke(world.anna, "sso")
    world.gate.invalidate(world.anna)
    assert not world.gate.has(world.anna, "sso")
    assert world.gate.has(world.bert, "sso")
    reservable(world)


def reservable(world):
    world.gate.reserve(world.bert, "calls", 5).release()


ACTS = {
    "check": lambda world: world.gate.check(world.anna, "sso"),
    "has": lambda world: world.gate.has(world.anna, "sso"),
    "another": lambda world: world.gate.check(world.bert, "sso"),
    "quantity": lambda world: world.gate.check(world.anna, "calls", 2),
    "refresh": lambda world: world.gate.check(world.anna, "sso", refresh=True),
    "get": lambda world: world.gate.get(world.anna).check("sso"),
    "invalidate": lambda world: world.gate.invalidate(world.anna),
}


@pytest.mark.parametrize("world", [cold, warm])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_next_check_is_right_wherever_one_was_struck(world, act):
    assert strike_everywhere(world, act, check_both)


@contextmanager
def used():
    """A customer who has used something up, and a hold that has run out and was not yet looked at."""
    world = World()
    world.gate.consume(world.anna, "calls", 1, key="before")
    world.gate.reserve(world.anna, "calls", 2, ttl=10)
    world.clock.advance(11)
    yield world
    world.gate.close()


def reserve_and_commit(world):
    with world.gate.reserve(world.anna, "calls", 2, key="k", ttl=60):
        pass


def reserve_and_release(world):
    world.gate.reserve(world.anna, "calls", 2, key="k", ttl=60).release()


def counted_exactly(world):
    """What is held returns with its time, what is counted is counted once, and a retry by the key says which."""
    world.clock.advance(61)
    left = world.gate.check(world.anna, "calls", refresh=True).remaining
    assert left in {2, 4}, left
    world.gate.consume(world.anna, "calls", 2, key="k")
    assert world.gate.check(world.anna, "calls").remaining == 2
    with world.gate.reserve(world.anna, "calls", 2):
        pass
    assert world.gate.check(world.anna, "calls").remaining == 0
    reservable(world)
    check_both(world)


USES = {
    "consume": lambda world: world.gate.consume(world.anna, "calls", 2, key="k"),
    "commit": reserve_and_commit,
    "release": reserve_and_release,
}


@pytest.mark.parametrize("act", USES.values(), ids=USES)
def test_what_is_used_up_is_counted_once_or_not_at_all_wherever_a_use_was_struck(act):
    assert strike_everywhere(used, act, counted_exactly) > 300


@contextmanager
def grown_old():
    """A gate whose data is old enough to be looked at again before it denies, and to be renewed."""
    world = World()
    world.gate.has(world.anna, "reports")
    world.source.grant(world.anna, "reports")
    world.clock.advance(70)
    yield world
    world.gate.close()


def is_granted(world):
    assert world.gate.check(world.anna, "reports").allowed
    check_both(world)


def test_a_denial_is_looked_at_again_wherever_one_was_struck():
    assert strike_everywhere(grown_old, lambda world: world.gate.has(world.anna, "reports"), is_granted) > 100
    assert strike_everywhere(grown_old, lambda world: world.gate.get(world.anna).has("reports"), is_granted) > 100


def in_a_thread_of_the_gate(act):
    """Let it act, and wait until the gate's threads are at nothing: strikes are to be theirs, and only now."""

    def acting(world):
        act(world)
        eventually(lambda: not world.gate._snapshots._workers._busy)

    return acting


@contextmanager
def cold_and_hasty():
    """A thread that is struck before it took any work leaves who waits now to the deadline."""
    world = World(deadline=1.5)
    yield world
    world.gate.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_the_gate_that_is_struck_strands_nobody(caplog):
    assert strike_everywhere(cold_and_hasty, in_a_thread_of_the_gate(ACTS["check"]), check_both, elsewhere=True) > 50


@pytest.fixture
def project(settings):
    settings.ENTITLEMENT_GATE = {"API_KEY": "key", "ORGANISATION": "organisation", "BASE_URL": "sandbox:"}


def override(_):
    with override_entitlements({"sso": True}):
        pass


def nothing_is_overridden(_):
    assert check_entitlement(ANNA, "sso").source != "override"
    with override_entitlements({"sso": True}):
        assert has_entitlement(ANNA, "sso")
    assert not has_entitlement(ANNA, "sso")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a strike in ``__del__``
@pytest.mark.usefixtures("project")
def test_an_override_ends_wherever_it_was_struck():
    assert strike_everywhere(nullcontext, override, nothing_is_overridden) > 50


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


class SealedSource(FakeSource):
    """Its snapshots may be shared."""

    def seal(self):
        return Seal("the key", "organisation")


@pytest.fixture
def shared(server):
    """Give worlds that share snapshots and a ledger with other processes."""

    @contextmanager
    def world():
        ledger = RedisLedger(server.patient_url)
        customers = str(uuid.uuid4()), str(uuid.uuid4())
        made = World(SealedSource(), customers, ledger=ledger, redis_url=server.patient_url)
        made.gate.consume(made.anna, "calls", 1, key="before")
        yield made
        made.gate.close()
        ledger.close()

    return world


def shared_and_counted(world):
    pass_time_in_redis(world.gate.ledger, 61)
    left = world.gate.check(world.anna, "calls", refresh=True).remaining
    assert left in {2, 4}, left
    world.gate.consume(world.anna, "calls", 2, key="k")
    assert world.gate.check(world.anna, "calls").remaining == 2
    check_both(world)


SHARED = {
    "commit": USES["commit"],
    "refresh": ACTS["refresh"],
    "invalidate": ACTS["invalidate"],
}


@pytest.mark.parametrize("act", SHARED.values(), ids=SHARED)
def test_so_it_is_where_snapshots_and_counts_are_shared(shared, act):
    assert strike_everywhere(shared, act, shared_and_counted, step=3) > 10
