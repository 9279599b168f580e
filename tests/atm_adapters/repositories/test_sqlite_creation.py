"""Creating and opening SQLite files: what is refused, what is left behind, and who may read it."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.programs import AS_OTHER_USER, in_processes

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, StoreNotInitialized, StoreUnavailable, deposit, get_account

OPENING = [Account("0", 1000), Account("1", 1000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_missing_file_is_refused_and_not_created(path: Path) -> None:
    with pytest.raises(StoreNotInitialized) as failure:
        SqliteAccountRepository(path)
    error = failure.value
    assert (error.store, error.reason, error.schema_version) == (str(path), "there is no such file", 0)
    assert list(path.parent.iterdir()) == []


def test_empty_file_is_refused_and_stays_empty(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreNotInitialized) as failure:
        SqliteAccountRepository(path)
    assert (failure.value.reason, failure.value.schema_version) == ("the file is empty", 0)
    assert (list(path.parent.iterdir()), path.stat().st_size) == ([path], 0)
    SqliteAccountRepository(path, OPENING).close()
    with closing(SqliteAccountRepository(path)) as accounts:
        assert accounts.count_accounts() == 2


def test_new_file_without_accounts_is_a_store(path: Path) -> None:
    SqliteAccountRepository(path, []).close()
    with closing(SqliteAccountRepository(path)) as accounts:
        assert accounts.count_accounts() == 0
        assert list(accounts.audit()) == []
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        assert accounts.count_accounts() == 0  # they are for a new file


@pytest.mark.parametrize("umask", [0o000, 0o777], indirect=True, ids=["open", "closed"])
@pytest.mark.usefixtures("umask")
def test_new_files_are_readable_by_their_owner_only(path: Path) -> None:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        deposit(accounts, "0", 1)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {f"{path.name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}


def test_existing_file_keeps_its_permissions(path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    with closing(SqliteAccountRepository(path, OPENING)):
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o640}


def test_symbolic_link_to_nothing_leads_to_the_new_file(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    path.symlink_to(target)
    with pytest.raises(StoreNotInitialized, match="there is no such file"):
        SqliteAccountRepository(path)
    assert not target.exists()
    SqliteAccountRepository(path, OPENING).close()
    with closing(SqliteAccountRepository(target)) as accounts:
        assert accounts.count_accounts() == 2


def test_failure_of_the_initial_accounts_leaves_no_store(path: Path) -> None:
    def accounts() -> Iterator[Account]:
        yield OPENING[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SqliteAccountRepository(path, accounts())
    with pytest.raises(StoreNotInitialized, match="the file is empty"):
        SqliteAccountRepository(path)


def test_processes_that_create_a_file_at_once_make_one_store(path: Path) -> None:
    program = """
import os, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account
accounts = SqliteAccountRepository(sys.argv[1], [Account(f"{os.getpid()}-{n}", 1) for n in range(10)])
print(*[account.account_number for account in accounts.list_accounts("", 100)])
"""
    seen = in_processes(6, program, path)
    assert len(set(seen)) == 1
    assert len(seen[0].split()) == 10


def test_unusable_path_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not a database" * 300)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path / "nowhere" / "x", f"there is no folder {tmp_path / 'nowhere'}"),
        (garbage / "x", f"there is no folder {garbage}"),
        (tmp_path, "it is a folder, not a file"),
        (pipe, "it is a device or pipe, not a file"),
        (garbage, "file is not a database"),
        (tmp_path / "\0", "it is not a valid path (embedded null byte)"),
    ):
        for initial_accounts in (None, OPENING):
            with pytest.raises(StoreUnavailable) as failure:
                SqliteAccountRepository(path, initial_accounts)
            assert (failure.value.store, failure.value.reason) == (str(path), reason)
            is_missing = "there is no folder" in reason and initial_accounts is None
            assert isinstance(failure.value, StoreNotInitialized) == is_missing
    assert set(tmp_path.iterdir()) == {garbage, pipe}


def test_database_of_another_application_is_refused_unchanged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE account (anything)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="it is a SQLite database of another application"):
        SqliteAccountRepository(path)
    assert path.read_bytes() == before


def test_file_with_several_names_is_refused(path: Path, tmp_path: Path) -> None:
    SqliteAccountRepository(path, OPENING).close()
    second = tmp_path / "second.sqlite3"
    second.hardlink_to(path)
    for name in (path, second):
        with pytest.raises(StoreUnavailable, match=r"several names \(hard links\): delete all but one"):
            SqliteAccountRepository(name)
    path.unlink()
    with closing(SqliteAccountRepository(second)) as accounts:
        assert get_account(accounts, "0").balance == 1000


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "reason"),
    [
        (0o444, 0o777, "the file is not writable: use a user who may write to it"),
        (0o666, 0o555, "its folder is not writable, but its log must stand beside it"),
        (0o666, 0o444, "the file cannot be {} (Permission denied)"),
    ],
)
def test_missing_permission_is_named_when_the_file_is_opened(file_mode: int, folder_mode: int, reason: str) -> None:
    program = f"""{AS_OTHER_USER}
import sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import StoreUnavailable
for initial_accounts in (None, []):
    try:
        SqliteAccountRepository(sys.argv[1], initial_accounts)
    except StoreUnavailable as error:
        print(error.reason)
"""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "accounts.sqlite3"
        SqliteAccountRepository(path, OPENING).close()
        path.chmod(file_mode)
        path.parent.chmod(folder_mode)
        (output,) = in_processes(1, program, path)
        path.parent.chmod(0o700)
    assert output.splitlines() == [reason.format("opened"), reason.format("created")]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_log_without_its_file_is_refused_and_kept(path: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        deposit(accounts, "0", 100)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in (path, Path(f"{path}-wal")):
            shutil.copy(file, crashed)
    path = crashed / path.name
    intact = path.read_bytes()
    damage(path)
    with pytest.raises(
        StoreUnavailable, match=r"the file is missing or empty, but its log .* is not: restore the file"
    ):
        SqliteAccountRepository(path, OPENING)
    assert Path(f"{path}-wal").stat().st_size > 0
    assert path.exists() == (damage is not DAMAGE["missing"])
    path.write_bytes(intact)
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        assert get_account(accounts, "0").balance == 1100
