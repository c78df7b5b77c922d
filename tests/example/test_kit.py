"""The tests of the example itself, as its user runs them."""

import re
import subprocess
import sys

from tests.example.conftest import PROJECT, environment


def test_the_tests_of_the_example_pass():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(PROJECT), "-q", "-p", "no:cacheprovider"],
        cwd=PROJECT.parent,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10
