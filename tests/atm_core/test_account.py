"""Accounts are immutable values that apply the rules of transactions."""

import copy
import decimal
import pickle
from dataclasses import FrozenInstanceError
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_core import (
    MAX_MONEY,
    Account,
    AccountClosed,
    AccountNotClosed,
    BalanceNotZero,
    BalanceOutOfRange,
    InsufficientFunds,
    InvalidAccountNumber,
    InvalidAmount,
    WithdrawalLimitExceeded,
)
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


def test_accounts_are_compared_without_the_last_entry() -> None:
    account = Account("0", 5, 10, 20, closed=True, last_entry=3)
    same = Account("0", "5.00", "10.00", "20.0", closed=True)
    assert account == same
    assert hash(account) == hash(same)
    assert account.last_entry == 3
    others = [Account("1", 5, 10, 20, closed=True), Account("0", 6, 10, 20, closed=True), Account("0", 5, 10, 20)]
    others += [Account("0", 5, None, 20, closed=True), Account("0", 5, 10, 0, closed=True)]
    assert account not in others


def test_copied_account_keeps_every_fact() -> None:
    account = Account("0", 5, 10, 20, closed=True, last_entry=3)
    for copied in (copy.deepcopy(account), pickle.loads(pickle.dumps(account))):  # noqa: S301 - our own bytes
        assert repr(copied) == repr(account)


def test_every_change_counts_one_entry() -> None:
    account = Account("0", 5, last_entry=1).withdraw(5).close().reopen().deposit(1).with_limits(None, None)
    assert account.last_entry == 6


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


@pytest.mark.parametrize(
    ("balance", "overdraft_limit", "amount", "available"),
    [
        (10, 0, "10.01", "10.00"),
        (10, 500, "510.01", "510.00"),
        (-10, 500, "490.01", "490.00"),
        (-600, 500, "0.01", "0.00"),
        (0, 0, "0.01", "0.00"),
        ("1000.00", "0.01", "1000.02", "1000.01"),
    ],
)
def test_overdraft_limit_bounds_withdrawals(
    balance: int | str, overdraft_limit: int | str, amount: str, available: str
) -> None:
    account = Account("0", balance, overdraft_limit)
    with pytest.raises(InsufficientFunds) as refusal:
        account.withdraw(amount)
    assert (refusal.value.account_number, str(refusal.value.available)) == ("0", available)
    assert str(account.available) == available
    if refusal.value.available:
        assert account.withdraw(available).available == 0


def test_deposit_passes_below_the_overdraft_limit() -> None:
    assert Account("0", -600, 500).deposit(1).balance == -599


def test_withdrawal_limit_bounds_one_withdrawal() -> None:
    account = Account("0", 1000, withdrawal_limit=400)
    assert account.withdraw(400).withdraw(400).balance == 200
    with pytest.raises(WithdrawalLimitExceeded) as refusal:
        account.withdraw("400.01")
    assert (refusal.value.account_number, str(refusal.value.limit)) == ("0", "400.00")
    with pytest.raises(WithdrawalLimitExceeded):
        account.with_limits(None, Decimal("0.00")).withdraw("0.01")
    assert account.deposit(5000).balance == 6000


@pytest.mark.parametrize(
    ("account", "available"),
    [
        (Account("0", 10), None),
        (Account("0", 10, withdrawal_limit=1), None),
        (Account("0", 10, 0), "10.00"),
        (Account("0", -10, 0), "0.00"),
        (Account("0", MAX_MONEY, MAX_MONEY), "9999999999999.99"),
        (Account("0", 0, 500, closed=True), "0.00"),
        (Account("0", 0, closed=True), "0.00"),
    ],
)
def test_available_is_what_can_be_withdrawn(account: Account, available: str | None) -> None:
    assert (None if account.available is None else str(account.available)) == available


