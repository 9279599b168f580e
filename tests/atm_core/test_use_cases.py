"""Use cases build one transaction or read one page, and refuse malformed input before they call the port."""

from collections.abc import Callable
from typing import Any

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AtmError,
    Closing,
    Deposit,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    InvalidNote,
    InvalidPage,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    close_account,
    deposit,
    get_account,
    open_account,
    read_history,
    reopen_account,
    set_limits,
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
        (lambda: open_account(ACCOUNTS, "0", 0, -1), InvalidAmount),
        (lambda: set_limits(ACCOUNTS, "9", None, -1), InvalidAmount),
        (lambda: deposit(ACCOUNTS, "9", 1, ""), InvalidIdempotencyKey),
        (lambda: close_account(ACCOUNTS, "9", ""), InvalidIdempotencyKey),
        (lambda: withdraw(ACCOUNTS, "9", 1, "key", "two\nlines"), InvalidNote),
        (lambda: reopen_account(ACCOUNTS, "9", note=""), InvalidNote),
        (lambda: read_history(ACCOUNTS, "a b", limit=0), InvalidAccountNumber),
        (lambda: read_history(ACCOUNTS, "9", limit=0), InvalidPage),
    ],
)
def test_malformed_input_takes_precedence_over_unknown_account(
    call: Callable[[], Account], refusal: type[AtmError]
) -> None:
    with pytest.raises(refusal):
        call()


def test_account_opens_with_zero_and_without_limits_by_default() -> None:
    opened = open_account(InMemoryAccountRepository(), "new")
    assert (str(opened.balance), opened.overdraft_limit, opened.withdrawal_limit) == ("0.00", None, None)


class Executing:
    """Remembers the transactions that it executes."""

    def __init__(self) -> None:
        self.executed: list[Transaction] = []

    def get(self, account_number: str, /) -> str:
        return f"read {account_number}"

    def execute(self, transaction: Transaction, /) -> str:
        self.executed.append(transaction)
        return "executed"


@pytest.mark.parametrize(
    ("call", "transaction"),
    [
        (lambda to: open_account(to, "0", 5, 6, 7, "key", "note"), Opening("0", 5, 6, 7, "key", "note")),
        (lambda to: deposit(to, "0", 5, "key", "note"), Deposit("0", 5, "key", "note")),
        (lambda to: withdraw(to, "0", 5, "key", "note"), Withdrawal("0", 5, "key", "note")),
        (lambda to: set_limits(to, "0", 6, None, "key", "note"), LimitChange("0", 6, None, "key", "note")),
        (lambda to: close_account(to, "0", "key", "note"), Closing("0", "key", "note")),
        (lambda to: reopen_account(to, "0", "key", "note"), Reopening("0", "key", "note")),
    ],
)
def test_change_is_one_call_with_one_transaction(call: Callable[[Any], Any], transaction: Transaction) -> None:
    port = Executing()
    assert call(port) == "executed"
    assert port.executed == [transaction]


@pytest.mark.parametrize(
    "page",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": -1},
        {"limit": None},
        {"limit": True},
        {"limit": 1.0},
        {"limit": "1"},
        {"before": 0},
        {"before": -1},
        {"before": 2**53},
        {"before": "1"},
        {"after": -1},
        {"after": 2**53},
        {"after": True},
        {"before": 2, "after": 1},
    ],
    ids=repr,
)
def test_invalid_page_is_refused_with_the_reason(page: dict[str, Any]) -> None:
    with pytest.raises(InvalidPage, match=r"must be a whole number from|cannot be combined with after") as refusal:
        read_history(ACCOUNTS, "0", **page)
    assert (refusal.value.parameter, refusal.value.value) == next(iter(page.items()))


def test_huge_page_number_is_refused_with_a_short_message() -> None:
    with pytest.raises(InvalidPage) as refusal:
        read_history(ACCOUNTS, "0", before=10**5000)
    assert str(refusal.value) == "The argument before must be a whole number from 1 to 9,007,199,254,740,991."


@pytest.mark.parametrize(
    "page", [{"limit": 1}, {"limit": 1000}, {"before": 1}, {"before": 2**53 - 1}, {"after": 0}, {"after": 2**53 - 1}]
)
def test_page_at_the_ends_of_the_range_is_accepted(page: dict[str, int]) -> None:
    assert len(read_history(ACCOUNTS, "0", **page).entries) == (page not in ({"before": 1}, {"after": 2**53 - 1}))


def test_page_has_50_entries_by_default() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)])
    for _ in range(60):
        deposit(accounts, "0", 1)
    assert [entry.account.last_entry for entry in read_history(accounts, "0").entries] == list(range(61, 11, -1))
