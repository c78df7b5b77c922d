"""Tasks that use something up, run in this process. By a worker, on a real queue: ``tests/lab/test_celery.py``."""

from functools import wraps

import pytest
from celery import Celery, Task, chord
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel

from entitlement_gate import (
    EntitlementDenied,
    EntitlementGate,
    EntitlementUnavailable,
    Requirement,
    ReservationConflict,
)
from entitlement_gate.contrib.celery import consumes_entitlement
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.testing import FakeBilling, FakeSource
from tests.customers import FREE, PRO
from tests.test_using_up import Away, held, left

EXPORT = "export 17"


@pytest.fixture
def ledger(settings):
    """Return the ledger of the settings' gate, over a billing that granted ten calls."""
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30}
    with FakeBilling() as billing:
        ledger = billing._ledger = Noting(clock=billing.clock)
        ledger.billing = billing
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "seats", 2)
        billing.grant(PRO, "sso")
        yield ledger


class Noting(Away):
    """A ledger that notes for how long it holds, and lets a hold run out just before it is extended when told so."""

    is_too_late = False
    lasting = ()

    def reserve(self, *args, ttl, **keywords):
        self.lasting += (ttl,)
        return super().reserve(*args, ttl=ttl, **keywords)

    def extend(self, *args):
        if self.is_too_late:
            self.billing.clock.advance(10_000)
        return super().extend(*args)


class App(Celery):
    """An app whose tasks are its own: Celery makes them every app's."""

    def task(self, *args, **options):
        return super().task(*args, **{"shared": False, **options})