@given(
    st.integers(-MAX_CENTS, MAX_CENTS), st.none() | st.integers(0, MAX_CENTS), st.none() | st.integers(0, MAX_CENTS),
    st.integers(1, MAX_CENTS),
)  # fmt: skip
def test_withdrawal_obeys_both_limits(
    balance: int, overdraft_limit: int | None, withdrawal_limit: int | None, cents: int
) -> None:
    limits = [None if limit is None else from_minor_units(limit) for limit in (overdraft_limit, withdrawal_limit)]
    account = Account("0", from_minor_units(balance), *limits)
    if withdrawal_limit is not None and cents > withdrawal_limit:
        expected: object = WithdrawalLimitExceeded
    elif overdraft_limit is not None and balance - cents < -overdraft_limit:
        expected = InsufficientFunds
    elif balance - cents < -MAX_CENTS:
        expected = BalanceOutOfRange
    else:
        expected = from_minor_units(balance - cents)
    try:
        outcome: object = account.withdraw(from_minor_units(cents)).balance
    except (WithdrawalLimitExceeded, InsufficientFunds, BalanceOutOfRange) as refusal:
        outcome = type(refusal)
    assert outcome == expected


def test_limits_are_replaced_together_and_apply_from_then_on() -> None:
    account = Account("0", -100, 500, 20).with_limits(Decimal("50.00"), None)
    assert account == Account("0", -100, 50)
    with pytest.raises(InsufficientFunds):
        account.withdraw("0.01")
    assert account.deposit(60).withdraw(10).balance == -50


@pytest.mark.parametrize("balance", ["0.01", "-0.01", 1000])
def test_only_balance_zero_can_be_closed(balance: int | str) -> None:
    with pytest.raises(BalanceNotZero) as refusal:
        Account("0", balance).close()
    assert (refusal.value.account_number, refusal.value.balance) == ("0", Decimal(balance))


def test_closed_account_keeps_limits_and_refuses_changes() -> None:
    closed = Account("0", 0, 500, 20).close()
    assert closed == Account("0", 0, 500, 20, closed=True)
    for change in (partial(closed.deposit, 1), partial(closed.withdraw, 21), closed.close):
        with pytest.raises(AccountClosed) as refusal:
            change()
        assert refusal.value.account_number == "0"
    assert closed.with_limits(None, None) == Account("0", 0, closed=True)


def test_reopened_account_is_as_before_closing() -> None:
    account = Account("0", 0, 500, 20)
    assert account.close().reopen() == account
    with pytest.raises(AccountNotClosed) as refusal:
        account.reopen()
    assert refusal.value.account_number == "0"


@pytest.mark.parametrize("limit", [-1, "0.001", 0.5])
def test_invalid_limit_is_refused(limit: int | str) -> None:
    with pytest.raises(InvalidAmount):
        Account("0", 0, limit)
    with pytest.raises(InvalidAmount):
        Account("0", 0, None, limit)


def test_decimal_context_changes_no_rule() -> None:
    account = Account("0", "1234.56", "100.25", "9999999")
    with decimal.localcontext(decimal.Context(prec=1, traps=[decimal.Inexact, decimal.Rounded], Emax=1, Emin=0)):
        assert str(account.available) == "1334.81"
        assert str(account.withdraw("1334.81").balance) == "-100.25"
        with pytest.raises(InsufficientFunds, match=r"1334\.81"):
            account.withdraw("1334.82")
        with pytest.raises(WithdrawalLimitExceeded, match=r"9999999\.00"):
            account.withdraw("9999999.01")
        with pytest.raises(BalanceNotZero, match=r"1234\.56"):
            account.close()


@pytest.mark.parametrize("method", ["deposit", "withdraw"])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("amount", [0, -1, "0.001", 1.5, True, Decimal("NaN")])
def test_invalid_amount_is_refused(method: str, closed: bool, amount: object) -> None:
    with pytest.raises(InvalidAmount):
        getattr(Account("0", 0, 0, 0, closed=closed), method)(amount)


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
