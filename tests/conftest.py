"""What every test of the suite starts from."""

import gc
from contextlib import closing

import pytest
from hypothesis import settings

# The same cases each time, and none kept from an earlier run: what fails once fails always. To look for new ones:
# `pytest --hypothesis-profile=explore`, which prints how to see a failure again.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1_000, database=None, deadline=None, print_blob=True)
settings.load_profile("suite")


def pytest_collection_finish():
    """Let no collector look through what stays for the whole run: 560,000 objects, 70 ms each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def browser():
    """The one Chromium of this process, started for the first test that visits a page."""
    from tests.browser import Browser

    with closing(Browser()) as started:
        yield started
