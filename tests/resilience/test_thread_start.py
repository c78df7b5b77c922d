import threading

import pytest

from entitlement_gate.resilience.thread_start import start_thread
from tests.lab.striking import Strike, strike_newborns


def test_a_thread_is_started_and_known_to_run():
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, args=(60,))
    assert start_thread(thread)
    assert thread.is_alive()
    may_end.set()
    thread.join(60)


def test_a_thread_that_is_struck_as_it_begins_keeps_nobody(monkeypatch):
    ran = threading.Event()
    thread = threading.Thread(target=ran.set, name="struck")
    strike_newborns(monkeypatch, "struck")
    assert not start_thread(thread)
    assert not thread.is_alive()
    assert not ran.is_set()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), Strike()])
def test_what_starting_raises_is_raised_here(monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(type(error)):
        start_thread(threading.Thread())
