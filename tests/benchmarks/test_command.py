"""Every section that needs no other library runs, small; the peers are not installed where the tests run."""

import logging
import os

import pytest

from benchmarks import (
    behaviour,
    calls,
    decoding,
    fetching,
    flags,
    ledger,
    memory,
    page,
    peers,
    requests,
    scaling,
    starting,
    telemetry,
    views,
    warm,
)
from benchmarks.command import SECTIONS, main
from benchmarks.contestants import Contestant, WrongAnswer, verify
from benchmarks.effort import Effort, Rounds
from benchmarks.ours import ours
from benchmarks.tables import Table
from benchmarks.world import ASKED, NAMES, World
from entitlement_gate import Requirement

pytestmark = pytest.mark.unmeasured  # what is timed here is what no coverage slows down

TINY = Effort(
    customers=20,
    alone=Rounds(0.0005, 3),
    together=Rounds(0.002, 2),
    fetches=Rounds(0.002, 2),
    starts=1,
    cached=20,
    patience=60.0,
    with_peers=False,
)


def first_columns(table):
    return [row[0] for row in table.rows]


def test_the_warm_section_measures_the_limit_the_three_doors_and_the_ways_to_ask():
    by_limit, by_gate, by_form = warm.tables(TINY)

    assert first_columns(by_limit) == ["practical limit", "`gate.has`", "`gate.check`", "`has_entitlement`"]
    assert by_limit.columns[1:5] == [
        "1 customer, 1 thread",
        "1 customer, 8 threads",
        "20 customers, 1 thread",
        "20 customers, 8 threads",
    ]
    assert all(len(row) == len(table.columns) for table in (by_limit, by_gate) for row in table.rows)
    assert first_columns(by_form)[:2] == ["text and a name", "a `uuid.UUID`"]


def test_what_takes_the_longer_way_is_counted():
    (table,) = calls.tables(TINY)

    assert len(table.rows) == 4
    assert all(int(functions) > int(changes) > 0 for _, functions, changes, _ in table.rows)
    assert [decisions for *_, decisions in table.rows] == ["1", "2", "1", "1"]


def test_a_trace_holds_functions_of_the_package_alone_and_each_once():
    requirement = Requirement("a") & "b"

    with calls.Trace() as trace:
        leaves = list(requirement.leaves())

    assert len(leaves) == 2
    assert [name for _, name in trace.entered] == ["leaves"] * 3
    assert trace.changes == trace.decisions == 0


def test_a_customer_of_many_rows_is_measured_against_one_of_few():
    (table,) = scaling.tables(TINY)

    assert len(table.rows) == 3


def test_decoding_is_measured_against_pydantic():
    (table,) = decoding.tables(TINY)

    assert len(table.rows) == 4
    assert "20 rows of 22 fields" in table.how


def test_what_a_gate_adds_to_a_request_is_measured_under_wsgi_and_asgi():
    wsgi, asgi = requests.tables(TINY)

    assert first_columns(wsgi) == first_columns(asgi)
    assert [row[1] for row in wsgi.rows].index("") == first_columns(wsgi).index("a bare view") == 0


def test_what_a_gate_adds_to_a_view_of_rest_framework_is_measured():
    (table,) = views.tables(TINY)

    assert [row[1] for row in table.rows].index("") == first_columns(table).index("a bare `APIView`") == 0
    assert len(table.rows) == 4


def test_a_cold_fetch_is_measured_over_real_http():
    (table,) = fetching.tables(TINY)

    assert len(table.rows) == 3


def test_memory_is_that_of_a_customer():
    (table,) = memory.tables(TINY)

    assert first_columns(table) == [
        "pydantic models of 7 fields",
        "the gate, one name asked",
        "the gate, all 20 names asked",
    ]


def test_using_up_is_measured_in_memory_over_redis_and_by_eight_processes():
    verbs, crowd = ledger.tables(TINY)

    assert [name.partition(":")[0] for name in first_columns(verbs)] == [*["memory"] * 3, *["Redis"] * 4]
    assert first_columns(crowd) == ["one process", "one of each process's own", "one for all"]


def test_a_boolean_flag_is_measured_against_the_in_memory_provider():
    (table,) = flags.tables(TINY)

    assert first_columns(table) == ["the SDK's `InMemoryProvider`", "`EntitlementProvider`"]


