"""The part of the repository contract that is about history."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import ClassVar, Protocol

import pytest

from atm_core import (
    Account,
    AccountHistory,
    AccountNotFound,
    AccountRepository,
    Closing,
    Deposit,
    Entry,
    IdempotencyKeyReused,
    InsufficientFunds,
    LimitChange,
    Opening,
    Page,
    Reopening,
    Transaction,
    Withdrawal,
    deposit,
    open_account,
    read_history,
    withdraw,
)


class Accounts(AccountRepository[Account], AccountHistory[Page], Protocol):
    """The subject of the contract: a blocking repository with history."""


def numbers(page: Page) -> list[int]:
    """Return the numbers of a page's entries."""
    return [entry.account.last_entry for entry in page.entries]


def transaction_as_sent(entry: Entry, sent: Transaction) -> Transaction:
    """Return an entry's transaction. If it was sent without a key, its key is ignored.

    A client of a server may give such a transaction a key of its own, so that it can be repeated safely.
    """
    return replace(entry.transaction, key=None) if sent.key is None else entry.transaction


class HistoryContract:
    """Tests for every ``AccountHistory[Page]`` that is also an ``AccountRepository[Account]``."""

    pages_during_deposits: ClassVar[int] = 10

    def test_history_holds_every_fact_of_every_kind(self, accounts: Accounts) -> None:
        began = datetime.now(UTC)
        transactions: list[Transaction] = [
            Opening("2", "12.34", 500, "99.99", "opening", "welcome"),
            Deposit("2", "0.66", "deposit", "cash"),
            Withdrawal("2", 13, "withdrawal", "rent"),
            LimitChange("2", 0, None, "limits", "new contract"),
            LimitChange("2", None, "0.01"),
            Closing("2", "closing", "moved away"),
            Reopening("2", "reopening", "came back"),
            Closing("2"),
            Reopening("2"),
            Deposit("2", 1),
            Withdrawal("2", "0.01"),
        ]
        answers = [accounts.execute(transaction) for transaction in transactions]
        history = read_history(accounts, "2", after=0)
        assert list(map(transaction_as_sent, history.entries, transactions)) == transactions
        assert [entry.account for entry in history.entries] == answers
        assert numbers(history) == [answer.last_entry for answer in answers] == list(range(1, len(answers) + 1))
        assert str(history.entries[0].amount) == "12.34"
        assert not history.has_more

        times = [entry.recorded_at for entry in history.entries]
        known = [time for time in times if time is not None]
        assert known == sorted(known)
        assert len(known) == len(times)
        assert began - timedelta(minutes=1) < known[0] <= known[-1] < datetime.now(UTC) + timedelta(minutes=1)

    def test_history_of_a_new_account_is_its_opening(self, accounts: Accounts) -> None:
        opening = Opening("2", -5)
        accounts.execute(opening)
        (entry,) = read_history(accounts, "2").entries
        assert (transaction_as_sent(entry, opening), entry.account) == (opening, Account("2", -5))

    def test_pages_are_cut_at_the_entry_numbers(self, accounts: Accounts) -> None:
        for _ in range(9):
            deposit(accounts, "0", 1)
        pages: list[tuple[dict[str, int], list[int], bool]] = [
            ({}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1], False),
            ({"limit": 10}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1], False),
            ({"limit": 9}, [10, 9, 8, 7, 6, 5, 4, 3, 2], True),
            ({"limit": 1}, [10], True),
            ({"before": 10, "limit": 3}, [9, 8, 7], True),
            ({"before": 4, "limit": 3}, [3, 2, 1], False),
            ({"before": 2, "limit": 3}, [1], False),
            ({"before": 1}, [], False),
            ({"before": 1000, "limit": 2}, [10, 9], True),
            ({"before": 2**53 - 1, "limit": 1}, [10], True),
            ({"after": 0, "limit": 3}, [1, 2, 3], True),
            ({"after": 7, "limit": 3}, [8, 9, 10], False),
            ({"after": 8, "limit": 3}, [9, 10], False),
            ({"after": 10}, [], False),
            ({"after": 2**53 - 1}, [], False),
        ]
        for arguments, expected, has_more in pages:
            page = read_history(accounts, "0", **arguments)
            assert (numbers(page), page.has_more) == (expected, has_more), arguments

    def test_history_of_an_unknown_account_is_refused(self, accounts: Accounts) -> None:
        for arguments in ({}, {"before": 5}, {"after": 5}):
            with pytest.raises(AccountNotFound) as refusal:
                read_history(accounts, "2", **arguments)
            assert refusal.value.account_number == "2"

    def test_history_of_a_closed_account_is_readable(self, accounts: Accounts) -> None:
        withdraw(accounts, "0", 1000)
        accounts.execute(Closing("0"))
        assert numbers(read_history(accounts, "0")) == [3, 2, 1]
        assert read_history(accounts, "0").entries[0].account.closed

    def test_histories_are_separate(self, accounts: Accounts) -> None:
        for number in ("0", "1", "0", "1", "1"):
            deposit(accounts, number, 1)
        assert numbers(read_history(accounts, "0")) == [3, 2, 1]
        assert {entry.account.account_number for entry in read_history(accounts, "1").entries} == {"1"}

    def test_refusals_and_replays_leave_no_entry(self, accounts: Accounts) -> None:
        open_account(accounts, "2", 10, 0, key="opening")
        first = deposit(accounts, "2", 1, "key")
        assert deposit(accounts, "2", 1, "key").last_entry == first.last_entry == 2
        assert open_account(accounts, "2", 10, 0, key="opening").last_entry == 1
        with pytest.raises(InsufficientFunds):
            withdraw(accounts, "2", 12, "another")
        with pytest.raises(IdempotencyKeyReused):
            deposit(accounts, "2", 2, "key")
        assert numbers(read_history(accounts, "2")) == [2, 1]
        assert deposit(accounts, "2", 1, "another").last_entry == 3

    def test_pages_during_deposits_hold_each_entry_once(self, accounts: Accounts) -> None:
        for _ in range(self.pages_during_deposits * 3):
            deposit(accounts, "0", "0.01")

        def backwards() -> list[Entry]:
            page = read_history(accounts, "0", limit=3)
            entries = list(page.entries)
            while page.has_more:
                page = read_history(accounts, "0", before=entries[-1].account.last_entry, limit=3)
                entries += page.entries
            return entries

        def forwards() -> list[Entry]:
            entries: list[Entry] = []
            while len(entries) < self.pages_during_deposits * 3:
                page = read_history(accounts, "0", after=len(entries), limit=3)
                entries += page.entries
            return entries

        for entries in (list(reversed(_during_deposits(accounts, backwards))), _during_deposits(accounts, forwards)):
            assert len(entries) >= self.pages_during_deposits * 3
            assert [entry.account.last_entry for entry in entries] == list(range(1, len(entries) + 1))


def _during_deposits(accounts: Accounts, read: Callable[[], list[Entry]]) -> list[Entry]:
    """Read entries of account 0 while another thread deposits to it."""
    enough, deposited = Event(), Event()

    def deposits() -> None:
        while not enough.is_set():
            deposit(accounts, "0", "0.01")
            deposited.set()

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(deposits)
        try:
            assert deposited.wait(60)
            return read()
        finally:
            enough.set()
            writing.result(timeout=60)
