"""An exception that strikes at one line of ours: what a time limit, a signal handler or another thread may raise."""

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path

import entitlement_gate

OURS = str(Path(entitlement_gate.__file__).parent)


class Strike(Exception):
    """What is raised."""


class Striker:
    """A trace function that raises, once, at the given line of ours, counted from 1 as they are reached."""

    def __init__(self, at, kind=Strike):
        self.at = at
        self.kind = kind
        self.count = 0
        self.where = None

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line" and self.where is None:
            self.count += 1
            if self.count == self.at:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise self.kind
        return self


@contextmanager
def traced(striker):
    """Let it strike this thread."""
    before = sys.gettrace()
    sys.settrace(striker)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def traced_elsewhere(striker):
    """Let it strike threads that are started meanwhile."""
    before = threading.gettrace()
    threading.settrace(striker)
    try:
        yield
    finally:
        threading.settrace(before)


def strike_newborns(monkeypatch, name, *, kind=Strike, times=1):
    """Let an exception be raised in the next threads of a name as they begin, as another thread may raise it."""
    bootstrap, left = threading.Thread._bootstrap, [kind] * times

    def begin(thread):
        if left and thread.name.startswith(name):
            ident = ctypes.c_ulong(threading.get_ident())
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(left.pop()))
        bootstrap(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap", begin)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


def strike_everywhere(world, act, prove, **options):
    """Strike at each line that ``act`` reaches, each time in a new ``world``; ``prove`` says whether it has recovered.

    With a ``step`` only each so-manieth line is struck. Returns how many strikes there were.

    On a thread of its own: Python 3.11 keeps what was being handled where a trace function raised at the end of an
    ``except`` block, as the context of whatever is raised on that thread from then on.
    """
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(copy_context().run, partial(_strike_everywhere, world, act, prove, **options)).result()


def _strike_everywhere(world, act, prove, *, kind=Strike, elsewhere=False, step=1):
    at = struck = 0
    while True:
        at += step
        striker = Striker(at, kind)
        with world() as made:
            try:
                with (traced_elsewhere if elsewhere else traced)(striker):
                    act(made)
            except kind:
                assert striker.where
            striker.at = 0  # what follows is struck no more
            try:
                prove(made)
            except Exception as error:
                raise AssertionError(f"struck at {striker.where}, the {at}th line: {error}") from error
        if striker.where is None:
            return struck
        struck += 1
