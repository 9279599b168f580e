"""SqliteAccountRepository beyond the contract: files, several processes, and failures."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.programs import in_processes
from support.waiting import until

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import (
    Account,
    Deposit,
    LimitChange,
    OutcomeUnknown,
    StoreUnavailable,
    Withdrawal,
    deposit,
    get_account,
    open_account,
    read_history,
    withdraw,
)
from atm_core.ports import Durability

OPENING = [Account("0", 1000), Account("1", 1000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def accounts(path: Path) -> Iterator[SqliteAccountRepository]:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        yield accounts


def test_balances_and_keys_survive_reopening(path: Path) -> None:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        deposit(accounts, "0", 100, "key")
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        withdraw(accounts, "0", 50)
        assert deposit(accounts, "0", 100, "key").balance == 1100
        assert get_account(accounts, "0").balance == 1050


def test_transactions_of_several_processes_all_count(path: Path) -> None:
    program = """
import sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, deposit
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
print(*[deposit(accounts, "0", "0.01").balance for _ in range(200)])
"""
    outputs = in_processes(6, program, path)
    balances = sorted(balance for output in outputs for balance in output.split())
    assert balances == sorted(f"{1000 + cents / 100:.2f}" for cents in range(1, 1201))


def test_journal_holds_every_transaction(path: Path, accounts: SqliteAccountRepository) -> None:
    deposit(accounts, "0", "100.10", "key", "note")
    deposit(accounts, "0", "100.10", "key", "note")
    accounts.execute_batch([Withdrawal("1", 2000), Deposit("9", 1), LimitChange("0", 500, None)])
    with closing(sqlite3.connect(path)) as connection:
        columns = "id, previous, account_number, entry, kind, amount, key, note, balance, overdraft_limit, closed"
        entries = connection.execute(f"SELECT {columns} FROM entry").fetchall()  # noqa: S608 - the columns above
        rows = connection.execute("SELECT * FROM account").fetchall()
    assert entries == [
        (1, None, "0", 1, "opening", 100000, None, None, 100000, None, 0),
        (2, None, "1", 1, "opening", 100000, None, None, 100000, None, 0),
        (3, 1, "0", 2, "deposit", 10010, "key", "note", 110010, None, 0),
        (4, 2, "1", 2, "withdrawal", 200000, None, None, -100000, None, 0),
        (5, 3, "0", 3, "limit-change", None, None, None, 110010, 50000, 0),
    ]
    assert rows == [("0", 110010, 50000, None, 0, 3, 5), ("1", -100000, None, None, 0, 2, 4)]


def test_commits_are_synced_to_the_write_ahead_log(accounts: SqliteAccountRepository) -> None:
    assert accounts._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert accounts._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_durability_is_read_from_the_writing_connection(accounts: SqliteAccountRepository) -> None:
    settings = {"journal_mode": "wal", "synchronous": "FULL"}
    assert accounts.durability() == Durability("sqlite", durable=True, settings=settings)
    accounts._writer.execute("PRAGMA synchronous = NORMAL")
    settings["synchronous"] = "NORMAL"
    assert accounts.durability() == Durability("sqlite", durable=False, settings=settings)


def test_durability_writes_at_most_once_a_second(path: Path, accounts: SqliteAccountRepository) -> None:
    log = Path(f"{path}-wal")
    size = log.stat().st_size
    began = time.monotonic()
    for _ in range(100):
        accounts.durability()
    seconds = time.monotonic() - began
    frame = 24 + 1024  # the header of a page in the log, and the page
    assert 1 <= (log.stat().st_size - size) / frame <= 1 + seconds
    until(lambda: accounts.durability().durable and log.stat().st_size >= size + 2 * frame)


def test_reads_do_not_wait_for_a_writing_process(path: Path, accounts: SqliteAccountRepository) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET balance = 0")
        assert get_account(accounts, "0").balance == 1000


def test_locked_file_is_unavailable_until_it_is_unlocked(path: Path) -> None:
    with (
        closing(SqliteAccountRepository(path, OPENING, lock_timeout=0.05)) as accounts,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as failure:
            deposit(accounts, "0", 100, "key")
        with pytest.raises(StoreUnavailable):
            open_account(accounts, "2")
        assert failure.value.store == str(path)
        assert failure.value.reason == "another process kept it locked for 0.05 seconds"
        other.execute("ROLLBACK")
        assert deposit(accounts, "0", 100, "key").balance == 1100


def test_full_disk_refuses_the_whole_batch(accounts: SqliteAccountRepository) -> None:
    (pages,) = accounts._writer.execute("PRAGMA page_count").fetchone()
    accounts._writer.execute(f"PRAGMA max_page_count = {pages}")
    batch = [Deposit("0", 1, f"key-{n}") for n in range(1000)]
    with pytest.raises(StoreUnavailable, match="full"):
        accounts.execute_batch(batch)
    assert get_account(accounts, "0").balance == 1000
    accounts._writer.execute("PRAGMA max_page_count = 1000000")
    assert accounts.execute_batch(batch)[-1] == Account("0", 2000)


def test_write_failure_during_commit_is_an_unknown_outcome(path: Path) -> None:
    # A limit on the file size makes a write fail with EFBIG, which is not the error of a full disk.
    program = """
