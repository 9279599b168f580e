"""``atm export`` and ``atm import`` move everything from one kind of store to another, and back."""

import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

from support.atm_process import AtmProcess, run_atm
from support.postgres import Postgres, fresh_schema

from atm_adapters.bootstrap import open_store
from atm_core import (
    Account,
    Closing,
    Deposit,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    close_account,
    deposit,
    open_account,
    reopen_account,
    set_limits,
    withdraw,
)
from atm_core.ports import BatchRepository, Store

ENTRIES = 10_000
ACCOUNTS = 300
BATCH = 500


def some_transactions(random: Random) -> Iterator[Transaction]:
    """Yield transactions of every kind, many of which are refused. Half of them have a key, and a third a note.

    Every tenth account is closed at once, and stays closed.
    """
    numbers = [f"{random.choice('aBz09_-')}{number}" for number in range(ACCOUNTS)]  # orders differ by collation
    count = 0
    for number in numbers:
        yield Opening(number, 0, random.choice([None, 500]), random.choice([None, 90]), f"open {number}")
    yield from (Closing(number, "close") for number in numbers[::10])
    open_numbers = [number for index, number in enumerate(numbers) if index % 10]
    while True:
        count += 1
        number = random.choice(open_numbers)
        key = random.choice([None, f"key-{count}"])
        note = random.choice([None, None, f"order {count} é😀 '\"\\"])
        amount = Decimal(random.randrange(1, 10_000)).scaleb(-2)
        limit = random.choice([None, amount])
        yield random.choices(
            [
                Deposit(number, amount, key, note),
                Withdrawal(number, amount, key, note),
                LimitChange(number, limit, random.choice([None, 90]), key, note),
                Closing(number, key, note),
                Reopening(number, key, note),
            ],
            weights=[8, 6, 1, 4, 4],
        )[0]


def fill(store: Store) -> dict[Transaction, Account]:
    """Record the entries, and return the answer to each transaction that has a key."""
    assert isinstance(store, BatchRepository)
    answers: dict[Transaction, Account] = {}
    random = Random(15)
    transactions = some_transactions(random)
    applied = 0
    while applied < ENTRIES:
        batch = [next(transactions) for _ in range(min(BATCH, ENTRIES - applied))]
        for transaction, outcome in zip(batch, store.execute_batch(batch), strict=True):
            if isinstance(outcome, Account):
                applied += 1
                if transaction.key is not None:
                    answers[transaction] = outcome
    return answers


def move(source: str, target: str) -> str:
    """Pipe an export into an import, and return what the import reports."""
    assert run_atm("init", "--store", target).returncode == 0
    with AtmProcess("export", "--store", source, stdout=subprocess.PIPE) as export:
        done = run_atm("import", "-", "--store", target, stdin=export.stdout)
    assert (export.returncode, done.returncode, done.stderr) == (0, 0, "")
    return done.stdout


def export_of(url: str, file: Path) -> bytes:
    """Export a store to a file, and return the file's bytes."""
    with file.open("wb") as output:
        assert run_atm("export", "--store", url, stdout=output).returncode == 0
    return file.read_bytes()


def verdict_of(url: str) -> tuple[int, str]:
    done = run_atm("verify", "--store", url)
    return done.returncode, done.stdout


def replay(store: Store, transaction: Transaction) -> Account:
    """Repeat a transaction through its use case."""
    number, key, note = transaction.account_number, transaction.key, transaction.note
    match transaction:
        case Opening(balance=balance, overdraft_limit=overdraft, withdrawal_limit=withdrawal):
            return open_account(store, number, balance, overdraft, withdrawal, key=key, note=note)
        case Deposit(amount=amount):
            return deposit(store, number, amount, key, note)
        case Withdrawal(amount=amount):
            return withdraw(store, number, amount, key, note)
        case LimitChange(overdraft_limit=overdraft, withdrawal_limit=withdrawal):
            return set_limits(store, number, overdraft, withdrawal, key=key, note=note)
        case Closing():
            return close_account(store, number, key=key, note=note)
        case Reopening():
            return reopen_account(store, number, key=key, note=note)
    raise AssertionError(transaction)


def test_move_to_postgresql_and_back_loses_nothing(tmp_path: Path, postgres: Postgres) -> None:
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with open_store(first, create=True) as store:
        answers = fill(store)
    journal = export_of(first, tmp_path / "journal.jsonl")
    assert len(journal.splitlines()) == ENTRIES + 1
    assert {transaction.kind for transaction in answers} == {
        "opening", "deposit", "withdrawal", "limit-change", "closing", "reopening",
    }  # fmt: skip
    consistent = (0, f"Read {ACCOUNTS} accounts and {ENTRIES} journal entries: every account matches its journal.\n")

    with fresh_schema(postgres) as url:
        for source, target in ((first, url), (url, last)):
            assert move(source, target) == f"Imported {ENTRIES} entries of {ACCOUNTS} accounts.\n"
            with open_store(target) as store:
                for transaction, answer in answers.items():
                    replayed = replay(store, transaction)
                    assert replayed == answer
                    assert replayed.last_entry == answer.last_entry
            assert export_of(target, tmp_path / "moved.jsonl") == journal
            assert verdict_of(target) == consistent
