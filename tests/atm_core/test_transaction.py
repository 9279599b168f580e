"""Transactions as values, and decide()."""

import pytest

from atm_core import (
    Account,
    AccountNotFound,
    BalanceOutOfRange,
    Entry,
    IdempotencyKeyReused,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    Transaction,
    decide,
)


def test_equal_amounts_make_equal_transactions() -> None:
    assert Transaction("0", "deposit", 100, "key") == Transaction("0", "deposit", "100.00", "key")
    assert Transaction("0", "deposit", 100) != Transaction("0", "withdrawal", 100)


def test_apply_deposits_or_withdraws() -> None:
    account = Account("0", 1000)
    assert Transaction("0", "deposit", 1).apply(account).balance == 1001
    assert Transaction("0", "withdrawal", 1).apply(account).balance == 999


def test_invalid_amount_takes_precedence() -> None:
    with pytest.raises(InvalidAmount):
        Transaction("no such number!", "deposit", 0, "")


def test_unknown_kind_raises_value_error() -> None:
    with pytest.raises(ValueError, match='must be "deposit" or "withdrawal", not \'Deposit\''):
        Transaction("0", "Deposit", 1)  # type: ignore[arg-type]


def test_malformed_account_number_is_refused() -> None:
    with pytest.raises(InvalidAccountNumber):
        Transaction("a b", "deposit", 1)


@pytest.mark.parametrize("key", ["k", " ", "~", "a b", '"', "\\", "k" * 255])
def test_valid_key_is_accepted(key: str) -> None:
    assert Transaction("0", "deposit", 1, key).key == key


@pytest.mark.parametrize("key", ["", "k" * 256, "\n", "a\n", "\0", "\x7f", "é", "\ud800", 1, b"k"])
def test_invalid_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidIdempotencyKey, match="1 to 255 printable ASCII characters") as refusal:
        Transaction("0", "deposit", 1, key)  # type: ignore[arg-type]
    assert refusal.value.key == key


def test_decide_returns_outcomes_and_entries_to_write() -> None:
    recorded = Entry(Transaction("0", "deposit", 5, "old"), Account("0", 77))
    transactions = [
        Transaction("0", "deposit", 1, "new"),
        Transaction("0", "deposit", 1, "new"),
        Transaction("0", "deposit", 2, "new"),
        Transaction("0", "deposit", 5, "old"),
        Transaction("0", "withdrawal", 5, "old"),
        Transaction("9", "deposit", 1),
        Transaction("0", "withdrawal", "9999999999999.99"),
        Transaction("0", "withdrawal", "9999999999999.99"),
    ]
    accounts = {"0": Account("0", 1000)}

    outcomes, entries = decide(transactions, accounts, {("0", "old"): recorded})

    assert outcomes[:2] == [Account("0", 1001)] * 2
    assert outcomes[3] == Account("0", 77)
    assert outcomes[6] == Account("0", "-9999999998998.99")
    assert [type(outcomes[n]) for n in (2, 4, 5, 7)] == [
        IdempotencyKeyReused,
        IdempotencyKeyReused,
        AccountNotFound,
        BalanceOutOfRange,
    ]
    assert entries == [
        Entry(transactions[0], Account("0", 1001)),
        Entry(transactions[6], Account("0", "-9999999998998.99")),
    ]
    assert accounts == {"0": Account("0", "-9999999998998.99")}
