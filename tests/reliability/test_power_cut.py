"""Simulate power cuts of a SQLite store: no acknowledged transaction is lost, doubled or half done."""

import sqlite3
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from support.evidence import Record, Rounds
from support.power_cut import Disk, PowerCut, sqlite_on

from atm_adapters.repositories.sql_rows import AUDIT_ROWS, ENTRY_COLUMNS, entry_from, journal_row_from
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import (
    Account,
    AtmError,
    Closing,
    Deposit,
    Entry,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    audit,
)
from atm_core.money import from_minor_units

PROMISE = "Durable before acknowledged: SQLite"
OPENING = [Account("0", 1000), Account("1", 1000)]
MAX_FILE_OPERATIONS = [25, 500, 500, 500]  # before the power fails; about 25 of them create the store
CHECKPOINT_AFTER_PAGES = 20  # every few commits instead of every few thousand


class Client:
    """Sends a store random transactions, all of which it must accept, and remembers them and the answers."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.is_created = False
        self.accounts = {account.account_number: Opening.of(account).apply(None) for account in OPENING}
        """The accounts as they are after all transactions."""
        self.transactions: dict[str, Transaction] = {}
        self.answers: dict[str, Account] = {}
        self.last_batch: list[str] = []

    def work(self, path: Path, synchronous: str | None) -> None:
        """Use a store, and close and reopen it from time to time, until the power fails."""
        while True:
            with closing(SqliteAccountRepository(path, OPENING)) as store:
                self.is_created = True
                store._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_AFTER_PAGES}")
                if synchronous is not None:
                    store._writer.execute(f"PRAGMA synchronous = {synchronous}")
                for _ in range(self._chance.randint(1, 50)):
                    self._transact(store)

    def _transact(self, store: SqliteAccountRepository) -> None:
        first = len(self.transactions)
        self.last_batch = [f"key-{first + number}" for number in range(self._chance.choice([1, 1, 2, 20]))]
        batch = [self._accepted_transaction(key) for key in self.last_batch]
        self.transactions.update(zip(self.last_batch, batch, strict=True))
        outcomes = store.execute_batch(batch) if len(batch) > 1 else [store.execute(batch[0])]
        for key, outcome in zip(self.last_batch, outcomes, strict=True):
            assert isinstance(outcome, Account), outcome
            self.answers[key] = outcome

    def _accepted_transaction(self, key: str) -> Transaction:
        while True:
            transaction = self._transaction(key)
            number = transaction.account_number
            with suppress(AtmError):
                self.accounts[number] = transaction.apply(self.accounts.get(number))
                return transaction

    def _transaction(self, key: str) -> Transaction:
        number = self._chance.choice(list(self.accounts))
        amount = from_minor_units(self._chance.randint(1, 100_000))
        limit = self._chance.choice([None, amount])
        balance = self.accounts[number].balance
        note = self._chance.choice([None, f"note of {key}"])
        return self._chance.choice(
            [
                Opening(str(len(self.accounts)), self._chance.randint(-100, 100), limit, limit, key, note),
                *[Deposit(number, amount, key, note), Withdrawal(number, amount, key, note)] * 4,
                Withdrawal(number, balance if balance > 0 else amount, key, note),
                Deposit(number, -balance if balance < 0 else amount, key, note),
                LimitChange(number, limit, limit, key, note),
                *[Closing(number, key, note), Reopening(number, key, note)] * 3,
            ]
        )


class Contents(NamedTuple):
    """The contents of a store's file: accounts, entries by key, keys with several entries, and damage.

    The file is damaged if SQLite reports damage, or if an account differs from what its journal makes of it.
    """

    accounts: dict[str, Account]
    entries: dict[str, Entry]
    doubled: list[str]
    damaged: list[str]


def read_contents(path: Path) -> Contents:
    """Read a store's file without the repository."""
    with closing(sqlite3.connect(path)) as connection:
        findings = [finding for (finding,) in connection.execute("PRAGMA integrity_check")]
        rows = connection.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE key IS NOT NULL").fetchall()  # noqa: S608
        audited = list(audit(map(journal_row_from, connection.execute(AUDIT_ROWS))))
    entries = [entry_from((*row[:-1], None)) for row in rows]  # without the time
    times = Counter(entry.transaction.key or "" for entry in entries)
    damaged = [f"account {account.account_number}" for account in audited if not account.is_consistent]
    if findings != ["ok"]:
        damaged += findings
    accounts = {account.account_number: account.account for account in audited if account.account is not None}
    by_key = {entry.transaction.key or "": entry for entry in entries}
    return Contents(accounts, by_key, [key for key in times if times[key] > 1], damaged)


