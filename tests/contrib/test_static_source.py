from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from entitlement_gate import (
    CustomerNotFound,
    EntitlementGate,
    SourceMalformed,
    SourceUnavailable,
    check_entitlement,
    has_entitlement,
)
from entitlement_gate.contrib.static_source import StaticSource
from entitlement_gate.testing import SourceContract
from entitlement_gate.testing.source_contract import GIVEN
from tests.customers import FREE, PRO, STRANGER
from tests.docs.pages import DOCS, blocks_of
from tests.engine.fakes import Clock

PLANS = """\
plans:
  pro:
    sso: true
    seats: 5
customers:
  20000000-0000-4000-8000-000000000002: pro
"""
BROKEN = PLANS.replace("seats: 5", "seats: [5")


class OfStaticSource(SourceContract):
    suffix = ""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path):
        self.path = tmp_path / f"plans{self.suffix}"

    def make_source(self):
        self.given = {customer: {each["name"]: _as_text(each) for each in given} for customer, given in GIVEN.items()}
        self.write()
        return StaticSource(self.path)

    def write(self):
        customers = {customer: {"grants": grants} for customer, grants in self.given.items()}
        self.path.write_text(self.dump({"customers": customers}))

    def give(self, source, customer_id, name):
        self.given[customer_id][name] = {}
        self.write()

    def fail(self, source):
        self.path.write_text("{")

    def recover(self, source):
        self.write()


def _as_text(fields):
    """Return what a file holds of a grant: exact numbers and instants are texts."""
    return {name: str(value) for name, value in fields.items() if name != "name"}


class TestJSON(OfStaticSource):
    suffix = ".json"
    dump = staticmethod(json.dumps)


class TestYAML(OfStaticSource):
    suffix = ".yaml"

    @staticmethod
    def dump(document):
        return pytest.importorskip("yaml").safe_dump(document)


class TestTOML(OfStaticSource):
    suffix = ".toml"

    @staticmethod
    def dump(document):
        lines = []
        for customer, said in document["customers"].items():
            for name, fields in said["grants"].items():
                lines.append(f'[customers."{customer}".grants.{name}]')
                lines += [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
        return "\n".join(lines)


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(text, name="plans.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def grants(source, customer=PRO):
    return {grant.name: grant for grant in source.fetch(customer).grants}


def test_a_plan_is_given_to_its_customers(write):
    found = grants(StaticSource(write(PLANS)))
    assert {name: (grant.type, grant.quantity) for name, grant in found.items()} == {
        "sso": ("Feature", None),
        "seats": ("Quantity", 5),
    }


def test_a_snapshot_is_dated_by_the_clock(write):
    clock = Clock()
    assert StaticSource(write(PLANS), clock=clock).fetch(PRO).fetched_at == clock.wall


def test_plans_add_up_and_a_grant_of_ones_own_replaces_theirs(write):
    source = StaticSource(
        write(f"""\
plans:
  pro: &pro {{seats: 5, sso: true, exports: 10}}
  more: {{<<: *pro, seats: 3}}
customers:
  {PRO}: [pro, more]
  {FREE}: {{plans: [pro, more], grants: {{seats: 1, sso: false}}}}
  "*": []
""")
    )
    with EntitlementGate(source) as gate:
        assert gate.check(PRO, "seats").remaining == 8
        assert gate.check(PRO, "exports").remaining == 20
        assert gate.check(FREE, "seats").remaining == 1
        assert gate.check(FREE, "sso").reason == "feature_disabled"
        assert gate.check(STRANGER, "sso").reason == "not_entitled"


def test_everybody_else_has_what_the_star_has(write):
    source = StaticSource(write(PLANS.replace(PRO, '"*"')))
    assert set(grants(source, STRANGER)) == {"sso", "seats"}
    with pytest.raises(CustomerNotFound):
        StaticSource(write(PLANS)).fetch(STRANGER)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "customers: {'*': {grants: {credits: {%s}}}}"),
        ("p.json", '{"customers": {"*": {"grants": {"credits": {%s}}}}}'),
        ("p.toml", 'customers."*".grants.credits = {%s}'),
    ],
)
def test_a_grant_has_every_field(write, name, text):
    fields = {
        "type": '"Credits"',
        "quantity": "0.1",
        "used": '"0.05"',
        "units": '"tokens"',
        "status": '"active"',
        "active_from": '"2026-01-01"',
        "expires_at": '"2026-07-01T12:00:00+02:00"',
        "entitlement_id": '"7C9E6679-7425-40DE-944B-E07FC1F90AE7"',
    }
    sign = " = " if name.endswith("toml") else ": "
    said = ", ".join(
        f"{json.dumps(key) if name.endswith('json') else key}{sign}{value}" for key, value in fields.items()
    )
    (grant,) = StaticSource(write(text % said, name)).fetch(PRO).grants
    assert (grant.type, grant.units, grant.status) == ("Credits", "tokens", "active")
    assert (grant.quantity, grant.remaining) == (Decimal("0.1"), Decimal("0.05"))
    assert grant.active_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert grant.expires_at == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert grant.entitlement_id == "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.mark.parametrize(("name", "sign"), [("p.yaml", ":"), ("p.toml", " =")])
