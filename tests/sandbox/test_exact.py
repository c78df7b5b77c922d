from decimal import Decimal

import pytest

from entitlement_gate.sandbox import exact


@pytest.mark.parametrize("text", ["9007199254740993.5", "0.1", "1E+400", "123456789012345678901234567890"])
def test_a_number_comes_out_as_it_went_in(text):
    assert exact.dumps(exact.loads(text)) == text


def test_a_tiny_number_may_change_its_notation_but_not_its_value():
    assert exact.dumps(exact.loads("-0.000000000000000000001")) == "-1E-21"


def test_everything_else_is_plain_json():
    value = {"a": [1, True, None, "é\n", {}], "b": ()}
    assert exact.loads(exact.dumps(value)) == {"a": [1, True, None, "é\n", {}], "b": []}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "", "{", b"\xff", "[" * 100_000, "1" * 5000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        exact.loads(text)


def test_a_decimal_is_written_as_a_number():
    assert exact.dumps([Decimal("54.80")]) == "[54.80]"
