"""What the SQLite repository promises beyond the contract: files, processes, and trouble with either."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from atm_adapters.capabilities import Durability
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, StoreUnavailable, Transaction, check_balance, deposit, open_account, withdraw

OPENING = [Account("0", 1000), Account("1", 1000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def accounts(path: Path) -> Iterator[SqliteAccountRepository]:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        yield accounts


def in_processes(count: int, program: str, *arguments: object) -> list[str]:
    """Run a Python program in several processes at once, and give what each printed."""
    processes = [
        subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return outputs


def test_balances_and_keys_outlive_the_process_that_made_them(path: Path) -> None:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        deposit(accounts, "0", 100, "key")
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        withdraw(accounts, "0", 50)
        assert deposit(accounts, "0", 100, "key").balance == 1100
        assert check_balance(accounts, "0").balance == 1050


def test_transactions_of_several_processes_on_one_account_all_count(path: Path) -> None:
    program = """
import sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, deposit
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
print(*[deposit(accounts, "0", "0.01").balance for _ in range(200)])
"""
    outputs = in_processes(6, program, path)
    answers = sorted(balance for output in outputs for balance in output.split())
    assert answers == sorted(f"{1000 + cents / 100:.2f}" for cents in range(1, 1201))


def test_the_journal_holds_every_transaction_with_its_key_and_the_balance_it_left(
    path: Path, accounts: SqliteAccountRepository
) -> None:
    deposit(accounts, "0", "100.10", "key")
    deposit(accounts, "0", "100.10", "key")
    accounts.execute_batch([Transaction("1", "withdrawal", 2000), Transaction("9", "deposit", 1)])
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT account_number, kind, amount, key, balance FROM journal").fetchall()
        opening = connection.execute("SELECT account_number, opening FROM account").fetchall()
    assert rows == [("0", "deposit", 10010, "key", 110010), ("1", "withdrawal", 200000, None, -100000)]
    assert opening == [("0", 100000), ("1", 100000)]


def test_each_commit_is_synced_to_the_write_ahead_log(accounts: SqliteAccountRepository) -> None:
    assert accounts._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert accounts._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_durability_is_read_back_from_the_connection_that_writes(accounts: SqliteAccountRepository) -> None:
    settings = {"journal_mode": "wal", "synchronous": "FULL"}
    assert accounts.durability() == Durability("sqlite", durable=True, settings=settings)
    accounts._writer.execute("PRAGMA synchronous = NORMAL")
    settings["synchronous"] = "NORMAL"
    assert accounts.durability() == Durability("sqlite", durable=False, settings=settings)


def test_reads_do_not_wait_for_another_process_that_writes(path: Path, accounts: SqliteAccountRepository) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET balance = 0")
        assert check_balance(accounts, "0").balance == 1000


def test_a_file_that_stays_locked_is_unavailable_and_works_again_afterwards(path: Path) -> None:
    with (
        closing(SqliteAccountRepository(path, OPENING, lock_timeout=0.05)) as accounts,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as trouble:
            deposit(accounts, "0", 100, "key")
        with pytest.raises(StoreUnavailable):
            open_account(accounts, "2")
        assert trouble.value.store == str(path)
        assert trouble.value.reason == "another process kept it locked for 0.05 seconds"
        other.execute("ROLLBACK")
        assert deposit(accounts, "0", 100, "key").balance == 1100


def test_a_full_disk_refuses_a_batch_whole_and_works_again_once_there_is_room(
    accounts: SqliteAccountRepository,
) -> None:
    (pages,) = accounts._writer.execute("PRAGMA page_count").fetchone()
    accounts._writer.execute(f"PRAGMA max_page_count = {pages}")
    batch = [Transaction("0", "deposit", 1, f"key-{n}") for n in range(1000)]
    with pytest.raises(StoreUnavailable, match="full"):
        accounts.execute_batch(batch)
    assert check_balance(accounts, "0").balance == 1000
    accounts._writer.execute("PRAGMA max_page_count = 1000000")
    assert accounts.execute_batch(batch)[-1] == Account("0", 2000)


def test_a_write_that_fails_within_the_commit_is_reported_as_an_unknown_outcome(path: Path) -> None:
    # A limit on the size of files makes a real write fail, and not for want of space.
    program = """