import resource, signal, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Deposit, OutcomeUnknown, get_account, deposit
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
batch = [Deposit("0", 1, f"key-{n}") for n in range(5000)]
try:
    accounts.execute_batch(batch)
except OutcomeUnknown as error:
    print(error.reason)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(accounts.execute_batch(batch)[-1].balance, get_account(accounts, "0").balance)
"""
    (output,) = in_processes(1, program, path)
    assert output.splitlines() == ["disk I/O error", "6000.00 6000.00"]


def test_durability_fails_when_writes_fail(path: Path) -> None:
    program = """
import resource, signal, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, StoreUnavailable
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
for _ in range(2):  # a failure is not remembered as a success
    try:
        accounts.durability()
    except StoreUnavailable as error:
        print(error.reason)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(accounts.durability().durable)
"""
    (output,) = in_processes(1, program, path)
    assert output.splitlines() == ["disk I/O error", "disk I/O error", "True"]


def test_interrupt_during_wait_for_lock_leaves_it_free(path: Path) -> None:
    # A thread waits until the main thread is in BEGIN, sends SIGINT, and releases the lock, so that BEGIN succeeds.
    # The exception is kept, because its traceback refers to the transaction, which would otherwise end with it.
    program = """
import linecache, signal, sqlite3, sys, threading, time
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, deposit, get_account
accounts = SqliteAccountRepository(sys.argv[1], [Account("0", 1000)])
other = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0, check_same_thread=False)
other.execute("BEGIN IMMEDIATE")
main = threading.get_ident()

def interrupt():
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        frame = sys._current_frames()[main]
        if "BEGIN IMMEDIATE" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            break
    signal.raise_signal(signal.SIGINT)
    other.execute("ROLLBACK")

thread = threading.Thread(target=interrupt)
try:
    thread.start()
    deposit(accounts, "0", 100)
except KeyboardInterrupt as error:
    kept = error