def test_what_observing_costs_is_measured_beside_nobody():
    (table,) = telemetry.tables(TINY)

    assert first_columns(table) == ["nobody", "an observer", "OpenTelemetry: events and metrics"]


def test_a_weight_is_what_is_still_there():
    kept = []

    # Within a tenth: what earlier tests left behind may come and go meanwhile.
    assert 9_000_000 <= memory.weight_of(lambda: kept.append(bytes(10_000_000))) < 11_000_000
    assert memory.weight_of(lambda: bytes(10_000_000)) < 1_000_000


def test_a_fresh_process_tells_what_the_code_alone_took():
    assert 0.05 <= starting.in_fresh_process("time.sleep(0.05)")() < 30


def test_the_gate_lives_through_the_bad_days():
    (table,) = behaviour.tables(TINY)

    told = {row[0]: row[1] for row in table.rows}
    counts = ("by 32 threads at once, cold", "five names of one customer", "one name, 200 times")
    assert [told[count] for count in counts] == ["1 upstream call"] * 3
    assert told["billing hangs, customer unknown"].startswith("False in ")
    assert all(told[day].startswith("True in ") for day in told if "past its age" in day)


def test_a_caller_without_an_answer_is_left():
    assert behaviour.answer_of(lambda _: 1 / 0, 5)[0].startswith("raises ZeroDivisionError in ")


def test_whoever_answers_wrongly_is_not_timed():
    yes_to_all = Contestant("yes", lambda subjects: None, lambda subject, name: True)

    with pytest.raises(WrongAnswer, match="yes says True"):
        verify(yes_to_all, World(1))


def test_the_limit_and_the_gate_answer_rightly():
    world = World(3)

    for contestant in ours(world):
        assert sorted(verify(contestant, world).subjects) == sorted(world.customers)
        contestant.close()


def test_a_peer_that_cannot_take_part_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", (peers.Peer("Nobody", "nobody", "nobody_at_all"),))

    present, (absent,) = peers.load(World(1))

    assert present == []
    assert absent.name == "Nobody"
    assert "nobody_at_all" in absent.reason


def test_a_page_of_the_world_holds_the_plan_and_is_the_customers_own():
    world = World(2)

    snapshots = [decoding.snapshot_from(world.page(customer), customer) for customer in world.customers]

    assert [[grant.name for grant in snapshot.grants] for snapshot in snapshots] == [list(NAMES)] * 2
    assert not {g.id for g in snapshots[0].grants} & {g.id for g in snapshots[1].grants}
    assert ASKED in NAMES


def test_the_command_prints_what_it_measured_and_leaves_nothing_changed(capsys):
    before = dict(os.environ)

    assert main(["--quick", "--without-peers", "--only", "decode"]) == 0

    assert "### Decode and compile" in capsys.readouterr().out
    assert dict(os.environ) == before
    assert logging.root.manager.disable == logging.NOTSET


def test_tables_of_a_part_are_not_written():
    with pytest.raises(SystemExit):
        main(["--write", "--only", "decode"])


def test_writing_replaces_what_is_between_the_markers_and_nothing_else():
    text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"

    new = page.written(text, [Table("T", "How.", ["a"], [["1"]])], "Said.\n")

    assert new.startswith("before\n") and new.endswith("\nafter\n")  # noqa: PT018 - one statement about one text
    assert "old" not in new
    assert "Said.\n\n### T\n\nHow.\n\n| a |\n| --- |\n| 1 |\n" in new
    assert page.written(new, [Table("T", "How.", ["a"], [["1"]])], "Said.\n") == new


def test_a_page_without_its_markers_is_left_alone():
    with pytest.raises(ValueError, match="markers"):
        page.written("no markers", [], "")


def test_the_page_has_its_markers_and_every_section_its_module():
    assert page.written(page.PAGE.read_text(encoding="utf-8"), [], "")
    assert set(SECTIONS) == {
        "warm",
        "calls",
        "rows",
        "decode",
        "request",
        "view",
        "fetch",
        "memory",
        "start",
        "behaviour",
        "ledger",
        "flags",
        "telemetry",
    }
