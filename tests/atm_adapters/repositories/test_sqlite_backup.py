"""Backups of a SQLite store: whole, under their name at the end only, and never over another file unasked."""

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest
from support.programs import AS_OTHER_USER, in_processes
from support.waiting import until

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Deposit, StoreUnavailable, deposit, get_account
from atm_core.ports import BackupStore, PortableStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[SqliteAccountRepository]:
    with closing(SqliteAccountRepository(tmp_path / "accounts.sqlite3", [Account("0", 1000)])) as accounts:
        deposit(accounts, "0", 100, "key")  # is in the log, not in the file
        yield accounts


def back_up(accounts: SqliteAccountRepository, file: Path, *, replace: bool = False) -> None:
    with accounts.back_up(str(file), replace=replace):
        pass


def balance_in(file: Path) -> int:
    with closing(SqliteAccountRepository(file)) as accounts:
        return int(get_account(accounts, "0").balance)


def refusal(accounts: SqliteAccountRepository, file: Path, *, replace: bool = False) -> str:
    """Return the reason why a backup is refused."""
    with pytest.raises(StoreUnavailable) as failure:
        back_up(accounts, file, replace=replace)
    assert failure.value.store == str(file)
    return failure.value.reason


def test_sqlite_store_can_be_moved_and_backed_up(accounts: SqliteAccountRepository) -> None:
    assert isinstance(accounts, BackupStore)
    assert isinstance(accounts, PortableStore)


def test_backup_is_a_store_as_of_its_beginning(accounts: SqliteAccountRepository, folder: Path) -> None:
    with accounts.back_up(str(folder / "copy")) as copy:
        deposit(accounts, "0", 1)
        (found,) = copy.audit()
        assert found.is_consistent
        assert get_account(copy, "0").balance == 1100
    assert list(folder.iterdir()) == [folder / "copy"]
    with closing(SqliteAccountRepository(folder / "copy")) as restored:
        assert deposit(restored, "0", 100, "key").last_entry == 2
        assert deposit(restored, "0", 1).balance == 1101
        assert restored.durability().durable


