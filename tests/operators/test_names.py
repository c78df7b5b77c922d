from __future__ import annotations

import keyword

from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.operators.names import did_you_mean, enum_source, nearest


def test_a_typo_finds_what_was_meant():
    assert nearest("seets", ["seats", "sso"]) == ("seats",)
    assert nearest("api-calls", ["API Calls", "sso"]) == ("API Calls",)
    assert nearest("xyz", ["seats"]) == ()


def test_a_name_is_not_near_to_itself():
    assert nearest("seats", ["seats"]) == ()
    assert nearest("seats", ["seats", "Seats", "SEATS", "se ats", "s-eats"]) == ("SEATS", "Seats", "s-eats")


def test_the_question_names_what_is_near():
    assert did_you_mean(()) == ""
    assert did_you_mean(("a", "b")) == "Did you mean 'a' or 'b'?"


def test_the_module_has_a_member_for_each_name():
    source = enum_source(["API Calls", "api-calls", "2fa", "", "Größe", 'a "b"', "日本"])
    assert 'API_CALLS = "API Calls"' in source
    assert 'API_CALLS_2 = "api-calls"' in source
    assert 'N2FA = "2fa"' in source
    assert 'GROSSE = "Größe"' in source or 'GROE = "Größe"' in source
    assert "A_B = 'a \"b\"'" in source
    assert 'UNNAMED = ""' in source


def test_a_module_without_names_is_a_module_still():
    namespace = {}
    exec(enum_source([]), namespace)
    assert list(namespace["Entitlements"]) == []


@given(st.lists(st.text(max_size=8), max_size=8, unique=True))
def test_whatever_billing_lists_comes_back_from_the_module(names):
    namespace = {}
    exec(enum_source(names), namespace)
    members = namespace["Entitlements"]
    assert sorted(member.value for member in members) == sorted(names)
    assert not any(keyword.iskeyword(member.name) for member in members)
