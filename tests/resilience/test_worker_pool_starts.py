import threading

import pytest

from entitlement_gate.resilience import worker_pool
from entitlement_gate.resilience.worker_pool import start_thread
from tests.lab.striking import Strike, strike_newborns


def test_a_thread_is_started_and_known_to_run(monkeypatch):
    monkeypatch.setattr(worker_pool, "_LONGEST_START", 60)  # on a busy machine it may be late, which is no failure
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


def refusing(error):
    def refuse(_):
        raise error

    return refuse


def test_that_the_system_has_no_more_threads_is_raised_here(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refusing(RuntimeError("can't start new thread")))
    with pytest.raises(RuntimeError, match="can't start"):
        start_thread(threading.Thread())


def test_what_strikes_the_thread_that_starts_another_is_not_for_whoever_waits(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refusing(Strike()))
    assert not start_thread(threading.Thread())
