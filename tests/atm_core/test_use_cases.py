"""Use cases refuse malformed input before they call the repository. The contract tests the rest."""

from collections.abc import Callable

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AtmError,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    deposit,
    get_account,
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
        (lambda: get_account(ACCOUNTS, "\ud800"), InvalidAccountNumber),
        (lambda: open_account(ACCOUNTS, "", 1), InvalidAccountNumber),
        (lambda: open_account(ACCOUNTS, "0", "0.001"), InvalidAmount),
        (lambda: deposit(ACCOUNTS, "9", 1, ""), InvalidIdempotencyKey),
    ],
)
def test_malformed_input_takes_precedence_over_unknown_account(
    call: Callable[[], Account], refusal: type[AtmError]
) -> None:
    with pytest.raises(refusal):
        call()


def test_account_opens_with_zero_by_default() -> None:
    assert str(open_account(InMemoryAccountRepository(), "new").balance) == "0.00"
