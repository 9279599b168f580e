"""Power cuts of a SQLite store: what was answered is there afterwards, once, and nothing is there by half."""

import sqlite3
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from support.evidence import Often, Record
from support.power_cut import Disk, PowerCut, sqlite_on

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, AccountAlreadyExists, AtmError, Entry, Transaction
from atm_core.money import from_minor_units

PROMISE = "Durable before answered: SQLite"
OPENING = [Account("0", 1000), Account("1", 1000)]
OPERATIONS = [25, 500, 500, 500]  # on files, at the latest, when the power fails; some 25 make the store
CHECKPOINT_AFTER_PAGES = 20  # every few commits, instead of every few thousand


class Client:
    """Asks for one thing after the other, and knows what it asked for and what was answered."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.accounts = {account.number: account for account in OPENING}
        self.accounts_answered: list[str] = []
        self.transactions: dict[str, Transaction] = {}
        self.answers: dict[str, Account] = {}
        self.last_batch: list[str] = []

    def work(self, path: Path, synchronous: str | None) -> None:
        """Use a store, and now and then close it and open it again, until the power fails."""
        while True:
            with closing(SqliteAccountRepository(path, OPENING)) as store:
                self.accounts_answered = list(self.accounts)
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
        self.accounts[account.number] = account
        store.add(account)
        self.accounts_answered.append(account.number)

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
            self._chance.choice(self.accounts_answered),
            "deposit" if self._chance.random() < 0.5 else "withdrawal",
            from_minor_units(self._chance.randint(1, 100_000)),
            key,
        )


class Books(NamedTuple):
    """What a store's file holds, and what is wrong with it."""

    accounts: set[str]
    entries: dict[str, Entry]
    doubled: list[str]
    wrong: list[str]


def read_books(path: Path) -> Books:
    """Read a store's file. It is wrong if SQLite finds it corrupt, or a balance is not what its journal sums up to."""
    with closing(sqlite3.connect(path)) as connection:
        complaints = [complaint for (complaint,) in connection.execute("PRAGMA integrity_check")]
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
    wrong = [f"the balance of account {number}" for number in sums if sums[number] != balances.get(number)]
    if complaints != ["ok"]:
        wrong += complaints
    return Books(set(balances), entries, [key for key in times if times[key] > 1], wrong)


def broken_promises(client: Client, path: Path) -> dict[str, list[str]]:
    """Look into the store after the power cut, ask for everything once more, and look again."""
    # Opening accounts that were answered must be there by themselves; otherwise the store may have to be made again.
    opening = [] if client.accounts_answered else OPENING
    try:
        with closing(SqliteAccountRepository(path, opening)) as store:
            found = read_books(path)
            for account in client.accounts.values():
                with suppress(AccountAlreadyExists):
                    store.add(account)
            store.execute_batch(list(client.transactions.values()))
            in_the_end = read_books(path)
    except (AtmError, sqlite3.Error) as error:
        return {"damaged": [str(error)]}

    accounts = client.accounts_answered or [account.number for account in OPENING]
    lost = [f"account {number}" for number in accounts if number not in found.accounts]
    for key, answer in client.answers.items():
        if found.entries.get(key) != Entry(client.transactions[key], answer):
            lost.append(key)
    damaged = found.wrong + in_the_end.wrong
    if {key in found.entries for key in client.last_batch} == {True, False}:
        damaged.append("half of the last batch is there")
    if in_the_end.entries.keys() != client.transactions.keys():
        damaged.append("a transaction is there that nobody asked for, or one can't be sent again")
    return {"lost": lost, "doubled": in_the_end.doubled, "damaged": damaged}


def cut_power(times: int, folder: Path, synchronous: str | None = None) -> Counter[str]:
    """Cut the power many times, each time of another store, and count what was answered and what came of it.

    :param synchronous: how a commit is synced instead of as the repository has it.
    """
    counts: Counter[str] = Counter()
    for seed in range(times):
        chance = Random(seed)
        client = Client(chance)
        disk = Disk(chance, chance.randint(1, chance.choice(OPERATIONS)))
        with TemporaryDirectory(dir=folder) as before, TemporaryDirectory(dir=folder) as after:
            with suppress(PowerCut), sqlite_on(disk):
                client.work(Path(before) / "accounts.sqlite3", synchronous)
            for name, content in disk.survivors.items():
                (Path(after) / name).write_bytes(content)
            broken = broken_promises(client, Path(after) / "accounts.sqlite3")
        counts["acknowledged"] += len(client.answers)
        for promise, what in broken.items():
            counts[promise] += len(what)
            if what:
                print(f"power cut {seed}: {promise}: {', '.join(what)}")
    return counts


def test_a_power_cut_loses_doubles_and_damages_nothing(tmp_path: Path, often: Often, record: Record) -> None:
    cuts = often(50, 1000)
    counts = cut_power(cuts, tmp_path)
    record(
        PROMISE,
        "simulated power cut, keeping what was synced and any subset of the rest",
        {"cuts": cuts, "acknowledged": counts["acknowledged"]},
        lost=counts["lost"],
        doubled=counts["doubled"],
        damaged=counts["damaged"],
    )


def test_such_power_cuts_do_lose_answers_if_commits_are_not_synced(tmp_path: Path, record: Record) -> None:
    cuts = 50
    counts = cut_power(cuts, tmp_path, synchronous="NORMAL")
    record(
        PROMISE,
        "a planted fault: the same with synchronous=NORMAL",
        {"cuts": cuts, "acknowledged": counts["acknowledged"], "found lost": counts["lost"]},
        unnoticed=counts["lost"] == 0,
    )