def test_backup_has_its_name_at_the_end_only(accounts: SqliteAccountRepository, folder: Path) -> None:
    with accounts.back_up(str(folder / "copy")):
        assert not (folder / "copy").exists()
    assert balance_in(folder / "copy") == 1100


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_backup_is_readable_by_its_owner_only(accounts: SqliteAccountRepository, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with accounts.back_up(str(folder / "copy")):
            modes = {stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert stat.S_IMODE((folder / "copy").stat().st_mode) == 0o600


def test_existing_file_is_kept_unless_it_may_be_replaced(accounts: SqliteAccountRepository, folder: Path) -> None:
    file = folder / "copy"
    file.write_text("precious")
    assert refusal(accounts, file) == "there is a file with that name: name another one, or ask to replace it"
    assert file.read_text() == "precious"
    back_up(accounts, file, replace=True)
    assert balance_in(file) == 1100
    assert list(folder.iterdir()) == [file]


def test_file_that_appears_during_a_backup_is_kept(accounts: SqliteAccountRepository, folder: Path) -> None:
    file = folder / "copy"
    with pytest.raises(StoreUnavailable, match="there is a file with that name"), accounts.back_up(str(file)):
        file.write_text("precious")
    assert file.read_text() == "precious"
    assert list(folder.iterdir()) == [file]


def test_file_that_comes_into_use_during_a_backup_is_kept(accounts: SqliteAccountRepository, folder: Path) -> None:
    SqliteAccountRepository(folder / "other", [Account("0", 5)]).close()
    with pytest.raises(StoreUnavailable, match="may be in use"), accounts.back_up(str(folder / "other"), replace=True):
        other = SqliteAccountRepository(folder / "other")
    with closing(other):
        assert deposit(other, "0", 1).balance == 6


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_store_is_not_replaced_by_its_backup(accounts: SqliteAccountRepository, tmp_path: Path, suffix: str) -> None:
    file = Path(f"{accounts._file}{suffix}")
    reason = "use another name" if suffix else "it is the store itself"
    with pytest.raises(StoreUnavailable, match=reason):
        back_up(accounts, file, replace=True)
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(StoreUnavailable, match=reason):
        back_up(accounts, link, replace=True)
    assert deposit(accounts, "0", 1).balance == 1101


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_file_that_may_be_in_use_is_not_replaced(
    accounts: SqliteAccountRepository, folder: Path, suffix: str, *, replace: bool
) -> None:
    log = folder / f"copy{suffix}"
    log.write_text("transactions")
    reason = f"there is a file {log}, so it may be in use: stop the program that uses it"
    assert refusal(accounts, folder / "copy", replace=replace) == reason
    assert list(folder.iterdir()) == [log]


def test_store_in_use_is_not_replaced(accounts: SqliteAccountRepository, folder: Path) -> None:
    with closing(SqliteAccountRepository(folder / "other", [Account("0", 5)])) as other:
        assert "may be in use" in refusal(accounts, folder / "other", replace=True)
        assert deposit(other, "0", 1).balance == 6
    back_up(accounts, folder / "other", replace=True)
    assert balance_in(folder / "other") == 1100


def test_missing_folder_and_folder_as_file_are_named(accounts: SqliteAccountRepository, folder: Path) -> None:
    assert refusal(accounts, folder / "nowhere" / "copy") == f"there is no folder {folder / 'nowhere'}"
    assert refusal(accounts, folder, replace=True) == "it is a folder: name a file for the backup"
    name = "x" * 300
    assert refusal(accounts, folder / name) == "the backup cannot be written (File name too long)"
    assert list(folder.iterdir()) == []


def test_only_a_file_is_replaced(accounts: SqliteAccountRepository, folder: Path) -> None:
    pipe, link = folder / "pipe", folder / "link"
    os.mkfifo(pipe)
    link.symlink_to(link)
    for name in (pipe, link):
        assert "it is a device, a pipe or a broken link" in refusal(accounts, name, replace=True)
    assert set(folder.iterdir()) == {pipe, link}


@pytest.mark.parametrize("name", ["other-wal", "other-shm", "other-journal", "other/"])
def test_name_of_a_folder_or_a_log_is_refused(accounts: SqliteAccountRepository, folder: Path, name: str) -> None:
    with pytest.raises(StoreUnavailable, match="use another name"), accounts.back_up(f"{folder}/{name}", replace=True):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_check_deletes_the_backup(
    accounts: SqliteAccountRepository, folder: Path, error: type[BaseException]
) -> None:
    def back_up_and_fail() -> None:
        with accounts.back_up(str(folder / "copy")):
            raise error

    with pytest.raises(error):
        back_up_and_fail()
    assert list(folder.iterdir()) == []


BACK_UP = """
from atm_core import StoreUnavailable
try:
    with accounts.back_up(sys.argv[2]):
        print("made")
except StoreUnavailable as error:
    print(error.store, error.reason)
"""


@pytest.mark.parametrize("size", [1_000, 10_000], ids=["during the copy", "after the copy"])
def test_backup_to_a_full_disk_leaves_nothing(accounts: SqliteAccountRepository, folder: Path, size: int) -> None:
    program = f"""
import resource, signal, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
accounts = SqliteAccountRepository(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
{BACK_UP}"""
    (output,) = in_processes(1, program, accounts._file, folder / "copy")
    assert output == f"{folder / 'copy'} the backup cannot be written (disk I/O error)"
    assert list(folder.iterdir()) == []


def test_backup_needs_a_writable_folder() -> None:
    program = f"""{AS_OTHER_USER}
import sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
accounts = SqliteAccountRepository(sys.argv[1], [])
{BACK_UP}"""
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o777)
        folder = Path(parent) / "backups"
        folder.mkdir(0o555)
        (output,) = in_processes(1, program, f"{parent}/accounts.sqlite3", folder / "copy")
        assert list(folder.iterdir()) == []
    assert output == f"{folder / 'copy'} the backup cannot be written (Permission denied)"


def is_above(accounts: SqliteAccountRepository, balance: Decimal) -> bool:
    return get_account(accounts, "0").balance > balance


def test_backups_taken_while_threads_write_are_consistent(accounts: SqliteAccountRepository, folder: Path) -> None:
    done = Event()

    def write() -> None:
        while not done.is_set():
            accounts.execute_batch([Deposit("0", 1) for _ in range(50)])

    threads = [Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            before = get_account(accounts, "0").balance
            with accounts.back_up(str(folder / f"copy {number}")) as copy:
                (found,) = copy.audit()
                assert found.is_consistent
                copied = get_account(copy, "0").balance
                assert copied >= before
                until(partial(is_above, accounts, copied))
    finally:
        done.set()
        for thread in threads:
            thread.join()