thread.join()
other.execute("BEGIN IMMEDIATE")
other.execute("ROLLBACK")
print(type(kept).__name__, deposit(accounts, "0", 1).balance)
"""
    (output,) = in_processes(1, program, path)
    assert output == "KeyboardInterrupt 1001.00"


def test_log_shrinks_after_a_long_read(path: Path, accounts: SqliteAccountRepository) -> None:
    log, limit = Path(f"{path}-wal"), 32 * 1024 * 1024
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM account").fetchone()
        for number in range(120):
            accounts.execute_batch([Deposit("0", 1, f"{number}-{n:0>100}") for n in range(1000)])
        assert log.stat().st_size > limit
    deposit(accounts, "0", 1)  # copies the log into the file
    deposit(accounts, "0", 1)  # begins the log anew
    assert log.stat().st_size <= limit


def test_schema_version_that_changes_while_in_use_is_refused(path: Path, accounts: SqliteAccountRepository) -> None:
    reason = "its schema has version 3, but this release of Mini-ATM supports version 2"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
        for call in (lambda: deposit(accounts, "0", 1), lambda: open_account(accounts, "2"), accounts.durability):
            with pytest.raises(StoreUnavailable) as failure:
                call()
            assert failure.value.reason == reason
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        connection.execute("PRAGMA user_version = 2")
    assert deposit(accounts, "0", 1).balance == 1001


def test_store_behind_a_symbolic_link_notices_another_target(path: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        SqliteAccountRepository(tmp_path / name, OPENING).close()
    path.symlink_to(tmp_path / "first")
    with closing(SqliteAccountRepository(path)) as accounts:
        assert deposit(accounts, "0", 1).balance == 1001
        path.unlink()
        path.symlink_to(tmp_path / "second")
        assert_unavailable(accounts, path)


def assert_unavailable(accounts: SqliteAccountRepository, lost: Path) -> None:
    """Assert that writes fail like ``assert_not_ready``."""
    assert_not_ready(accounts, lost)
    calls: list[Callable[[], object]] = [lambda: deposit(accounts, "0", 1), lambda: open_account(accounts, "2")]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="moved, deleted or replaced") as failure:
            call()
        assert failure.value.reason.startswith(f"{lost} was ")


def assert_not_ready(accounts: SqliteAccountRepository, lost: Path) -> None:
    """Assert that the readiness check and an audit fail, and that the reason names the lost file."""
    for call in (accounts.durability, lambda: next(accounts.audit())):
        with pytest.raises(StoreUnavailable, match="moved, deleted or replaced") as failure:
            call()
        assert failure.value.reason.startswith(f"{lost} was ")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_moved_file_is_unavailable_until_it_is_back(
    path: Path, tmp_path: Path, accounts: SqliteAccountRepository, suffix: str
) -> None:
    file, aside = Path(f"{path}{suffix}"), tmp_path / "aside"
    file.rename(aside)
    assert_unavailable(accounts, file)
    assert not file.exists()
    aside.rename(file)
    assert deposit(accounts, "0", 1).balance == 1001
    assert accounts.durability().durable
    assert all(finding.is_consistent for finding in accounts.audit())


@pytest.mark.parametrize(
    ("suffix", "refused"),
    [("", assert_unavailable), ("-shm", assert_unavailable), ("-wal", assert_not_ready)],
    ids=["file", "index of the log", "log"],
)
def test_copy_in_place_of_a_file_is_noticed(
    path: Path,
    tmp_path: Path,
    accounts: SqliteAccountRepository,
    suffix: str,
    refused: Callable[[SqliteAccountRepository, Path], None],
) -> None:
    file, copy = Path(f"{path}{suffix}"), tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    copy.replace(file)
    refused(accounts, file)


def test_backup_without_write_ahead_log_can_be_used(path: Path, accounts: SqliteAccountRepository) -> None:
    copy = path.with_name("copy")
    deposit(accounts, "0", 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(SqliteAccountRepository(copy)) as restored:
        assert deposit(restored, "0", 1).balance == 1002
        assert restored.durability().durable


READS: dict[str, Callable[[SqliteAccountRepository], object]] = {
    "get": lambda accounts: get_account(accounts, "0"),
    "history": lambda accounts: read_history(accounts, "0"),
    "list_accounts": lambda accounts: accounts.list_accounts("", 10),
    "count_accounts": lambda accounts: accounts.count_accounts(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reads_notice_a_replaced_file_in_a_tenth_of_a_second(
    path: Path, accounts: SqliteAccountRepository, read: Callable[[SqliteAccountRepository], object]
) -> None:
    read(accounts)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    replaced = time.monotonic()

    def read_for_a_tenth_of_a_second() -> None:
        began = replaced
        while began < replaced + 0.1:
            began = time.monotonic()
            read(accounts)

    with pytest.raises(StoreUnavailable, match="was moved, deleted or replaced while in use"):
        read_for_a_tenth_of_a_second()


def test_moved_file_receives_one_commit_at_most_and_answers_none(path: Path, accounts: SqliteAccountRepository) -> None:
    aside = path.with_name("aside")
    for round_number in range(20):
        deposit(accounts, "0", 1, f"before {round_number}")  # has just looked at the files
        path.rename(aside)
        with pytest.raises((OutcomeUnknown, StoreUnavailable), match="was moved, deleted or replaced while in use"):
            deposit(accounts, "0", 1, f"first {round_number}")
        with pytest.raises(StoreUnavailable, match="was moved, deleted or replaced while in use"):
            deposit(accounts, "0", 1, f"second {round_number}")
        aside.rename(path)
        deposit(accounts, "0", 1, f"first {round_number}")
    assert get_account(accounts, "0").balance == 1040


def test_moved_folder_is_not_created_again(tmp_path: Path) -> None:
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir()
    with closing(SqliteAccountRepository(folder / "accounts", OPENING)) as accounts:
        deposit(accounts, "0", 100)
        folder.rename(moved)
        assert_unavailable(accounts, folder / "accounts")
    assert not folder.exists()
    with closing(SqliteAccountRepository(moved / "accounts")) as accounts:
        assert get_account(accounts, "0").balance == 1100


def test_file_moved_during_a_commit_is_an_unknown_outcome(path: Path, accounts: SqliteAccountRepository) -> None:
    aside = path.with_name("aside")

    def move_before_commit(statement: str) -> None:
        if statement == "COMMIT":
            path.rename(aside)

    accounts._writer.set_trace_callback(move_before_commit)
    with pytest.raises(OutcomeUnknown, match="was moved, deleted or replaced while in use"):
        deposit(accounts, "0", 100, "key")
    accounts._writer.set_trace_callback(None)
    aside.rename(path)
    assert deposit(accounts, "0", 100, "key").balance == 1100


def test_damaged_file_works_again_when_it_is_restored(path: Path) -> None:
    SqliteAccountRepository(path, OPENING).close()
    intact = path.read_bytes()
    with closing(SqliteAccountRepository(path)) as accounts:
        path.write_bytes(os.urandom(len(intact)))
        with pytest.raises(StoreUnavailable, match=r"not a database|malformed"):
            get_account(accounts, "0")
        with pytest.raises(StoreUnavailable, match=r"not a database|malformed"):
            deposit(accounts, "0", 100)
        path.write_bytes(intact)
        assert get_account(accounts, "0").balance == 1000
        assert deposit(accounts, "0", 100).balance == 1100


def test_closed_store_is_unavailable(path: Path) -> None:
    accounts = SqliteAccountRepository(path, OPENING)
    accounts.close()
    with pytest.raises(StoreUnavailable):
        get_account(accounts, "0")
    with pytest.raises(StoreUnavailable):
        deposit(accounts, "0", 1)
