"""What every test of the suite starts from."""

import gc
import os
import sys
import threading
import time
from contextlib import closing

import pytest
from hypothesis import settings

# The same cases each time, and none kept from an earlier run: what fails once fails always. To look for new ones:
# `pytest --hypothesis-profile=explore`, which prints how to see a failure again.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1_000, database=None, deadline=None, print_blob=True)
settings.load_profile("suite")

_OF_PROCESSES = "COVERAGE_PROCESS_CONFIG"  # tells an interpreter that starts to measure itself


def pytest_configure(config):
    config.addinivalue_line("markers", "unmeasured: runs in many ways what other tests measure; no coverage is taken")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Measure nothing of what is marked so, nor of its processes; coverage costs as much as the test itself.

    Its threads are measured all the same: a pool that it begins may serve the tests after it.
    """
    if item.get_closest_marker("unmeasured") is None:
        return (yield)
    measure, config = sys.gettrace(), os.environ.pop(_OF_PROCESSES, None)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(measure)
        if config is not None:
            os.environ[_OF_PROCESSES] = config


def pytest_collection_finish():
    """Let no collector look through what stays for the whole run: 560,000 objects, 70 ms each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def threads_before():
    """The threads that earlier tests have left."""
    return set(threading.enumerate()) - {threading.current_thread()}


@pytest.fixture
def caplog(caplog, threads_before):
    """What is logged, less what a thread that an earlier test has struck says of that as late as now."""

    def is_of_this_test(record):
        return record.module != "worker_pool" or threading.current_thread() not in threads_before

    with caplog.filtering(is_of_this_test):
        yield caplog


@pytest.fixture
def no_fetch_remains():
    """Let the fetches of earlier tests end: observers and receivers are told after whoever waited has gone on.

    One that hangs tells nobody, and is not waited for longer than 10 s.
    """
    from entitlement_gate.engine.observers import everywhere  # not before coverage has begun
    from entitlement_gate.resilience.fork_safety import members

    end = time.monotonic() + 10
    while time.monotonic() < end and any(_is_fetching(gate) for gate in members(everywhere.gates)):
        time.sleep(0.001)


def _is_fetching(gate):
    workers, tells = gate._snapshots._workers, getattr(gate, "wait_for_signals", None)
    return workers._waiting or workers._busy or (tells is not None and not tells(0))


@pytest.fixture(scope="session")
def browser():
    """The one Chromium of this process, started for the first test that visits a page."""
    from tests.browser import Browser

    with closing(Browser()) as started:
        yield started
