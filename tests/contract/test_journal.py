"""Listing and audit behave alike in every store that offers them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import pytest
from support.postgres import fresh_schema

from atm_adapters.bootstrap import open_store
from atm_core import AuditedAccount, deposit, open_account, withdraw
from atm_core.ports import AuditableStore, ListableStore, Store


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with ExitStack() as stack:
        if request.param == "postgres":
            url = stack.enter_context(fresh_schema(request.getfixturevalue("postgres")))
        else:
            url = {"memory": "memory:", "sqlite": str(tmp_path / "accounts.sqlite3")}[request.param]
        yield stack.enter_context(closing(open_store(url)))


every_store = pytest.mark.parametrize("store", ["memory", "sqlite", "postgres"], indirect=True)
every_auditable_store = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)


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


@every_auditable_store
def test_audit_reports_balance_and_number_of_entries(store: Store) -> None:
    assert isinstance(store, AuditableStore)
    deposit(store, "0", "0.10", "key")
    deposit(store, "0", "0.10", "key")
    withdraw(store, "1", 2000)
    deposit(store, "1", 5)
    open_account(store, "2", "-7.50")
    balances = {"0": (Decimal("1000.10"), 1), "1": (Decimal(-995), 2), "2": (Decimal("-7.50"), 0)}
    assert list(store.audit()) == [
        AuditedAccount(number, balance, balance, entries, None) for number, (balance, entries) in balances.items()
    ]
    assert store.count_accounts() == 3


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
