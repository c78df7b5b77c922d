import gc
import os
import weakref

import pytest

from entitlement_gate import forking

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # other tests leave threads behind
]


class Thing:
    remade = 0

    def remake(self):
        self.remade += 1


def remade_in_child(*things):
    """Fork, and give how often each thing was remade in the child."""
    child = os.fork()
    if child == 0:
        os._exit(sum(thing.remade * 10**place for place, thing in enumerate(things)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_everything_alive_is_remade_once_in_the_child_and_never_in_the_parent():
    one, other = Thing(), Thing()
    forking.remake_after_fork(one)
    forking.remake_after_fork(other)
    forking.remake_after_fork(one)

    assert remade_in_child(one, other) == 11
    assert (one.remade, other.remade) == (0, 0)


def test_after_all_have_gone_a_new_one_is_still_remade_once():
    for _ in range(3):
        thing = Thing()
        forking.remake_after_fork(thing)
        assert remade_in_child(thing) == 1
        del thing
        gc.collect()


def test_being_remade_keeps_nothing_alive():
    thing = Thing()
    forking.remake_after_fork(thing)
    gone = weakref.ref(thing)
    del thing
    gc.collect()

    assert gone() is None


def test_a_system_that_does_not_fork_needs_nothing(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    forking._watch_forks.__wrapped__()
