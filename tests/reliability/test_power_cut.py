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

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, AccountAlreadyExists, AtmError, Entry, Transaction
from atm_core.money import from_minor_units

PROMISE = "Durable before acknowledged: SQLite"
OPENING = [Account("0", 1000), Account("1", 1000)]
MAX_FILE_OPERATIONS = [25, 500, 500, 500]  # before the power fails; about 25 of them create the store
CHECKPOINT_AFTER_PAGES = 20  # every few commits instead of every few thousand


class Client:
    """Calls a store at random, and remembers its requests and the answers."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.accounts = {account.account_number: account for account in OPENING}
        self.acknowledged_accounts: list[str] = []
        self.transactions: dict[str, Transaction] = {}
        self.answers: dict[str, Account] = {}
        self.last_batch: list[str] = []

    def work(self, path: Path, synchronous: str | None) -> None:
        """Use a store, and close and reopen it from time to time, until the power fails."""
        while True:
            with closing(SqliteAccountRepository(path, OPENING)) as store:
                self.acknowledged_accounts = list(self.accounts)
                store._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_AFTER_PAGES}")
                if synchronous is not None:
                    store._writer.execute(f"PRAGMA synchronous = {synchronous}")
                for _ in range(self._chance.randint(1, 50)):
                    if self._chance.random() < 0.1:
                        self._open_account(store)
                    else:
                        self._transact(store)

    def _open_account(self, store: SqliteAccountRepository) -> None:
        account = Account(str(len(self.accounts)), self._chance.randint(-100, 100))
        self.accounts[account.account_number] = account
        store.add(account)
        self.acknowledged_accounts.append(account.account_number)

    def _transact(self, store: SqliteAccountRepository) -> None:
        first = len(self.transactions)
        self.last_batch = [f"key-{first + number}" for number in range(self._chance.choice([1, 1, 2, 20]))]
        batch = [self._transaction(key) for key in self.last_batch]
        self.transactions.update(zip(self.last_batch, batch, strict=True))
        outcomes = store.execute_batch(batch) if len(batch) > 1 else [store.execute(batch[0])]
        for key, outcome in zip(self.last_batch, outcomes, strict=True):
            assert isinstance(outcome, Account), outcome
            self.answers[key] = outcome

    def _transaction(self, key: str) -> Transaction:
        return Transaction(
            self._chance.choice(self.acknowledged_accounts),
            "deposit" if self._chance.random() < 0.5 else "withdrawal",
            from_minor_units(self._chance.randint(1, 100_000)),
            key,
        )


class Contents(NamedTuple):
    """The contents of a store's file: accounts, entries by key, keys with several entries, and damage.

    The file is damaged if SQLite reports damage, or if a balance differs from the sum of its journal.
    """

    accounts: set[str]
    entries: dict[str, Entry]
    doubled: list[str]
    damaged: list[str]


def read_contents(path: Path) -> Contents:
    """Read a store's file without the repository."""
    with closing(sqlite3.connect(path)) as connection:
        findings = [finding for (finding,) in connection.execute("PRAGMA integrity_check")]
        accounts = connection.execute("SELECT account_number, opening, balance FROM account").fetchall()
        journal = connection.execute("SELECT account_number, kind, amount, key, balance FROM journal").fetchall()
    balances = {number: balance for number, _, balance in accounts}
    sums = Counter({number: opening for number, opening, _ in accounts})
    entries = {}
    for number, kind, amount, key, balance in journal:
        sums[number] += amount if kind == "deposit" else -amount
        transaction = Transaction(number, kind, from_minor_units(amount), key)
        entries[key] = Entry(transaction, Account(number, from_minor_units(balance)))
    times = Counter(key for _, _, _, key, _ in journal)
    damaged = [f"the balance of account {number}" for number in sums if sums[number] != balances.get(number)]
    if findings != ["ok"]:
        damaged += findings
    return Contents(set(balances), entries, [key for key in times if times[key] > 1], damaged)


def broken_promises(client: Client, path: Path) -> dict[str, list[str]]:
    """Read the store after the power cut, repeat every request, and read it again."""
    # A store that was never acknowledged may have to be created again. Any other must still have its accounts.
    opening = [] if client.acknowledged_accounts else OPENING
    try:
        with closing(SqliteAccountRepository(path, opening)) as store:
            after_cut = read_contents(path)
            for account in client.accounts.values():
                with suppress(AccountAlreadyExists):
                    store.add(account)
            store.execute_batch(list(client.transactions.values()))
            after_retries = read_contents(path)
    except (AtmError, sqlite3.Error) as error:
        return {"damaged": [str(error)]}

    accounts = client.acknowledged_accounts or [account.account_number for account in OPENING]
    lost = [f"account {number}" for number in accounts if number not in after_cut.accounts]
    for key, answer in client.answers.items():
        if after_cut.entries.get(key) != Entry(client.transactions[key], answer):
            lost.append(key)
    damaged = after_cut.damaged + after_retries.damaged
    if {key in after_cut.entries for key in client.last_batch} == {True, False}:
        damaged.append("only a part of the last batch was committed")
    if after_retries.entries.keys() != client.transactions.keys():
        damaged.append("the entries after the retries are not those of the requested transactions")
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
