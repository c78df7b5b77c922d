from decimal import Decimal, localcontext

import pytest

from entitlement_gate.domain.numbers import difference, exact_number, total, valid_quantity


def kind_of(value):
    """Name a case: Python refuses to write an int of 5,000 digits."""
    return type(value).__name__


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (750, "750"),
        (-3, "-3"),
        (Decimal("0.10"), "0.10"),
        ("12.5", "12.5"),
        ("+5", "5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("7.5e2", "7.5E+2"),
        ("9007199254740993.0", "9007199254740993.0"),
        (10**399, "1" + "0" * 399),
        ("1e-400", "1E-400"),
    ],
)
def test_numbers_and_their_text_are_exact(value, number):
    assert exact_number(value) == Decimal(number)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 1.5, [], {}, b"5"),
        *("", " 5", "5 ", "1_000", "0x10", "NaN", "Infinity", "five", "1e", ".", "1,5", "\u0661\u0662", "5\n"),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")),
        *(10**400, -(10**400), 1 << 100_000, "1e400", "1e-401", "1e999999999", "1e9999999999", "9" * 5000),
    ],
    ids=kind_of,
)
def test_what_cannot_be_computed_with_is_absent(value):
    assert exact_number(value) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, "1"),
        (0.1, "0.1"),
        (1e22, "1e22"),
        ("2.50", "2.50"),
        (Decimal("1e-100"), "1e-100"),
        (10**99, "1e99"),
        ("9" * 100 + "." + "9" * 100, "9" * 100 + "." + "9" * 100),
    ],
)
def test_a_quantity_is_a_positive_number_or_its_text(value, number):
    assert valid_quantity(value) == Decimal(number)


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, True, False, None, 0.0, -0.5, float("nan"), float("inf"), -float("inf"), 5e-324),
        *("", "0", "-1", "many", "1e100", "1e-101", "0.0", " 1", [], object(), b"1"),
        *(Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e-101")),
        *(10**100, 10**5000, "9" * 101),
    ],
    ids=kind_of,
)
def test_anything_else_is_no_quantity(value):
    with pytest.raises(ValueError, match="a quantity is a positive int"):
        valid_quantity(value)


def test_a_quantity_that_is_refused_is_not_quoted_at_length():
    with pytest.raises(ValueError, match="not ") as caught:
        valid_quantity("x" * 10_000)

    assert len(str(caught.value)) < 250


def test_a_float_of_another_library_is_taken_by_its_digits():
    class Float64(float):
        def __repr__(self):
            return f"np.float64({float(self)})"

    assert valid_quantity(Float64(0.1)) == Decimal("0.1")


def test_sums_never_round():
    assert total([Decimal("1e399"), Decimal("1e-400")]) - Decimal("1e399") != 1
    assert f"{total([Decimal('1e399'), Decimal('1e-400')]):f}" == "1" + "0" * 399 + "." + "0" * 399 + "1"


def test_a_sum_of_nothing_is_zero():
    assert total([]) == 0


def test_differences_never_round():
    assert f"{difference(Decimal('1e50'), Decimal('1e-50')):f}" == "9" * 50 + "." + "9" * 50


def test_the_context_of_the_application_changes_nothing():
    with localcontext() as context:
        context.prec = 2

        assert total([Decimal(1000), Decimal("0.001")]) == Decimal("1000.001")
        assert difference(Decimal(1000), Decimal("0.001")) == Decimal("999.999")
        assert valid_quantity("1234567") == Decimal(1234567)
