"""Ill-formed input is refused before the port is asked anything; the rest is the port's contract."""

from collections.abc import Callable

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AtmError,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidKey,
    check_balance,
    deposit,
    open_account,
    withdraw,
)

ACCOUNTS = InMemoryAccountRepository([Account("0", 1000)])


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: deposit(ACCOUNTS, "9", 0), InvalidAmount),
        (lambda: withdraw(ACCOUNTS, "9", "1e5"), InvalidAmount),
        (lambda: deposit(ACCOUNTS, "a b", 1), InvalidAccountNumber),
        (lambda: check_balance(ACCOUNTS, "\ud800"), InvalidAccountNumber),
        (lambda: open_account(ACCOUNTS, "", 1), InvalidAccountNumber),
        (lambda: open_account(ACCOUNTS, "0", "0.001"), InvalidAmount),
        (lambda: deposit(ACCOUNTS, "9", 1, ""), InvalidKey),
    ],
)
def test_ill_formed_input_wins_over_an_unknown_account(call: Callable[[], Account], refusal: type[AtmError]) -> None:
    with pytest.raises(refusal):
        call()


def test_an_account_is_opened_with_nothing_in_it_unless_said_otherwise() -> None:
    assert str(open_account(InMemoryAccountRepository(), "new").balance) == "0.00"
