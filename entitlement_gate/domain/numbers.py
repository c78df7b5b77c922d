"""Exact numbers: what counts as a quantity, and sums that never round.

A ``float`` loses integers above 2**53 and every comparison with NaN is false, so numbers are ``Decimal`` from the wire
to the answer.
"""

from __future__ import annotations

import re
import reprlib
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Quantity", "difference", "exact_number", "given_number", "total", "valid_quantity"]

Quantity = int | Decimal | float | str

# Numbers on the wire may have this many digits on either side of the point; with it the widest sum of a full
# answer (50 pages of 100 rows) fits the context, so `Inexact` is a bug and not a rounding.
_WIRE_DIGITS = 400
_ASKED_DIGITS = 100
_EXACT = Context(prec=2 * _WIRE_DIGITS + 10, traps=[Inexact, InvalidOperation])
# ASCII digits only, no blanks, no underscores: narrower than `Decimal()` on purpose.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_ZERO = Decimal(0)


def exact_number(value: object, digits: int = _WIRE_DIGITS) -> Decimal | None:
    """Return the exact value of a JSON number or numeric text, or None for anything else.

    NaN, infinities, booleans and numbers of more than so many ``digits`` on either side of the point are None: a number
    that cannot be computed with exactly is treated as absent.
    """
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int):
        if isinstance(value, bool) or value.bit_length() > 4 * _WIRE_DIGITS:
            return None
        number = Decimal(value)
    elif isinstance(value, str) and len(value) <= 3 * _WIRE_DIGITS and _NUMBER.fullmatch(value):
        number = Decimal(value)
    else:
        return None
    return number if _fits(number, digits) else None


def given_number(value: object, digits: int = _WIRE_DIGITS) -> Decimal | None:
    """Return the exact value of a number that code was given, a ``float`` through its ``repr``; None for anything else.

    >>> given_number(0.1)
    Decimal('0.1')
    """
    return exact_number(float.__repr__(value) if isinstance(value, float) else value, digits)


def valid_quantity(value: object) -> Decimal:
    """Return the quantity asked for as an exact number.

    Accepts ``int``, ``Decimal``, their text, and ``float`` through its ``repr`` (so ``0.1`` is a tenth).

    Raises:
        ValueError: zero, negative, NaN, infinite, a bool, no number at all, or more than 100 digits on either
            side of the point.
    """
    number = given_number(value, _ASKED_DIGITS)
    if number is None or number <= 0:
        raise ValueError(
            "a quantity is a positive int, Decimal or their text with at most 100 digits on either side of the "
            f"point, not {_quote(value)}"
        )
    return number


def total(numbers: Iterable[Decimal]) -> Decimal:
    """Return the sum, to the last digit."""
    amount = _ZERO
    for number in numbers:
        amount = _EXACT.add(amount, number)
    return amount


def difference(minuend: Decimal, subtrahend: Decimal) -> Decimal:
    """Return what is left, to the last digit."""
    return _EXACT.subtract(minuend, subtrahend)


def _quote(value: object) -> str:
    """Python refuses to write an int of more than 4,300 digits."""
    is_huge = isinstance(value, int) and value.bit_length() > 4 * _WIRE_DIGITS
    return "a huge int" if is_huge else reprlib.repr(value)


def _fits(number: Decimal, digits: int) -> bool:
    if not number.is_finite():
        return False
    exponent = number.as_tuple().exponent
    return number.adjusted() < digits and isinstance(exponent, int) and -exponent <= digits
