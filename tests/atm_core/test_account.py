"""Accounts are immutable values that apply the rules for deposits and withdrawals."""

import decimal
from dataclasses import FrozenInstanceError
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_core import MAX_MONEY, Account, BalanceOutOfRange, InvalidAccountNumber, InvalidAmount
from atm_core.money import from_minor_units

MAX_CENTS = int(MAX_MONEY * 100)


def test_deposit_returns_a_new_account() -> None:
    account = Account("0", 1000)
    assert account.deposit("100.10") == Account("0", "1100.10")
    assert account.balance == 1000


def test_withdrawal_may_overdraw() -> None:
    assert Account("0", 10).withdraw("10.01").balance == Decimal("-0.01")


def test_account_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Account("0", 1000).balance = Decimal(2000)  # type: ignore[misc]


@given(st.integers(-MAX_CENTS, MAX_CENTS), st.integers(1, MAX_CENTS))
def test_every_balance_is_exact_or_refused(opening: int, cents: int) -> None:
    account, amount = Account("0", from_minor_units(opening)), from_minor_units(cents)
    for change, expected in ((account.deposit, opening + cents), (account.withdraw, opening - cents)):
        if abs(expected) > MAX_CENTS:
            with pytest.raises(BalanceOutOfRange):
                change(amount)
        else:
            assert (
                str(change(amount).balance) == f"{'-' * (expected < 0)}{abs(expected) // 100}.{abs(expected) % 100:02}"
            )


def test_decimal_context_does_not_round_a_balance() -> None:
    with decimal.localcontext(prec=3, rounding=decimal.ROUND_FLOOR):
        assert str(Account("0", "1000.01").deposit("0.02").balance) == "1000.03"
        assert str(Account("0", 10).withdraw(10).balance) == "0.00"


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=3, rounding=decimal.ROUND_DOWN),
        decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded]),
        decimal.Context(prec=3, Emax=5, Emin=-5, traps=[decimal.Overflow, decimal.Underflow]),
    ],
)
def test_decimal_context_does_not_change_the_range(context: decimal.Context) -> None:
    largest = Account("0", MAX_MONEY)
    lowest = Account("0", MAX_MONEY.copy_negate())
    with decimal.localcontext(context):
        assert str(Account("0", "-9995000000000").deposit("0.01").balance) == "-9994999999999.99"
        with pytest.raises(BalanceOutOfRange, match=r"from -9,999,999,999,999\.99 to 9,999,999,999,999\.99"):
            largest.deposit("0.01")
        with pytest.raises(BalanceOutOfRange):
            lowest.withdraw("0.01")


@pytest.mark.parametrize("method", ["deposit", "withdraw"])
@pytest.mark.parametrize("amount", [0, -1, "0.001", 1.5, True, Decimal("NaN")])
def test_invalid_amount_is_refused(method: str, amount: object) -> None:
    with pytest.raises(InvalidAmount):
        getattr(Account("0", 1000), method)(amount)


@pytest.mark.parametrize("balance", [1.5, "0.001", MAX_MONEY + Decimal("0.01"), "-1e3", Decimal("-Infinity"), None])
def test_invalid_balance_is_refused(balance: object) -> None:
    with pytest.raises(InvalidAmount):
        Account("0", balance)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["0", "a", "Z", "_", "-", "a-b_C-9", "x" * 64])
def test_valid_account_number_is_accepted(number: str) -> None:
    assert Account(number, 0).account_number == number


@pytest.mark.parametrize(
    "number", ["", "x" * 65, " ", "a b", "0\n", "\0", "a/b", "é", "\u0661", "\ud800", "a.b", 0, None, b"0"]
)
def test_invalid_account_number_is_refused(number: object) -> None:
    with pytest.raises(InvalidAccountNumber, match="1 to 64 characters") as refusal:
        Account(number, 0)  # type: ignore[arg-type]
    assert refusal.value.account_number == number