def test_days_and_instants_need_no_quotes_where_the_format_knows_them(write, name, sign):
    open_, close = ("{'*': {grants: {sso: ", "}}}") if sign == ":" else ('{"*" = {grants = {sso = ', "}}}")
    dates = f"{{active_from{sign} 2026-01-01, expires_at{sign} 2026-07-01T12:00:00Z}}"
    (grant,) = StaticSource(write(f"customers{sign} {open_}{dates}{close}", name)).fetch(PRO).grants
    assert grant.active_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert grant.expires_at == datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("1_000", "1000"),
        ("0", "0"),
        ("0x1F", "31"),
        ("0b101", "5"),
        ("1e3", "1000"),
        ("1_000.5", "1000.5"),
        ("9007199254740993.5", "9007199254740993.5"),
        ("-2.50", "-2.50"),
    ],
)
def test_a_number_in_yaml_is_what_it_looks_like_to_the_last_digit(write, scalar, expected):
    source = StaticSource(write(f"customers: {{'*': {{grants: {{calls: {scalar}}}}}}}"))
    assert grants(source)["calls"].quantity == Decimal(expected)


@pytest.mark.parametrize("scalar", ["12:30:00", "1:30", "1:30.5", "0100", "-017", "0_10"])
def test_a_number_that_yaml_takes_for_another_is_refused_with_its_line(write, scalar):
    path = write(f"customers:\n  '*':\n    grants:\n      calls: {scalar}\n")
    with pytest.raises(ValueError, match=rf"line 4: '{scalar}' is another number in YAML"):
        StaticSource(path)


@pytest.mark.parametrize("scalar", ["0o17", "'1_000'", ".inf", ".nan", "2027-01-01", "'yes'"])
def test_what_is_no_number_is_refused_with_its_place(write, scalar):
    with pytest.raises(ValueError, match=r"customers\[0\]\.grants\.calls\.quantity: a number, not"):
        StaticSource(write(f"customers: {{'*': {{grants: {{calls: {scalar}}}}}}}"))


@pytest.mark.parametrize(("word", "is_granted"), [("yes", True), ("on", True), ("no", False), ("off", False)])
def test_the_words_that_yaml_takes_for_booleans_are_features(write, word, is_granted):
    with EntitlementGate(StaticSource(write(f"customers: {{'*': {{grants: {{sso: {word}}}}}}}"))) as gate:
        assert gate.has(PRO, "sso") is is_granted


