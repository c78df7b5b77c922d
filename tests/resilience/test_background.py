import threading

import pytest

from entitlement_gate.resilience.background import Background
from tests.engine.fakes import BERT, eventually


@pytest.fixture
def background():
    return Background()


@pytest.fixture
def held(background):
    """Something that the thread is at, until it is let go."""
    may_end, has_begun = threading.Event(), threading.Event()

    def hold():
        has_begun.set()
        assert may_end.wait(60)

    background.call(hold)
    assert has_begun.wait(60)
    yield may_end
    may_end.set()


def test_calls_are_made_in_order_on_another_thread(background):
    made = []
    for number in range(100):
        background.call(lambda n: made.append((n, threading.current_thread())), number)
    assert background.flush(60)
    assert [number for number, _ in made] == list(range(100))
    assert threading.current_thread() not in {thread for _, thread in made}


def test_it_wakes_again_after_it_fell_asleep(background):
    made = []
    for number in range(3):
        background.call(made.append, number)
        eventually(lambda: not background._is_awake, 60)
    assert made == [0, 1, 2]


def test_a_call_that_hangs_holds_up_the_calls_after_it_and_nobody_else(background, held, caplog):
    made = []
    for number in range(background.MOST_WAITING + 10):
        background.call(made.append, number)
    assert not background.flush(0)
    assert made == []
    assert [record.getMessage() for record in caplog.records] == [
        "observers are slower than what happens: they are not told of some of it"
    ]
    held.set()
    eventually(lambda: len(made) == background.MOST_WAITING, 60)
    assert made == list(range(background.MOST_WAITING))


def test_a_call_that_raises_is_logged_by_its_class_and_the_next_is_made(background, caplog):
    made = []

    def fails():
        raise RuntimeError(BERT)

    background.call(fails)
    background.call(made.append, 1)
    assert background.flush(60)
    assert made == [1]
    (record,) = caplog.records
    assert record.getMessage().endswith("fails: RuntimeError")
    assert BERT not in caplog.text


def test_a_call_that_strikes_the_thread_leaves_none_behind(background, held, caplog):
    def strike():
        raise SystemExit

    made = []
    background.call(strike)
    background.call(made.append, 1)
    held.set()
    assert background.flush(60)
    assert made == [1]
    assert "interrupted at its work: SystemExit" in caplog.text


def test_a_forked_process_has_a_queue_of_its_own(background, held):
    made = []
    background.call(made.append, "the parent's")
    background.remake()
    background.call(made.append, "the child's")
    assert background.flush(60)
    assert made == ["the child's"]


def test_where_no_thread_can_be_started_nothing_is_raised(background, monkeypatch):
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(background._workers, "submit", lambda *_, **__: False)
        background.call(made.append, 1)
        assert not background.flush(0)
    assert background.flush(60)
    assert made == [1]
