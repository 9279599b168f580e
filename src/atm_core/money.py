"""What counts as a sum of money. Everything that decides whether an amount is acceptable is here.

A sum is a :class:`~decimal.Decimal` in the currency's major unit with exactly two decimals, and at
most 15 significant digits: an IEEE 754 double holds every such number closely enough to print the
same cents again (``DBL_DIG`` is 15), so a client that reads JSON numbers as doubles loses nothing.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TypeAlias

from atm_core.errors import InvalidAmount

Amount: TypeAlias = Decimal | int | str
"""What callers may pass for a sum of money: a Decimal, an int, or a plain decimal string such as "10.25"."""

LARGEST_SUM = Decimal("9999999999999.99")
"""The largest amount, and how far a balance may be from zero either way."""

_LARGEST_INT = int(LARGEST_SUM)
_CENT = Decimal("0.01")
_CENTS_IN_ONE = Decimal(100)
_ZERO = Decimal("0.00")
_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
# A context of our own: the caller's may round silently, at any precision and in any direction. 38 digits hold the
# total of any number of accounts.
_EXACT = Context(prec=38, traps=[Inexact, InvalidOperation])


def to_amount(value: Amount) -> Decimal:
    """Turn what a caller gave into an amount that can be deposited or withdrawn.

    :param value: in the currency's major unit. Trailing zeros don't count: 10, 10.0 and 10.000 are one amount.
    :returns: the same value, with two decimals.
    :raises InvalidAmount: if it is a float, a bool or anything else but an :data:`Amount`; if it is not
        finite, not positive, not in whole cents, or more than :data:`LARGEST_SUM`. Nothing is rounded.
    """
    number = _to_decimal(value)
    if number <= 0:
        raise InvalidAmount(value, "must be positive, such as 100 or 10.25")
    return _to_whole_cents(number)


def to_sum(value: Amount) -> Decimal:
    """Turn what a caller gave into a sum of money of either sign, such as an opening balance.

    As :func:`to_amount`, but zero and negative sums are welcome.
    """
    return _to_whole_cents(_to_decimal(value))


def _to_decimal(value: Amount) -> Decimal:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidAmount(value, "must be a finite number, such as 100 or 10.25")
        return value
    if isinstance(value, str):
        if _PLAIN_DECIMAL.fullmatch(value) is None:
            raise InvalidAmount(value, "is not a plain decimal number: write it like 100 or 10.25")
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _LARGEST_INT:  # ints only, and before Decimal(): a huge int takes seconds to convert
            raise _out_of_bounds(value)
        return Decimal(value)
    raise InvalidAmount(
        value,
        f'is a {type(value).__name__}, which is not exact money: pass a Decimal, an int, or a string such as "10.25"',
    )


def _to_whole_cents(number: Decimal) -> Decimal:
    if not number:
        return _ZERO
    if number.same_quantum(_CENT) and number.copy_abs() <= LARGEST_SUM:
        return number  # as sums of money are once they have been through here
    if number.adjusted() > LARGEST_SUM.adjusted():  # before quantize(): the exponent may be a million
        raise _out_of_bounds(number)
    try:
        return number.quantize(_CENT, context=_EXACT)
    except Inexact:
        raise InvalidAmount(number, "must be in whole cents, with at most two decimals, such as 10.25") from None


def _out_of_bounds(number: Decimal | int) -> InvalidAmount:
    return InvalidAmount(number, f"must be at {f'most {LARGEST_SUM:,}' if number > 0 else f'least -{LARGEST_SUM:,}'}")


def exact_sum(first: Decimal, second: Decimal) -> Decimal:
    """Add two sums of money exactly, whatever the caller's decimal context says."""
    return _EXACT.add(first, second)


def exact_difference(first: Decimal, second: Decimal) -> Decimal:
    """Subtract one sum of money from another exactly, whatever the caller's decimal context says."""
    return _EXACT.subtract(first, second)


def to_minor_units(money: Decimal) -> int:
    """The same sum as a whole number of cents, as stores keep it."""
    return int(_EXACT.multiply(money, _CENTS_IN_ONE))


def from_minor_units(cents: int) -> Decimal:
    """The sum that a store keeps as a whole number of cents, with two decimals again."""
    return _EXACT.multiply(_CENT, cents)
