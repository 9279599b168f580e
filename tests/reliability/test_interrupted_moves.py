"""Kill upgrades, imports and backups of SQLite stores at random: each is done wholly or not at all."""

import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support.evidence import Record, Rounds
from support.programs import begin_in_processes, in_processes
from support.waiting import until

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Deposit, get_account

DEPOSITS = 3_000
VERSION_1 = Path(__file__).parents[1] / "atm_adapters" / "repositories" / "version_1.sql"

UPGRADE = """
from atm_adapters.repositories.sqlite import SqliteAccountRepository
SqliteAccountRepository(sys.argv[1], []).close()
"""

IMPORT = """
from atm_adapters.repositories.sqlite import SqliteAccountRepository
source, target = map(SqliteAccountRepository, sys.argv[1:])
target.import_entries(source.export_entries())
"""

BACK_UP = """
from atm_adapters.repositories.sqlite import SqliteAccountRepository
with SqliteAccountRepository(sys.argv[1]).back_up(sys.argv[2], replace=True) as copy:
    assert all(found.is_consistent for found in copy.audit())
"""

DEPOSIT_UNTIL_KILLED = """
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Deposit
accounts = SqliteAccountRepository(sys.argv[1])
while True:
    accounts.execute(Deposit("0", 1))  # not in batches, so that the audits stay short
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with ``DEPOSITS`` deposits on two accounts."""
    path = tmp_path / "accounts.sqlite3"
    with closing(SqliteAccountRepository(path, [Account("0", 0), Account("1", 0)])) as accounts:
        accounts.execute_batch([Deposit(str(number % 2), 1, f"key {number}") for number in range(DEPOSITS)])
    return path


class Interrupter:
    """Ends processes at random moments: half of them with SIGKILL, the others with Ctrl-C."""

    def __init__(self, program: str, *arguments: object) -> None:
        """Measure how long the program takes when it is not interrupted."""
        self._chance = Random(1)
        (process,) = begin_in_processes(1, program, *arguments)
        began = time.monotonic()
        process.communicate(timeout=60)
        assert process.returncode == 0
        self._seconds = time.monotonic() - began

    def interrupt(self, process: "subprocess.Popen[str]") -> None:
        """Interrupt the process, unless it ends before that."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self._chance.uniform(0, self._seconds))
        process.send_signal(self._chance.choice([signal.SIGKILL, signal.SIGINT]))
        process.communicate(timeout=60)


def is_consistent(path: Path) -> bool:
    with closing(SqliteAccountRepository(path)) as accounts:
        return all(found.is_consistent for found in accounts.audit())


def contents_of(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump(), connection.execute("PRAGMA user_version").fetchone()]


def make_version_1(path: Path) -> Path:
    """Create a store of version 1 with ``DEPOSITS`` deposits on account "new"."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text())
        connection.execute("INSERT INTO account VALUES ('new', 0, ?)", (100 * DEPOSITS,))
        connection.executemany(
            "INSERT INTO journal (account_number, kind, amount, key, balance, recorded_at)"
            " VALUES ('new', 'deposit', 100, ?, ?, '2026-11-24T14:56:23.287+00:00')",
            [(f"key {number}", 100 * number) for number in range(1, DEPOSITS + 1)],
        )
        connection.commit()
    return path


