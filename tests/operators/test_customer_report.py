from __future__ import annotations

import io
import json
import logging

import pytest

from entitlement_gate import EntitlementGate, Snapshot
from entitlement_gate.api import default_gate
from entitlement_gate.operators.customer_report import ask, capture_failures
from entitlement_gate.operators.terminal import OperatingError, guard_output
from tests.operators.world import ONE, SINCE, configured, run


def test_only_what_went_wrong_is_kept_from_the_log(caplog):
    logger = logging.getLogger("entitlement_gate")
    with caplog.at_level("INFO", "entitlement_gate"), capture_failures() as capture:
        logger.info("refused")
        logger.warning("a fetch %s", "failed")
    assert (caplog.messages, capture.why) == (["refused"], "a fetch failed")
    logger.warning("afterwards")
    assert caplog.messages[-1] == "afterwards"


def test_where_billing_will_not_say_more_the_denial_stands(billing):
    assert default_gate().has(ONE, "sso")
    billing.fail("status", status=400)
    asked = ask(default_gate(), ONE, "reports")
    assert (asked.decision.reason, asked.explanation.rows) == ("not_entitled", ())


def test_a_source_of_another_kind_is_explained_from_what_it_gives():
    class Source:
        def fetch(self, customer_id):
            return Snapshot(customer_id, (), 0.0)

    with EntitlementGate(Source()) as gate:
        assert ask(gate, ONE, "sso").decision.reason == "not_entitled"


def test_a_stream_without_a_file_may_break_too():
    class Gone(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    with pytest.raises(OperatingError, match="closed before everything was written"), guard_output(Gone()):
        pass


def test_rows_without_a_whole_or_without_a_limit_have_no_bar(scenario_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = [
        {"name": "left only", "type": "Quantity", "quantity_remaining": 3, **SINCE},
        {"name": "no limit", "type": "Quantity", **SINCE},
        {"name": "unreadable", "type": "Quantity", "raw": {"expiry_at": "soon"}},
        {"name": "ends", "type": "Feature", "expiry_at": "2999-12-31T00:00:00Z"},
    ]
    scenario = scenario_file(*rows)
    with configured(BASE_URL=f"sandbox:{scenario}", NULL_QUANTITY="unlimited", STATUS_FILTER=None):
        out = run("show", ONE, "--rows")[1]
        data = json.loads(run("show", ONE, "--format", "json")[1])
    assert "░" not in out
    assert "█" not in out
    assert "unlimited" in out
    assert "until 2999-12-31" in out
    assert "unreadable  unreadable" in out
    assert {row["name"]: row["unlimited"] for row in data["entitlements"]}["no limit"] is True
