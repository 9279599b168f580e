"""InMemoryAccountRepository beyond the contract: the bound on the entries and keys that are kept."""

from collections.abc import Sequence

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    Deposit,
    Entry,
    IdempotencyKeyReused,
    Opening,
    deposit,
    get_account,
    open_account,
    read_history,
)


def numbers(entries: Sequence[Entry]) -> list[int]:
    return [entry.account.last_entry for entry in entries]


def test_initial_accounts_have_an_opening() -> None:
    accounts = InMemoryAccountRepository([Account("0", 5, 6, 7)])
    (entry,) = read_history(accounts, "0").entries
    assert entry.transaction == Opening("0", 5, 6, 7)
    assert get_account(accounts, "0").last_entry == 1


def test_only_the_most_recent_entries_and_their_keys_are_kept() -> None:
    accounts = InMemoryAccountRepository(max_entries=3)
    open_account(accounts, "0", 0, key="first")
    open_account(accounts, "1", 0)
    for key in ("second", "third"):
        deposit(accounts, "0", 1, key)

    assert numbers(read_history(accounts, "0").entries) == [3, 2]
    assert numbers(read_history(accounts, "1").entries) == [1]
    assert deposit(accounts, "0", 1, "second").balance == 1
    assert deposit(accounts, "0", 1, "third").balance == 2
    with pytest.raises(IdempotencyKeyReused):
        deposit(accounts, "0", 2, "third")
    assert deposit(accounts, "0", 2, "first").balance == 4
    assert numbers(read_history(accounts, "1").entries) == []


def test_pages_end_at_the_oldest_entry_that_is_kept() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], max_entries=4)
    for _ in range(10):
        deposit(accounts, "0", 1)

    newest = read_history(accounts, "0", limit=3)
    assert (numbers(newest.entries), newest.has_more) == ([11, 10, 9], True)
    last = read_history(accounts, "0", before=9, limit=3)
    assert (numbers(last.entries), last.has_more) == ([8], False)
    assert read_history(accounts, "0", before=8) == ([], False)
    oldest = read_history(accounts, "0", after=0, limit=3)
    assert (numbers(oldest.entries), oldest.has_more) == ([8, 9, 10], True)
    assert numbers(read_history(accounts, "0", after=10).entries) == [11]


def test_forgotten_key_is_free_and_is_remembered_anew() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], max_entries=2)
    deposit(accounts, "0", 1, "key")
    for _ in range(2):
        deposit(accounts, "0", 1)
    deposit(accounts, "0", 5, "key")
    deposit(accounts, "0", 1)
    assert deposit(accounts, "0", 5, "key").balance == 8
    assert get_account(accounts, "0").balance == 9


def test_batch_that_fails_changes_no_account_without_an_entry() -> None:
    class Broken(Deposit):
        def apply(self, account: Account | None) -> Account:
            raise ValueError(f"a bug: {account}")

    accounts = InMemoryAccountRepository([Account("0", 0)])
    with pytest.raises(ValueError, match="a bug"):
        accounts.execute_batch([Deposit("0", 5), Broken("0", 1)])
    assert get_account(accounts, "0") == Account("0", 0)
    assert deposit(accounts, "0", 1).last_entry == 2
    assert [entry.account.last_entry for entry in read_history(accounts, "0").entries] == [2, 1]
