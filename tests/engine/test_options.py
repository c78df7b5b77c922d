import pytest

from entitlement_gate.engine.options import GateKeywords, GateOptions
from entitlement_gate.ledger.protocol import UsageTarget


def test_the_keywords_are_the_options():
    assert set(GateKeywords.__annotations__) == set(GateOptions.__dataclass_fields__)


@pytest.mark.parametrize("name", ["ttl", "stale_while_revalidate", "stale_if_error", "denial_max_age"])
def test_no_seconds_at_all_are_allowed(name):
    assert getattr(GateOptions(**{name: 0}), name) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, bad) for name in ("ttl", "denial_max_age") for bad in (-1, float("nan"), float("inf"), "60", True)],
        ("deadline", 0),
        *[(name, bad) for name in ("max_customers", "max_concurrency") for bad in (0, -1, 1.5, True, None)],
        *[
            (name, bad)
            for name in ("on_unavailable", "on_exhausted")
            for bad in ("perhaps", None, {"a": "no"}, {"a": 1})
        ],
        ("null_quantity", "allow"),
        ("aliases", ["a"]),
        *[("aliases", bad) for bad in ({"a": 1}, {"a": ""}, {"": "a"})],
        ("shadow", "reports"),
        ("shadow", 1),
        ("shadow", {5}),
        ("on_exhausted", {5: "allow"}),
        *[("redis_url", bad) for bad in (6379, "127.0.0.1:6379", "https://127.0.0.1", b"redis://127.0.0.1")],
        *[("ledger", bad) for bad in ("redis", "postgres", 1, object)],
        *[("usage", bad) for bad in ("api_calls", ["api_calls"], {1: {"slug": "calls", "field": "count"}})],
        *[("usage", {"api_calls": bad}) for bad in (None, "calls", {"slug": "calls"}, {"slug": "", "field": "count"})],
        ("usage", {"api_calls": {"slug": "calls", "field": "count", "unit": "call"}}),
    ],
)
def test_what_cannot_work_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        GateOptions(**{name: value})


def test_shadow_by_the_name_in_billing_covers_the_name_in_code():
    options = GateOptions(shadow={"Reports v2"}, aliases={"reports": "Reports v2"})
    assert (options.is_shadowed("reports"), options.is_shadowed("seats")) == (True, False)


@pytest.mark.parametrize(
    ("shadow", "is_shadowed"), [(False, False), (True, True), ({"reports"}, True), (["seats"], False)]
)
def test_shadow_is_for_all_or_by_name(shadow, is_shadowed):
    assert GateOptions(shadow=shadow).is_shadowed("reports") is is_shadowed


def test_the_rule_is_given_its_terms():
    terms = GateOptions(aliases={"a": "b"}, on_exhausted="allow", null_quantity={"*": "unlimited"}).terms
    assert (terms.aliases, terms.on_exhausted, terms.null_quantity) == ({"a": "b"}, "allow", {"*": "unlimited"})


def test_a_url_that_is_refused_is_not_quoted():
    with pytest.raises(ValueError, match=r"^redis_url: ") as error:
        GateOptions(redis_url="http://:secret@127.0.0.1")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("told", [{"slug": "calls", "field": "count"}, UsageTarget("calls", "count")])
def test_usage_is_reported_by_either_name(told):
    options = GateOptions(usage={"API Calls": told}, aliases={"api_calls": "API Calls"})
    assert options.target_of("api_calls") == options.target_of("API Calls") == UsageTarget("calls", "count")
    assert options.target_of("seats") is None