def broken_promises(client: Client, path: Path) -> dict[str, list[str]]:
    """Read the store after the power cut, repeat every request, and read it again."""
    # A store that was never acknowledged may have to be created again. Any other must still have its accounts.
    opening = None if client.is_created else OPENING
    try:
        with closing(SqliteAccountRepository(path, opening)) as store:
            after_cut = read_contents(path)
            store.execute_batch(list(client.transactions.values()))
            after_retries = read_contents(path)
    except (AtmError, ValueError, sqlite3.Error) as error:
        return {"damaged": [str(error)]}

    lost = [
        f"account {account.account_number}" for account in OPENING if account.account_number not in after_cut.accounts
    ]
    for key, answer in client.answers.items():
        entry = after_cut.entries.get(key)
        if entry != Entry(client.transactions[key], answer) or entry.account.last_entry != answer.last_entry:
            lost.append(key)
    damaged = after_cut.damaged + after_retries.damaged
    if {key in after_cut.entries for key in client.last_batch} == {True, False}:
        damaged.append("only a part of the last batch was committed")
    if repr(after_retries.accounts) != repr(dict(sorted(client.accounts.items()))):
        damaged.append("the accounts after the retries are not those that the transactions make")
    return {"lost": lost, "doubled": after_retries.doubled, "damaged": damaged}


def cut_power(times: int, folder: Path, synchronous: str | None = None) -> Counter[str]:
    """Cut the power of many stores, once each, and count acknowledged transactions and broken promises.

    :param synchronous: a value of SQLite's ``synchronous`` setting that replaces the repository's.
    """
    counts: Counter[str] = Counter()
    for seed in range(times):
        chance = Random(seed)
        client = Client(chance)
        disk = Disk(chance, chance.randint(1, chance.choice(MAX_FILE_OPERATIONS)))
        with TemporaryDirectory(dir=folder) as before, TemporaryDirectory(dir=folder) as after:
            with suppress(PowerCut), sqlite_on(disk):
                client.work(Path(before) / "accounts.sqlite3", synchronous)
            for name, content in disk.survivors.items():
                (Path(after) / name).write_bytes(content)
            broken = broken_promises(client, Path(after) / "accounts.sqlite3")
        counts["acknowledged"] += len(client.answers)
        for failure, cases in broken.items():
            counts[failure] += len(cases)
            if cases:
                print(f"power cut {seed}: {failure}: {', '.join(cases)}")
    return counts


def test_power_cut_loses_doubles_and_damages_nothing(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    cuts = rounds(50, 1000)
    counts = cut_power(cuts, tmp_path)
    record(
        PROMISE,
        "simulated power cuts that keep synced data and any subset of the rest",
        {"cuts": cuts, "acknowledged": counts["acknowledged"]},
        lost=counts["lost"],
        doubled=counts["doubled"],
        damaged=counts["damaged"],
    )


def test_power_cut_without_sync_loses_transactions(tmp_path: Path, record: Record) -> None:
    cuts = 50
    counts = cut_power(cuts, tmp_path, synchronous="NORMAL")
    record(
        PROMISE,
        "a planted fault: the same with synchronous=NORMAL",
        {"cuts": cuts, "acknowledged": counts["acknowledged"], "found lost": counts["lost"]},
        undetected=counts["lost"] == 0,
    )