import resource, signal, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, OutcomeUnknown, Transaction, check_balance, deposit
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
batch = [Transaction("0", "deposit", 1, f"key-{n}") for n in range(5000)]
try:
    accounts.execute_batch(batch)
except OutcomeUnknown as error:
    print(error.reason)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(accounts.execute_batch(batch)[-1].balance, check_balance(accounts, "0").balance)
"""
    (output,) = in_processes(1, program, path)
    assert output.splitlines() == ["disk I/O error", "6000.00 6000.00"]


def test_a_missing_folder_a_folder_and_a_file_of_another_kind_are_unavailable_with_path_and_reason(
    tmp_path: Path,
) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not a database, and long enough to tell" * 100)
    for path, reason in (
        (tmp_path / "nowhere" / "x", f"there is no folder {tmp_path / 'nowhere'}"),
        (tmp_path, "it is a folder, not a file"),
        (garbage, "file is not a database"),
    ):
        with pytest.raises(StoreUnavailable) as trouble:
            SqliteAccountRepository(path)
        assert (trouble.value.store, trouble.value.reason) == (str(path), reason)


def test_a_database_of_another_application_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE account (anything)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="not one of Mini-ATM's"):
        SqliteAccountRepository(path)
    assert path.read_bytes() == before


def test_tables_of_a_version_this_release_does_not_know_are_refused(path: Path) -> None:
    SqliteAccountRepository(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreUnavailable, match="its tables are of version 2, and this release of Mini-ATM reads ver"):
        SqliteAccountRepository(path)


def test_a_file_that_may_not_be_written_is_refused_when_it_is_opened() -> None:
    program = """
import os, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import StoreUnavailable
if os.geteuid() == 0:  # whom permissions don't stop
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteAccountRepository(sys.argv[1])
except StoreUnavailable as error:
    print(error)
"""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "accounts.sqlite3"
        SqliteAccountRepository(path, OPENING).close()
        path.chmod(0o444)
        path.parent.chmod(0o755)
        (output,) = in_processes(1, program, path)
    assert output == f"The store {path} is unavailable: it may not be written."


@pytest.mark.parametrize("trouble", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_file_that_is_missing_or_empty_beside_its_log_is_refused_and_the_log_is_kept(
    path: Path, tmp_path: Path, trouble: Callable[[Path], object]
) -> None:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        deposit(accounts, "0", 100)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in (path, Path(f"{path}-wal")):
            shutil.copy(file, crashed)
    path = crashed / path.name
    whole = path.read_bytes()
    trouble(path)
    with pytest.raises(StoreUnavailable, match=r"it is missing or empty, but its log .* is not"):
        SqliteAccountRepository(path, OPENING)
    path.write_bytes(whole)
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        assert check_balance(accounts, "0").balance == 1100


def test_a_file_that_was_damaged_and_is_restored_in_place_works_again(
    path: Path,
) -> None:
    SqliteAccountRepository(path, OPENING).close()
    whole = path.read_bytes()
    with closing(SqliteAccountRepository(path)) as accounts:
        path.write_bytes(os.urandom(len(whole)))
        with pytest.raises(StoreUnavailable, match=r"not a database|malformed"):
            check_balance(accounts, "0")
        with pytest.raises(StoreUnavailable, match=r"not a database|malformed"):
            deposit(accounts, "0", 100)
        path.write_bytes(whole)
        assert check_balance(accounts, "0").balance == 1000
        assert deposit(accounts, "0", 100).balance == 1100


def test_a_closed_store_is_unavailable(path: Path) -> None:
    accounts = SqliteAccountRepository(path, OPENING)
    accounts.close()
    with pytest.raises(StoreUnavailable):
        check_balance(accounts, "0")
    with pytest.raises(StoreUnavailable):
        deposit(accounts, "0", 1)
