"""Amounts are exact, positive, in whole cents and bounded. All other values raise InvalidAmount."""

import decimal
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_core import MAX_MONEY, InvalidAmount
from atm_core.money import from_minor_units, parse_amount, parse_limit, parse_money, to_minor_units

WHOLE_CENTS = st.integers(1, int(MAX_MONEY * 100))


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        (100, "100.00"),
        ("100", "100.00"),
        ("10.25", "10.25"),
        ("010.2", "10.20"),
        ("0.01", "0.01"),
        ("10.2500", "10.25"),
        (Decimal("1E+2"), "100.00"),
        (Decimal("10.250"), "10.25"),
        (9_999_999_999_999, "9999999999999.00"),
        ("9999999999999.99", "9999999999999.99"),
    ],
)
def test_valid_amount_is_exact_with_two_decimals(given_: Decimal | int | str, written: str) -> None:
    assert str(parse_amount(given_)) == written


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (0, "must be positive"),
        ("-5", "must be positive"),
        ("-0.00", "must be positive"),
        (Decimal("-0"), "must be positive"),
        (Decimal("0E+1000000"), "must be positive"),
        (Decimal("-1E+1000000"), "must be positive"),
        ("0.001", "at most two decimals"),
        ("10.255", "at most two decimals"),
        (Decimal("1E-1000000"), "at most two decimals"),
        (Decimal("9999999999999.999"), "at most two decimals"),
        ("10000000000000", "at most 9,999,999,999,999.99"),
        (10**13, "at most 9,999,999,999,999.99"),
        pytest.param(10**5000, "at most 9,999,999,999,999.99", id="a huge int"),
        (Decimal("1E+1000000"), "at most 9,999,999,999,999.99"),
        pytest.param(-(10**5000), "at least -9,999,999,999,999.99", id="a huge negative int"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        (Decimal("-Infinity"), "finite"),
        (True, "is a bool"),
        (10.25, 'is a float, which is not exact money: pass a Decimal, an int, or a string such as "10.25"'),
        (None, "is a NoneType"),
        (Fraction(1, 2), "is a Fraction"),
        (b"1", "is a bytes"),
        *[
            (text, "is not a plain decimal number")
            for text in (
                "", " ", "abc", " 5", "5 ", "5\n", "+5", "1e5", "1E5", "1_000", "1,000", "1.", ".5", "0x10", "--5",
                "5-", "NaN", "sNaN", "Infinity", "-inf", "\u0661", "\uff11", "1\u066b5", "1\0", "\ud800", "$5", "5 EUR",
            )
        ],
    ],
)  # fmt: skip
def test_invalid_amount_is_refused_with_the_reason(given_: object, reason: str) -> None:
    with pytest.raises(InvalidAmount) as refusal:
        parse_amount(given_)  # type: ignore[arg-type]
    assert reason in str(refusal.value)
    assert refusal.value.reason in str(refusal.value)


@pytest.mark.parametrize(
    ("given_", "written"), [(0, "0.00"), ("-0.00", "0.00"), (500, "500.00"), (MAX_MONEY, "9999999999999.99")]
)
def test_limit_is_a_sum_that_is_not_negative(given_: Decimal | int | str, written: str) -> None:
    assert str(parse_limit(given_, "overdraft_limit")) == written


def test_no_limit_is_none() -> None:
    assert parse_limit(None, "overdraft_limit") is None


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (-1, "The overdraft limit -1 must not be negative: write it like 0 or 500."),
        (Decimal("-0.01"), "must not be negative"),
        ("0.001", "at most two decimals"),
        ("10000000000000", "at most 9,999,999,999,999.99"),
        ("", "is not a plain decimal number"),
        (Decimal("NaN"), "finite"),
        (False, "is a bool"),
        (0.5, "is a float"),
    ],
)
def test_invalid_limit_is_refused_with_the_reason(given_: object, reason: str) -> None:
    with pytest.raises(InvalidAmount, match=re.escape(reason)) as refusal:
        parse_limit(given_, "overdraft_limit")  # type: ignore[arg-type]
    assert refusal.value.parameter == "overdraft_limit"


@pytest.mark.parametrize("value", ["0.001", 10**13, 1.5, "1e3", Decimal("NaN")])
@pytest.mark.parametrize(
    ("parse", "name"),
    [
        (parse_amount, "amount"),
        (parse_money, "balance"),
        (partial(parse_limit, parameter="withdrawal_limit"), "withdrawal_limit"),
    ],
)
def test_refusal_names_the_wrong_sum(parse: Callable[[object], object], name: str, value: object) -> None:
    with pytest.raises(InvalidAmount, match=f"^The {name.replace('_', ' ')} ") as refusal:
        parse(value)
    assert refusal.value.parameter == name


def test_message_quotes_only_short_input() -> None:
    with pytest.raises(InvalidAmount, match=r"The amount 'abc' is"):
        parse_amount("abc")
    with pytest.raises(InvalidAmount, match=r"^The amount is"):
        parse_amount("x" * 1000)


@given(WHOLE_CENTS)
def test_every_cent_in_range_is_accepted_as_text_and_decimal(cents: int) -> None:
    text = f"{cents // 100}.{cents % 100:02}"
    assert str(parse_amount(text)) == str(parse_amount(Decimal(text))) == text


@given(WHOLE_CENTS, st.sampled_from([1, -1]))
def test_conversion_to_minor_units_is_reversible(cents: int, sign: int) -> None:
    money = from_minor_units(sign * cents)
    assert to_minor_units(money) == sign * cents
    assert money == parse_money(str(money))
    assert money.as_tuple().exponent == -2


def test_decimal_context_changes_nothing() -> None:
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_FLOOR):
        assert str(parse_amount("9999999999999.99")) == "9999999999999.99"
        assert str(from_minor_units(to_minor_units(Decimal("1234567.89")))) == "1234567.89"
