"""A plugin that lets threads stand still, as a busy machine does, to find tests that hold on an idle one alone.

    .venv/bin/python -m pytest -p tests.stalls -n 8 tests/engine

Each thread that a test starts stops once, for ``--stall`` seconds, at some line of the package; with ``--stall-tests``
the test stops instead, at each of its lines. Not for tests that time something (``tests.busyness``): a stall of one
thread is none of the machine's.
"""

import os
import random
import sys
import threading
import time

import pytest

_PACKAGE = f"{os.sep}entitlement_gate{os.sep}"
_TESTS = f"{os.sep}tests{os.sep}"
_FIRST = 40  # lines of a thread among which is the one where it stops
_MOST = 60  # stops of one test


def pytest_addoption(parser):
    group = parser.getgroup("stalls")
    group.addoption("--stall", type=float, default=0.4, metavar="SECONDS", help="how long a stall is")
    group.addoption("--stall-seed", type=int, default=0, metavar="N", help="which lines are chosen")
    group.addoption("--stall-tests", action="store_true", help="let tests stand still, at each of their lines")


def pytest_report_header(config):
    return f"stalls: {config.getoption('stall')} s, --stall-seed={config.getoption('stall_seed')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    seconds = item.config.getoption("stall")
    if item.config.getoption("stall_tests"):
        sys.settrace(_stopping(_TESTS, seconds, range(_MOST)))
    else:
        chosen = random.Random(f"{item.config.getoption('stall_seed')} {item.nodeid}")
        threading.settrace(_stopping_each_thread(chosen, seconds))
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)


def _stopping_each_thread(chosen, seconds):
    """Return a trace function that gives each thread another, by which it stops once."""

    def begin(frame, event, arg):
        trace = _stopping(_PACKAGE, seconds, (chosen.randrange(_FIRST),))
        sys.settrace(trace)
        return trace(frame, event, arg)

    return begin


def _stopping(folder, seconds, stops):
    """Return a trace function that stops at some of the lines in a folder: at the first of them, the second, …"""
    seen = set()

    def at_line(frame, event, _):
        place = (frame.f_code, frame.f_lineno)
        if event == "line" and place not in seen:
            if len(seen) in stops:
                time.sleep(seconds)
            seen.add(place)
        return at_line

    def at_call(frame, *_):
        is_over = len(seen) > stops[-1]
        return at_line if folder in frame.f_code.co_filename and not is_over else None

    return at_call