@pytest.mark.parametrize("scalar", ["!!bool 5", "!!int ''", "!!float ''", "!!float x", "!!timestamp x", "!!int [1]"])
def test_what_is_not_what_its_tag_says_is_refused_with_its_line(write, scalar):
    path = write(f"plans:\n  pro:\n    seats: {scalar}\n")
    with pytest.raises(ValueError, match=r"plans\.yaml: line 3: "):
        StaticSource(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '{"customers": {"*": {"grants": {"seats": 5}}}}'),
        ("p.yaml", "customers: {'*': {grants: {seats: 5}}}"),
        ("p.toml", "customers.'*'.grants.seats = 5"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_what_a_file_says(write, name, text):
    assert grants(StaticSource(write(f"\ufeff{text}", name)))["seats"].quantity == 5


def test_a_day_that_no_month_has_is_refused_with_its_line(write):
    with pytest.raises(ValueError, match="line 2: day is out of range"):
        StaticSource(write("customers: {'*': {grants: {\nsso: {expires_at: 2027-02-30}}}}"))


# Changes


def test_a_change_counts_at_the_next_fetch_however_quick_it_came(write):
    path = write(PLANS)
    source = StaticSource(path)
    stamp = path.stat()
    write(PLANS.replace("seats: 5", "seats: 7"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # of the same size and date as before
    assert grants(source)["seats"].quantity == 7


def test_a_file_that_becomes_wrong_is_malformed_until_it_is_mended(write):
    source = StaticSource(write(PLANS))
    write(BROKEN)
    for _ in range(2):
        with pytest.raises(SourceMalformed, match=r"plans\.yaml: line 5: "):
            source.fetch(PRO)
    write(PLANS)
    assert set(grants(source)) == {"sso", "seats"}


class TimeLimit(BaseException):
    """As a worker's time limit raises in the middle of anything."""


def test_a_change_that_could_not_be_understood_in_time_is_understood_at_the_next_fetch(write, monkeypatch):
    source = StaticSource(write(PLANS))
    write(PLANS.replace("seats: 5", "seats: 0"))
    with monkeypatch.context() as patched:
        patched.setattr(source, "_read", _strike)
        with pytest.raises(TimeLimit):
            source.fetch(PRO)
    assert grants(source)["seats"].quantity == 0


def _strike(text):
    raise TimeLimit


def test_a_quantity_that_was_left_out_is_unknown_and_no_feature(write):
    with EntitlementGate(StaticSource(write(PLANS.replace("seats: 5", "seats: {quantity: }")))) as gate:
        assert gate.check(PRO, "seats").reason == "quantity_unknown"


def test_a_file_that_goes_away_is_unavailable_until_it_is_back(write):
    path = write(PLANS)
    source = StaticSource(path)
    path.unlink()
    with pytest.raises(SourceUnavailable, match=r"plans\.yaml: No such file"):
        source.fetch(PRO)
    write(PLANS)
    assert set(grants(source)) == {"sso", "seats"}


def test_a_gate_keeps_the_last_good_file_and_says_so(write, caplog):
    with EntitlementGate(StaticSource(write(PLANS)), ttl=0, stale_while_revalidate=0) as gate:
        assert gate.check(PRO, "seats", 5).source == "live"
        write(BROKEN)
        decision = gate.check(PRO, "seats", 5)
        assert (decision.allowed, decision.source) == (True, "stale")
        assert gate.check(STRANGER, "sso").reason == "malformed_response"
        assert gate.health()["last_failure"] == "SourceMalformed"
        assert "plans.yaml: line 5" in caplog.text
        write(PLANS)
        assert gate.check(PRO, "seats", 5, refresh=True).source == "live"


# What is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BROKEN, "line 5: "),
        (PLANS + "plans: {}\n", "line 1: 'plans' stands there twice"),
        ("\0", "unacceptable character #x0000: special characters are not allowed"),
        ("- pro", "the file: a mapping, not "),
        ("plan: {}", r"the file: one of plans, customers, not 'plan' \(did you mean 'plans'\?\)"),
        ("plans: [pro]", "plans: a mapping, not "),
        ("plans: {7: {}}", "plans: a name is a text, so write it in quotes: 7"),
        ("plans: {pro: {seats: }}", "plans.pro.seats: true, false, a number or fields, not nothing"),
        ("plans: " + "[" * 5_000, "it is nested too deeply"),
        ("plans: {pro: {seats: many}}", "plans.pro.seats.quantity: a number, not 'many'"),
        ("plans: {pro: {seats: .inf}}", "plans.pro.seats.quantity: a number, not inf"),
        ("plans: {pro: {seats: [5]}}", r"plans.pro.seats.quantity: a number, not \[5\]"),
        (
            "plans: {pro: {seats: {quantty: 5}}}",
            r"plans.pro.seats: one of .* \(did you mean 'quantity'\?\)",
        ),
        ("plans: {pro: {seats: {quantity: true}}}", "plans.pro.seats.quantity: a number, not True"),
        ("plans: {pro: {seats: {type: quantity}}}", "plans.pro.seats.type: one of Feature, Quantity, Credits"),
        ("plans: {pro: {seats: {status: [live]}}}", "plans.pro.seats.status: one of active, draft"),
        ("plans: {pro: {seats: {units: 5}}}", "plans.pro.seats.units: a text, not 5"),
        ("plans: {pro: {seats: {expires_at: soon}}}", "plans.pro.seats.expires_at: a date in ISO 8601, not 'soon'"),
        ("plans: {pro: {seats: {expires_at: 2026}}}", "plans.pro.seats.expires_at: a date in ISO 8601, not 2026"),
        ("plans: {pro: {seats: {entitlement_id: a}}}", "plans.pro.seats.entitlement_id: a UUID, not 'a'"),
        ("customers: {anna: pro}", r"customers\[0\]: a customer is a UUID, or "),
        (
            f"plans: {{pro: {{}}}}\ncustomers: {{{PRO}: prro}}",
            r"customers\[0\]: .* \(did you mean 'pro'\?\)",
        ),
        (f"customers: {{{PRO}: {{plans: [[]]}}}}", r"customers\[0\]: the name of a plan, or a list of them, not \[\]"),
        (f"customers: {{{PRO}: 5}}", r"customers\[0\]: the name of a plan, or a list of them, not 5"),
        (f"plans: {{a: {{}}}}\ncustomers: {{{PRO}: [a, a]}}", r"customers\[0\]: the plan 'a' stands there twice"),
        (f"customers: {{{PRO}: {{grant: {{}}}}}}", r"customers\[0\]: one of plans, grants, not 'grant'"),
        (f"customers: {{{PRO}: {{grants: {{a: x}}}}}}", r"customers\[0\]\.grants\.a\.quantity: a number"),
        (
            f"customers: {{{'a' * 8 + PRO[8:]}: [], {'A' * 8 + PRO[8:]}: []}}",
            r"customers\[1\]: the customer stands there twice",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_nobodys_id(write, text, said):
    with pytest.raises(ValueError, match=rf"plans\.yaml: {said}") as told:
        StaticSource(write(text))
    assert PRO not in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.json", '{"plans": {},\n "customers": }', "line 2, column 15: Expecting value"),
        ("p.json", '{"plans": {}, "plans": {}}', "'plans' stands there twice"),
        ("p.toml", "[plans]\n= 1", "at line 2, column 1"),
        ("p.txt", "", r"its name ends in \.json, \.toml, \.yaml, \.yml"),
    ],
)
def test_other_formats_tell_the_line_too(write, name, text, said):
    with pytest.raises(ValueError, match=said):
        StaticSource(write(text, name))


def test_what_is_no_text_and_what_is_not_there_are_told(tmp_path):
    path = tmp_path / "plans.json"
    with pytest.raises(ValueError, match=r"plans\.json: No such file"):
        StaticSource(path)
    path.write_bytes(b"{\xff}")
    with pytest.raises(ValueError, match=r"plans\.json: not UTF-8: byte 1"):
        StaticSource(path)


def test_without_pyyaml_the_error_names_the_extra_and_json_works(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"install entitlement_gate\[yaml\]"):
        StaticSource(write(PLANS))
    assert StaticSource(write("{}", "p.json"))


def test_its_repr_names_the_file_and_nobody(write):
    path = write(PLANS)
    assert repr(StaticSource(path)) == f"<StaticSource {str(path)!r} of 1 customers>"


# In a project


def test_the_settings_name_what_makes_the_source(write):
    path = write(PLANS)
    with override_settings(ENTITLEMENT_GATE={"SOURCE": lambda: StaticSource(path)}):
        assert has_entitlement(PRO, "seats", 5)
        assert check_entitlement(STRANGER, "sso").reason == "customer_not_found"
    with override_settings(ENTITLEMENT_GATE={"SOURCE": "entitlement_gate.testing.FakeSource"}):
        assert check_entitlement(PRO, "sso").reason == "customer_not_found"


def test_a_source_that_cannot_be_made_names_the_setting(write):
    path = write(BROKEN)
    with (
        override_settings(ENTITLEMENT_GATE={"SOURCE": lambda: StaticSource(path)}),
        pytest.raises(ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['SOURCE'\]: .*plans\.yaml: line 5"),
    ):
        has_entitlement(PRO, "sso")


def test_snapshots_of_a_file_are_shared_with_nobody(write):
    path = write(PLANS)
    settings = {"SOURCE": lambda: StaticSource(path), "REDIS_URL": "redis://127.0.0.1:1/0"}
    with (
        override_settings(ENTITLEMENT_GATE=settings),
        pytest.raises(ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['REDIS_URL'\]: snapshots of StaticSource"),
    ):
        has_entitlement(PRO, "sso")


def test_what_is_no_source_names_the_setting():
    with (
        override_settings(ENTITLEMENT_GATE={"SOURCE": object}),
        pytest.raises(
            ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['SOURCE'\]: .* returns object, which has no fetch"
        ),
    ):
        has_entitlement(PRO, "sso")


def test_the_files_of_the_guide_are_understood(write):
    blocks = {block.language: block.text for block in blocks_of(DOCS / "how-to" / "use-another-source.md")}
    with EntitlementGate(StaticSource(write(blocks["yaml"]))) as gate:
        assert gate.check(PRO, "seats").remaining == 20
        assert gate.check(PRO, "api_calls").limit == 12000
        assert gate.has(STRANGER, "dashboards")
        assert not gate.has(STRANGER, "sso")
