"""Listing and audit behave alike in every store that offers them."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.postgres import fresh_schema
from support.stores import demo_store

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, AuditedAccount, close_account, deposit, open_account, reopen_account, set_limits, withdraw
from atm_core.ports import AuditableStore, ListableStore, Store


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        with fresh_schema(request.getfixturevalue("postgres")) as url:
            yield demo_store(url)
    else:
        yield "memory:" if request.param == "memory" else demo_store(tmp_path / "accounts.sqlite3")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        yield store


every_store = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)
every_auditable_store = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


@every_store
def test_pages_list_every_account_once(store: Store) -> None:
    assert isinstance(store, ListableStore)
    for number in range(2, 25):
        open_account(store, str(number), number)
    withdraw(store, "7", 10)
    listed = []
    after = ""
    while page := store.list_accounts(after, 10):
        assert len(page) in (10, 5)
        listed += page
        after = page[-1].account_number
    assert [account.account_number for account in listed] == sorted(str(number) for number in range(25))
    balances = {account.account_number: account.balance for account in listed}
    assert balances == {"0": 1000, "1": 1000, **{str(number): number for number in range(2, 25)}, "7": -3}
    assert store.list_accounts("no such account", 10) == []


@every_store
def test_list_shows_limits_and_closed_accounts(store: Store) -> None:
    assert isinstance(store, ListableStore)
    open_account(store, "2", 0, 500, "99.99")
    close_account(store, "2")
    assert store.list_accounts("1", 10) == [Account("2", 0, 500, "99.99", closed=True)]


@every_auditable_store
def test_audit_reports_account_and_number_of_entries(store: Store) -> None:
    assert isinstance(store, AuditableStore)
    deposit(store, "0", "0.10", "key")
    deposit(store, "0", "0.10", "key")
    withdraw(store, "1", 2000)
    deposit(store, "1", 5, note="😀")
    open_account(store, "2", "-7.50", key="opening")
    open_account(store, "3", 0, 500, 20)
    close_account(store, "3")
    reopen_account(store, "3")
    set_limits(store, "3", None, 0)
    close_account(store, "3")
    accounts = {
        "0": (Account("0", "1000.10"), 2),
        "1": (Account("1", -995), 3),
        "2": (Account("2", "-7.50"), 1),
        "3": (Account("3", 0, None, 0, closed=True), 5),
    }
    assert list(store.audit()) == [
        AuditedAccount(number, account, account, entries, None) for number, (account, entries) in accounts.items()
    ]
    assert all(account.is_consistent for account in store.audit())
    assert store.count_accounts() == 4


DAMAGE = {
    "balance of an entry": "UPDATE entry SET balance = balance + 1 WHERE account_number = '0' AND entry = 2",
    "limit of an entry": "UPDATE entry SET overdraft_limit = 1 WHERE account_number = '0' AND entry = 5",
    "closed flag of an entry": "UPDATE entry SET closed = {true} WHERE account_number = '0' AND entry = 2",
    "amount": "UPDATE entry SET amount = amount + 1 WHERE account_number = '0' AND entry = 2",
    "kind": "UPDATE entry SET kind = 'withdrawal' WHERE account_number = '0' AND entry = 2",
    "unknown kind": "UPDATE entry SET kind = 'gift' WHERE account_number = '0' AND entry = 2",
    "malformed note": "UPDATE entry SET note = '' WHERE account_number = '0' AND entry = 2",
    "amount of a limit change": "UPDATE entry SET amount = 0 WHERE account_number = '0' AND entry = 5",
    "missing opening": "DELETE FROM entry WHERE account_number = '0' AND entry = 1",
    "missing entry": "DELETE FROM entry WHERE account_number = '0' AND entry = 3",
    "two missing entries that cancel out": "DELETE FROM entry WHERE account_number = '0' AND entry IN (2, 3)",
    "two last entries that change nothing": "DELETE FROM entry WHERE account_number = '0' AND entry IN (6, 7)",
    "balance": "UPDATE account SET balance = balance + 1 WHERE account_number = '0'",
    "limit": "UPDATE account SET withdrawal_limit = 5 WHERE account_number = '0'",
    "negative limit": "UPDATE account SET overdraft_limit = -1 WHERE account_number = '0'",
    "closed flag": "UPDATE account SET closed = {true} WHERE account_number = '0'",
    "number of the last entry": "UPDATE account SET last_entry = last_entry + 1 WHERE account_number = '0'",
    "entries without an account": "DELETE FROM account WHERE account_number = '0'",
    "account without entries": "DELETE FROM entry WHERE account_number = '0'",
}


@pytest.mark.parametrize("damage", DAMAGE)
@every_auditable_store
def test_audit_finds_damage(store: Store, url: str, damage: str) -> None:
    assert isinstance(store, AuditableStore)
    for call in (deposit, withdraw):
        call(store, "0", 5)
    deposit(store, "0", 7)
    set_limits(store, "0", None, 20)
    deposit(store, "0", 5)
    withdraw(store, "0", 5)
    assert all(account.is_consistent for account in store.audit())

    if isinstance(store, SqliteAccountRepository):
        with closing(sqlite3.connect(url)) as sqlite, sqlite:
            changed = sqlite.execute(DAMAGE[damage].format(true="1")).rowcount
    else:
        with psycopg.connect(url) as postgres:
            changed = postgres.execute(DAMAGE[damage].format(true="true").encode()).rowcount
    assert changed > 0
    wrong = [account.account_number for account in store.audit() if not account.is_consistent]
    assert wrong == ["0"]


@every_auditable_store
def test_audit_during_deposits_finds_no_mismatch(store: Store) -> None:
    assert isinstance(store, AuditableStore)
    enough = threading.Event()

    def deposits() -> None:
        while not enough.is_set():
            for number in "01":
                deposit(store, number, "0.01")

    lengths: set[int] = set()
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(deposits)
        try:
            while len(lengths) < 20 and not writing.done():
                audited = list(store.audit())
                assert [account for account in audited if not account.is_consistent] == []
                lengths.add(sum(account.entries for account in audited))
        finally:
            enough.set()
        writing.result()


@every_auditable_store
def test_store_works_while_and_after_an_audit_is_abandoned(store: Store) -> None:
    assert isinstance(store, AuditableStore)
    with closing(store.audit()) as audited:
        next(audited)
        assert deposit(store, "0", 1).balance == 1001
    assert deposit(store, "0", 1).balance == 1002
