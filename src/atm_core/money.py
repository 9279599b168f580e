"""Sums of money. This module alone decides which values are acceptable.

A sum is a :class:`~decimal.Decimal` in the currency's major unit with exactly two decimals and at most
15 significant digits. An IEEE 754 double holds every such number closely enough to print the same cents
again (``DBL_DIG`` is 15), so a client that reads JSON numbers as doubles loses nothing.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final, TypeAlias

from atm_core.errors import InvalidAmount

MoneyLike: TypeAlias = Decimal | int | str
"""A sum of money as callers may pass it: a Decimal, an int, or a plain decimal string such as "10.25"."""

MAX_MONEY: Final = Decimal("9999999999999.99")
"""The largest amount, and the largest distance of a balance from zero."""

_MAX_INT = int(MAX_MONEY)
_MAX_EXPONENT = MAX_MONEY.adjusted()
_CENT = Decimal("0.01")
_ZERO = Decimal("0.00")
_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
# The caller's decimal context may round silently, so this module has its own. 38 digits hold the total of any number
# of accounts.
_EXACT = Context(prec=38, traps=[Inexact, InvalidOperation])


def parse_amount(value: MoneyLike) -> Decimal:
    """Return the value as an amount that can be deposited or withdrawn.

    :param value: in the currency's major unit. Trailing zeros are ignored: 10, 10.0 and 10.000 are the same amount.
    :returns: the same value with two decimals.
    :raises InvalidAmount: if the value is not :data:`MoneyLike` (a float or a bool, for example), or if it is
        not finite, not positive, not in whole cents, or more than :data:`MAX_MONEY`. Nothing is rounded.
    """
    number = _to_decimal(value, "amount")
    if number <= 0:
        raise InvalidAmount(value, "must be positive, such as 100 or 10.25")
    return _to_whole_cents(number, "amount")


def parse_money(value: MoneyLike) -> Decimal:
    """Return the value as a balance, which may have either sign.

    The rules are those of :func:`parse_amount`, but zero and negative sums are accepted.
    """
    return _to_whole_cents(_to_decimal(value, "balance"), "balance")


def parse_limit(value: MoneyLike | None, parameter: str) -> Decimal | None:
    """Return the value as a limit, or None for no limit.

    The rules are those of :func:`parse_amount`, but zero is accepted.

    :param parameter: the limit's name in the error.
    """
    if value is None:
        return None
    number = _to_decimal(value, parameter)
    if number < 0:
        raise InvalidAmount(value, "must not be negative: write it like 0 or 500", parameter)
    return _to_whole_cents(number, parameter)


def _to_decimal(value: MoneyLike, parameter: str) -> Decimal:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidAmount(value, "must be a finite number, such as 100 or 10.25", parameter)
        return value
    if isinstance(value, str):
        if _PLAIN_DECIMAL.fullmatch(value) is None:
            raise InvalidAmount(value, "is not a plain decimal number: write it like 100 or 10.25", parameter)
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _MAX_INT:  # checked before Decimal(), which takes seconds to convert a huge int
            raise _out_of_bounds(value, parameter)
        return Decimal(value)
    raise InvalidAmount(
        value,
        f'is a {type(value).__name__}, which is not exact money: pass a Decimal, an int, or a string such as "10.25"',
        parameter,
    )


def _to_whole_cents(number: Decimal, parameter: str) -> Decimal:
    if not number:
        return _ZERO
    if number.same_quantum(_CENT) and number.copy_abs() <= MAX_MONEY:
        return number  # the usual case: a sum that was parsed before
    if number.adjusted() > _MAX_EXPONENT:  # checked before quantize(), because the exponent may be a million
        raise _out_of_bounds(number, parameter)
    try:
        return _EXACT.quantize(number, _CENT)
    except Inexact:
        reason = "must be in whole cents, with at most two decimals, such as 10.25"
        raise InvalidAmount(number, reason, parameter) from None


def _out_of_bounds(number: Decimal | int, parameter: str) -> InvalidAmount:
    bound = f"most {MAX_MONEY:,}" if number > 0 else f"least -{MAX_MONEY:,}"
    return InvalidAmount(number, f"must be at {bound}", parameter)


def exact_sum(first: Decimal, second: Decimal) -> Decimal:
    """Return the exact sum, independent of the caller's decimal context."""
    return _EXACT.add(first, second)


def exact_difference(first: Decimal, second: Decimal) -> Decimal:
    """Return the first sum minus the second, exact and independent of the caller's decimal context."""
    return _EXACT.subtract(first, second)


def to_minor_units(money: Decimal) -> int:
    """Return the sum as an integer number of cents, the form in which SQL stores keep it."""
    return int(_EXACT.scaleb(money, 2))


def from_minor_units(cents: int) -> Decimal:
    """Return a number of cents as a sum in the major unit, with two decimals."""
    return _EXACT.multiply(_CENT, cents)