def test_interrupted_upgrade_leaves_the_old_or_the_new_store(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    """Three processes upgrade at once. One of them is interrupted, and the others open the store."""
    before = contents_of(make_version_1(tmp_path / "original"))
    interrupter = Interrupter(UPGRADE, make_version_1(tmp_path / "whole"))
    whole = contents_of(tmp_path / "whole")
    interruptions = rounds(3, 50)
    counts: Counter[str] = Counter()
    for number in range(interruptions):
        alone, shared = (make_version_1(tmp_path / f"{name} {number}") for name in ("alone", "shared"))
        interrupter.interrupt(*begin_in_processes(1, UPGRADE, alone))
        found = contents_of(alone)
        counts["old"] += found == before
        counts["new"] += found == whole
        interrupted, *others = begin_in_processes(3, UPGRADE, shared)
        interrupter.interrupt(interrupted)
        for other in others:
            other.communicate(timeout=60)
        counts["failed"] += any(other.returncode for other in others)
        counts["half"] += contents_of(shared) != whole
        in_processes(1, UPGRADE, alone)
        counts["not completed later"] += contents_of(alone) != whole
        for path in (alone, shared):
            path.unlink()
    record(
        "An upgrade or import is done wholly or not at all",
        "SIGKILL and Ctrl-C at random during the upgrade of a SQLite store from version 1, also by several processes",
        {"interruptions": 2 * interruptions, "old": counts["old"], "new": counts["new"]},
        half=counts["half"] + interruptions - counts["old"] - counts["new"],
        failed=counts["failed"],
        not_completed_later=counts["not completed later"],
    )


def test_interrupted_import_leaves_an_empty_store(store: Path, tmp_path: Path, rounds: Rounds, record: Record) -> None:
    def new_target(name: object) -> Path:
        path = tmp_path / f"target {name}"
        SqliteAccountRepository(path, []).close()
        return path

    interrupter = Interrupter(IMPORT, store, new_target("whole"))
    with closing(SqliteAccountRepository(store)) as source:
        journal = list(source.export_entries())
    interruptions = rounds(4, 50)
    counts: Counter[str] = Counter()
    target = new_target(0)
    for number in range(interruptions):
        interrupter.interrupt(*begin_in_processes(1, IMPORT, store, target))
        with closing(SqliteAccountRepository(target)) as accounts:
            found = list(accounts.export_entries())
            counts["accounts without entries"] += accounts.count_accounts() != len(
                {e.account.account_number for e in found}
            )
        if found:
            counts["half"] += found != journal
            counts["whole"] += found == journal
            target = new_target(number + 1)  # otherwise, the next import continues with what this one left
    record(
        "An upgrade or import is done wholly or not at all",
        "SIGKILL and Ctrl-C at random during the import of a journal into a SQLite store",
        {"interruptions": interruptions, "entries in the journal": len(journal), "whole": counts["whole"]},
        half=counts["half"],
        wrong_accounts=counts["wrong accounts"],
    )
    if not found:
        in_processes(1, IMPORT, store, target)
    assert is_consistent(target)


def test_interrupted_backup_leaves_the_file_as_it_was(
    store: Path, tmp_path: Path, rounds: Rounds, record: Record
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    target = folder / "copy"
    interrupter = Interrupter(BACK_UP, store, target)
    interruptions = rounds(4, 50)
    counts: Counter[str] = Counter()
    for _ in range(interruptions):
        with closing(SqliteAccountRepository(store)) as accounts:
            balance = accounts.execute(Deposit("0", 1)).balance
        interrupter.interrupt(*begin_in_processes(1, BACK_UP, store, target))
        leftovers = set(folder.iterdir()) - {target}
        counts["leftover folders"] += len(leftovers)
        counts["other leftovers"] += any(not path.name.startswith(".atm-backup-") for path in leftovers)
        for path in leftovers:
            remove_folder(path)
        with closing(SqliteAccountRepository(target)) as copy:
            new = get_account(copy, "0").balance == balance
            counts["new"] += new
            counts["half"] += not all(found.is_consistent for found in copy.audit())
    record(
        "A backup is whole",
        "SIGKILL and Ctrl-C at random while a backup replaces the one before",
        {"interruptions": interruptions, "replaced": counts["new"], "leftover folders": counts["leftover folders"]},
        half=counts["half"],
        other_leftovers=counts["other leftovers"],
    )


def remove_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def has_more_entries(accounts: SqliteAccountRepository, before: int) -> bool:
    return accounts.count_entries() > before


def test_backups_taken_under_load_are_whole(store: Path, tmp_path: Path, rounds: Rounds, record: Record) -> None:
    backups = rounds(3, 20)
    counts: Counter[str] = Counter()
    (writer,) = begin_in_processes(1, DEPOSIT_UNTIL_KILLED, store)
    try:
        with closing(SqliteAccountRepository(store)) as accounts:
            before = 0
            for _ in range(backups):
                until(partial(has_more_entries, accounts, before))
                before = accounts.count_entries()
                with accounts.back_up(str(tmp_path / "copy"), replace=True) as copy:
                    findings = list(copy.audit())
                counts["inconsistent"] += not all(found.is_consistent for found in findings)
                counts["too old"] += sum(found.entries for found in findings) < before
    finally:
        writer.kill()
        writer.communicate()
    record(
        "A backup is whole",
        "backups in a row while another process writes",
        {"backups": backups, "entries in the last": before},
        inconsistent=counts["inconsistent"],
        too_old=counts["too old"],
    )