@pytest.fixture
def app():
    with App("tests", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        yield app


@pytest.fixture
def export(app, ledger):
    """Return a task that notes what is held while it runs, and ends as told."""
    seen = []

    @app.task(bind=True, name="export")
    @consumes_entitlement("calls", "pages", customer="customer_id")
    def export(self, customer_id, pages=4, *, ends=None, lasts=0):
        seen.append((held(), left()))
        ledger.billing.clock.advance(lasts)
        seen.append(held())
        if ends is not None:
            raise ends
        return pages

    export.seen = seen
    return export


def test_a_task_holds_before_its_body_and_counts_when_that_returns(export):
    assert export.apply((PRO, 3)).get() == 3
    assert export.seen == [(3_000_000, 7), 3_000_000]
    assert (held(), left()) == (0, 7)


@pytest.mark.parametrize("ends", [ValueError("no"), Ignore(), Reject("no"), SoftTimeLimitExceeded(), SystemExit()])
def test_a_task_that_does_not_return_gives_back(export, ends):
    try:
        export.apply((PRO,), {"ends": ends})
    except SystemExit as error:
        assert error is ends  # noqa: PT017 - Celery keeps the others for the result
    assert export.seen[0] == (4_000_000, 6)
    assert (held(), left()) == (0, 10)


def test_what_was_denied_is_not_run_and_what_nobody_knows_is_another_error(export, ledger):
    assert isinstance(export.apply((PRO, 11)).result, EntitlementDenied)
    assert isinstance(export.apply((None,)).result, EntitlementDenied)
    ledger.billing.fail("unavailable")
    assert isinstance(export.apply((FREE,)).result, EntitlementUnavailable)
    assert export.seen == []


@pytest.mark.parametrize("pages", [0, -1, True, "many"])
def test_what_is_no_quantity_fails_before_any_work(export, pages):
    assert isinstance(export.apply((PRO, pages)).result, ValueError)
    assert export.seen == []
    assert left() == 10


def test_arguments_that_do_not_fit_hold_nothing(export):
    assert isinstance(export.apply((PRO,), {"colour": "red"}).result, TypeError)
    assert left() == 10


def test_runs_of_one_task_count_once(export):
    for _ in range(3):
        assert export.apply((PRO,), task_id=EXPORT).successful()
    assert (held(), left()) == (0, 6)
    assert export.apply((PRO,), task_id="export 18").successful()
    assert left() == 2


def test_an_id_given_to_two_tasks_is_a_conflict_and_to_those_of_two_names_is_none(app, export):
    @app.task(name="other")
    @consumes_entitlement("calls", customer="customer_id")
    def other(customer_id):
        """Do nothing."""

    assert export.apply((PRO, 4), task_id=EXPORT).successful()
    assert isinstance(export.apply((PRO, 5), task_id=EXPORT).result, ReservationConflict)
    assert other.apply((PRO,), task_id=EXPORT).successful()
    assert left() == 5


def test_an_id_of_any_length_names_its_task(export):
    for number in range(2):
        for _ in range(2):
            assert export.apply((PRO,), task_id=f"{'x' * 300}{number}").successful()
    assert left() == 2


@pytest.fixture
def left_behind(export, ledger):
    """Return the id of a task of which a run is gone and what it held is left, as by one that was killed."""
    ledger.failing = "release"
    assert export.apply((PRO,), {"ends": ValueError("no")}, task_id=EXPORT).failed()
    ledger.failing = ""
    export.seen.clear()
    assert held() == 4_000_000
    return EXPORT


@pytest.mark.parametrize("after", [0, 3_500, 3_601], ids=["at once", "in time", "once it ran out"])
def test_what_a_killed_run_left_is_gone_on_with_or_held_anew_and_counts_once(export, ledger, left_behind, after):
    ledger.billing.clock.advance(after)
    assert held() == (0 if after > 3_600 else 4_000_000)
    assert export.apply((PRO,), {"lasts": 3_500}, task_id=left_behind).successful()
    assert export.seen == [(4_000_000, 6), 4_000_000]  # to the end of its own hour
    assert (held(), left()) == (0, 6)


def test_what_a_killed_run_left_is_given_back_by_the_one_that_fails_at_last(export, left_behind):
    assert export.apply((PRO,), {"ends": ValueError("no")}, task_id=left_behind).failed()
    assert (held(), left()) == (0, 10)


def test_what_runs_out_while_a_run_takes_it_over_counts_late(export, ledger, left_behind):
    ledger.is_too_late = True
    assert export.apply((PRO,), task_id=left_behind).successful()
    assert export.seen[0] == (0, 10)
    assert (held(), left()) == (0, 6)


@pytest.mark.parametrize("first", [None, ValueError("no")], ids=["returns", "fails"])
@pytest.mark.parametrize("second", [None, ValueError("no")], ids=["returns", "fails"])
def test_runs_at_once_count_once_where_one_of_them_returns(app, ledger, first, second):
    @app.task(bind=True)
    @consumes_entitlement("calls", 4, customer="customer_id")
    def export(self, customer_id, ends, other=()):
        if other:  # delivered again while it runs
            export.apply(other, task_id=self.request.id)
        if ends is not None:
            raise ends

    export.apply((PRO, first, (PRO, second)), task_id=EXPORT)
    assert (held(), left()) == (0, 10 if first and second else 6)


def test_a_count_that_did_not_arrive_fails_the_task_and_its_retry_counts_once(export, ledger):
    ledger.failing = "commit"
    assert isinstance(export.apply((PRO,), task_id=EXPORT).result, LedgerUnavailable)
    ledger.failing = ""
    assert export.apply((PRO,), task_id=EXPORT, retries=1).successful()
    assert (held(), left()) == (0, 6)


@pytest.mark.parametrize(
    ("options", "ttl", "seconds"),
    [({}, None, 3600), ({"time_limit": 300}, None, 300), ({"time_limit": 300}, 20, 20)],
    ids=["by default", "limited", "said"],
)
def test_a_hold_lasts_as_long_as_the_task_may(app, ledger, options, ttl, seconds):
    @app.task(**options)
    @consumes_entitlement("calls", customer="customer_id", ttl=ttl)
    def export(customer_id):
        """Do nothing."""

    assert export.apply((PRO,)).successful()
    assert ledger.lasting == (seconds,)


def test_arguments_may_be_looked_at_by_callables_and_those_by_default_count(app, ledger):
    owners = {7: PRO}

    @app.task(bind=True)
    @consumes_entitlement(
        "calls", lambda self, report, pages=2: 2 * pages, customer=lambda self, report, pages=2: owners[report]
    )
    def export(self, report, pages=2):
        return self.request.id

    assert export.apply((7,), task_id=EXPORT).get() == EXPORT
    assert left() == 6


def test_a_key_names_the_work_of_two_tasks(app, ledger):
    seen = []

    @app.task
    @consumes_entitlement("calls", 4, customer="customer_id", key="report")
    def export(customer_id, report):
        seen.append(held())

    for report in (7, 7, 8):
        export.apply((PRO, report))
    assert seen == [4_000_000, 0, 4_000_000]
    assert left() == 2


def test_requirements_are_held_together(app, ledger):
    @app.task
    @consumes_entitlement(Requirement("calls", 3) & Requirement("seats", 2), customer="customer_id")
    def invite(customer_id):
        """Do nothing."""

    assert invite.apply((PRO,)).successful()
    assert (left(), left("seats")) == (7, 0)
    assert isinstance(invite.apply((PRO,)).result, EntitlementDenied)
    assert left() == 7


def test_a_call_without_a_queue_counts_by_itself(app, ledger):
    @app.task
    @consumes_entitlement("calls", customer="customer_id")
    def export(customer_id):
        """Do nothing."""

    @app.task
    def twice(customer_id):
        return [export(customer_id), export(customer_id)]

    export(PRO)
    export.run(PRO)
    assert left() == 8
    assert twice.apply((PRO,)).successful()
    assert left() == 6


def test_a_body_that_another_task_runs_has_no_key_and_says_so(app, ledger):
    @consumes_entitlement("calls", customer="customer_id")
    def export(customer_id):
        """Do nothing."""

    @consumes_entitlement("calls", customer="customer_id", key=lambda customer_id: "export 7")
    def export_named(customer_id):
        """Do nothing."""

    @app.task
    def helped(customer_id):
        export(customer_id)

    @app.task
    def helped_by_name(customer_id):
        export_named(customer_id)

    outcome = helped.apply((PRO,)).result
    assert isinstance(outcome, RuntimeError)
    assert "functools.wraps" in str(outcome)
    assert left() == 10
    assert helped_by_name.apply((PRO,)).successful()
    assert left() == 9


def test_decorators_between_class_based_tasks_and_models_as_arguments_are_seen_through(app, ledger):
    def noted(function):
        @wraps(function)
        def noting(*args, **kwargs):
            return function(*args, **kwargs)

        return noting

    class Order(BaseModel):
        customer_id: str
        pages: int

    class Export(Task):
        name = "by class"

        @consumes_entitlement("calls", customer="customer_id")
        def run(self, customer_id):
            return held()

    @app.task(autoretry_for=(OSError,))
    @noted
    @consumes_entitlement("calls", customer="customer_id")
    def export(customer_id):
        return held()

    @app.task(pydantic=True)
    @consumes_entitlement("calls", lambda order: order.pages, customer=lambda order: order.customer_id)
    def export_order(order: Order):
        return held()

    ordered = {"customer_id": PRO, "pages": 2}
    tasks = ((app.register_task(Export()), PRO, 1), (export, PRO, 1), (export_order, ordered, 2))
    for task, argument, count in tasks:
        for _ in range(2):  # the second of the same id counts nothing: it was seen which task runs
            assert task.apply((argument,), task_id=EXPORT).get() in (count * 1_000_000, 0)
    assert left() == 6


def test_the_arguments_of_a_task_are_checked_where_it_is_sent(export):
    with pytest.raises(TypeError):
        export.delay()


def test_without_settings_of_django_a_gate_is_given(app, settings):
    del settings.ENTITLEMENT_GATE
    source = FakeSource()
    source.grant(PRO, "calls", 5)
    with EntitlementGate(source) as gate:

        @app.task
        @consumes_entitlement("calls", 2, customer="customer_id", gate=gate)
        def export(customer_id):
            """Do nothing."""

        assert export.apply((PRO,)).successful()
        assert gate.check(PRO, "calls").remaining == 3


@pytest.fixture
def stubborn(app, ledger):
    """Return a task that is retried at once as often as it is told to fail."""
    tries = []

    @app.task(bind=True, default_retry_delay=0, max_retries=3, name="stubborn")
    @consumes_entitlement("calls", 4, customer="customer_id")
    def stubborn(self, customer_id, fails=0):
        tries.append((self.request.retries, held()))
        if self.request.retries < fails:
            raise self.retry(exc=KeyError("no"))
        return left()

    stubborn.tries = tries
    return stubborn


def test_retries_hold_anew_and_count_once(stubborn):
    assert stubborn.apply((PRO, 2)).get() == 6
    assert stubborn.tries == [(0, 4_000_000), (1, 4_000_000), (2, 4_000_000)]
    assert (held(), left()) == (0, 6)


def test_what_is_retried_in_vain_counts_nothing(stubborn):
    assert isinstance(stubborn.apply((PRO, 9)).result, KeyError)
    assert len(stubborn.tries) == 4
    assert (held(), left()) == (0, 10)


def test_an_outage_may_be_retried(app, ledger):
    tries = []

    def customer_of(self, customer_id):
        tries.append(self.request.retries)
        if len(tries) == 3:
            ledger.billing.recover()
            ledger.billing.clock.advance(60)
        return customer_id

    @app.task(bind=True, autoretry_for=(EntitlementUnavailable,), retry_backoff=True)
    @consumes_entitlement("calls", 4, customer=customer_of)
    def export(self, customer_id):
        return self.request.retries

    ledger.billing.fail("unavailable")
    assert export.apply((PRO,)).get() == 2
    assert tries == [0, 1, 2]
    assert left() == 6


def test_each_task_of_a_chord_counts(app, stubborn):
    @app.task
    @consumes_entitlement("seats", customer="customer_id")
    def total(parts, customer_id):
        return parts

    app.conf.task_always_eager = True
    assert chord([stubborn.s(PRO), stubborn.s(PRO)], total.s(PRO)).apply_async().get() == [6, 2]
    assert (held(), left(), left("seats")) == (0, 2, 1)


def _async_body():
    async def body(customer_id):
        """Do nothing."""

    return body


def _generator(customer_id):
    yield customer_id


def _plain(customer_id, *others, pages=1, **named):
    """Do nothing."""


@pytest.mark.parametrize(
    ("keywords", "body", "error", "says"),
    [
        ({"customer": "user_id"}, _plain, ValueError, "no argument 'user_id'"),
        ({"customer": "named"}, _plain, ValueError, "no argument 'named'"),
        ({"customer": PRO}, _plain, ValueError, "no argument"),
        ({"customer": 17}, _plain, ValueError, "the name of an argument"),
        ({"quantity": "sheets"}, _plain, ValueError, "no argument 'sheets'"),
        ({"quantity": 0}, _plain, ValueError, "quantity"),
        ({"quantity": "0.0000001"}, _plain, ValueError, "million"),
        ({"quantity": "pages", "entitlement": Requirement("calls", 2)}, _plain, ValueError, "inside the Requirement"),
        ({"entitlement": ""}, _plain, ValueError, "name"),
        ({"ttl": 0}, _plain, ValueError, "seconds"),
        ({}, _async_body(), TypeError, "returns"),
        ({}, _generator, TypeError, "returns"),
        ({}, 17, TypeError, "returns"),
        ({}, consumes_entitlement("calls", customer="customer_id")(_plain), ValueError, "join"),
    ],
)
def test_what_cannot_work_is_said_where_it_is_declared(keywords, body, error, says):
    with pytest.raises(error, match=says):
        consumes_entitlement(**{"entitlement": "calls", "customer": "customer_id", **keywords})(body)


def test_a_task_is_not_decorated_but_its_function(export):
    with pytest.raises(TypeError, match=r"below @app\.task"):
        consumes_entitlement("calls", customer="customer_id")(export)
