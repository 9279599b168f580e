"""What counts as an amount: exact, positive, whole cents, bounded; a value or InvalidAmount, and nothing else."""

import decimal
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_core import LARGEST_SUM, InvalidAmount
from atm_core.money import from_minor_units, to_amount, to_minor_units, to_sum

WHOLE_CENTS = st.integers(1, int(LARGEST_SUM * 100))


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
def test_an_acceptable_amount_is_kept_exactly_with_two_decimals(given_: Decimal | int | str, written: str) -> None:
    assert str(to_amount(given_)) == written


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
def test_any_other_amount_is_refused_with_what_is_wrong_and_what_would_be_right(given_: object, reason: str) -> None:
    with pytest.raises(InvalidAmount) as refusal:
        to_amount(given_)  # type: ignore[arg-type]
    assert reason in str(refusal.value)
    assert refusal.value.reason in str(refusal.value)


def test_a_message_quotes_what_was_given_only_if_it_is_short() -> None:
    with pytest.raises(InvalidAmount, match=r"The amount 'abc' is"):
        to_amount("abc")
    with pytest.raises(InvalidAmount, match=r"^The amount is"):
        to_amount("x" * 1000)


@given(WHOLE_CENTS)
def test_every_whole_cent_in_range_is_accepted_in_every_form_and_means_the_same(cents: int) -> None:
    text = f"{cents // 100}.{cents % 100:02}"
    assert str(to_amount(text)) == str(to_amount(Decimal(text))) == text


@given(WHOLE_CENTS, st.sampled_from([1, -1]))
def test_a_store_s_whole_cents_give_the_same_sum_back(cents: int, sign: int) -> None:
    money = from_minor_units(sign * cents)
    assert to_minor_units(money) == sign * cents
    assert money == to_sum(str(money))
    assert money.as_tuple().exponent == -2


def test_the_caller_s_decimal_context_changes_nothing() -> None:
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_FLOOR):
        assert str(to_amount("9999999999999.99")) == "9999999999999.99"
        assert str(from_minor_units(to_minor_units(Decimal("1234567.89")))) == "1234567.89"
