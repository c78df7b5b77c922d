"""`make demo DEMO=--redis`: two worker processes behind one port, one billing, one Redis."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.example.conftest import PATIENCE, PROJECT, ask, environment, running, visiting
from tests.example.test_control_room import Room

_TRIES = 1000  # the kernel chooses who answers: that one worker never does by chance is impossible


def workers_of(demo):
    return {int(pid) for pid in re.search(r"workers: processes (\d+) and (\d+)", demo.said).groups()}


def answered_by(page):
    return int(re.search(r"Answered by process (\d+)", page.text)[1])


def until(look, is_it):
    for _ in range(_TRIES):
        page = look()
        if is_it(page):
            return page
    raise AssertionError(page.text)


@pytest.fixture(scope="module")
def demo():
    with running("--port", "0", "--redis") as started:
        yield started


def test_either_worker_answers_whoever_is_signed_in(demo):
    with visiting(demo.address, "pro") as visitor:
        for worker in workers_of(demo):
            page = until(lambda: visitor.get("/reports/"), lambda page, worker=worker: answered_by(page) == worker)
            assert page.status_code == 200
            assert "Signed in as <strong>Pro Plumbing</strong>" in page.text


def test_what_one_worker_fetched_the_other_finds(demo):
    with visiting(demo.address, "lapsed") as visitor:
        page = until(lambda: visitor.get("/"), lambda page: "come from <code>shared</code>" in page.text)
    assert "another process had asked billing" in page.text


def test_what_one_worker_counts_the_other_knows(demo):
    with visiting(demo.address, "pro") as visitor:
        counted = ask(visitor, "the barn")
        assert "44.8 of 100 credits left" in counted.text
        (other,) = workers_of(demo) - {answered_by(counted)}
        page = until(lambda: visitor.get("/ask/"), lambda page: answered_by(page) == other)
        assert "44.8 of 100 credits left" in page.text
        statuses = [ask(visitor, "the barn").status_code for _ in range(6)]
    assert statuses == [200, 200, 200, 200, 402, 402]


def test_all_of_it_ends_with_the_demo(folder):
    with running("--port", "0", "--redis", TMPDIR=str(folder)) as demo, visiting(demo.address, "pro") as visitor:
        assert visitor.get("/reports/").status_code == 200
        assert [path.name[:11] for path in folder.iterdir()] == ["fieldnotes-"]
        demo.stop(signal.SIGINT)
        assert demo.process.returncode == 0
        assert demo.process.stdout.read() + demo.process.stderr.read() == ""
    for worker in workers_of(demo):
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    for address in (demo.address, demo.billing):
        with pytest.raises(httpx.ConnectError):
            httpx.get(address, trust_env=False, timeout=PATIENCE)
    assert list(folder.iterdir()) == []


def test_an_outage_is_told_once_by_whichever_worker():
    with running("--port", "0", "--redis") as demo, visiting(demo.address, "pro") as visitor:
        room = Room(visitor).act("down")
        failed = set()

        def have_both_failed(room):
            if re.search(r"<dt>Last failure</dt><dd>\d+ s ago", room.page):
                failed.add(re.search(r"<dt>Process</dt><dd>(\d+)</dd>", room.page)[1])
            return len(failed) > 1

        room.look_until(have_both_failed)
        with visiting(demo.address, "lapsed") as other:
            assert [other.get("/reports/").status_code for _ in range(3)] == [503, 503, 503]
        room.act("mend").look_until(lambda room: room.answer("reports")[2] not in {"stale", "fallback"})
        demo.stop()
        told = demo.process.stderr.read().splitlines()
    outage = told[: told.index("billing answers again")]
    assert outage[0].startswith("a fetch of entitlements failed: SourceUnavailable: ")
    assert len(outage) == len({line.partition(" (")[0] for line in outage})
    assert not [line for line in told if "Service Unavailable" in line]


def test_a_worker_that_dies_ends_the_demo():
    with running("--port", "0", "--redis") as demo:
        os.kill(min(workers_of(demo)), signal.SIGKILL)
        demo.process.wait(PATIENCE)
        assert demo.process.returncode == 1
        assert demo.process.stderr.read() == "a worker ended by itself\n"


def test_where_there_is_no_redis_it_says_how_to_get_one():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "demo.py"), "--port", "0", "--redis"],
        capture_output=True,
        text=True,
        env=environment(PATH=str(Path(sys.executable).parent)),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt install redis-server" in done.stderr
    assert "Traceback" not in done.stderr
