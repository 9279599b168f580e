"""The schema of a SQLite store: the same steps create and upgrade it, wholly or not at all."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.programs import in_processes

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import (
    Account,
    Deposit,
    Entry,
    IdempotencyKeyReused,
    Opening,
    StoreNotInitialized,
    StoreUnavailable,
    Withdrawal,
    deposit,
    get_account,
    read_history,
    withdraw,
)

VERSION_1 = Path(__file__).with_name("version_1.sql")
BALANCES = {"0": 1050, "1": Decimal("-899.90"), "10": 0, "shop": Decimal("-2.50")}


def make_version_1(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text())
    return path


def make_empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_version_1(tmp_path / "version 1")


@pytest.fixture
def upgraded(path: Path) -> Iterator[SqliteAccountRepository]:
    with closing(SqliteAccountRepository(path, [])) as accounts:
        yield accounts


def contents_of(path: Path) -> list[object]:
    """Return all statements that would create the file again, and the numbers in its header."""
    with closing(sqlite3.connect(path)) as connection:
        header = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
        return [*connection.iterdump(), *header]


def balances_in(accounts: SqliteAccountRepository) -> dict[str, Decimal]:
    return {account.account_number: account.balance for account in accounts.list_accounts("", 10)}


def entries_of(accounts: SqliteAccountRepository, account_number: str) -> list[tuple[int, Entry]]:
    return [(entry.account.last_entry, entry) for entry in read_history(accounts, account_number, after=0).entries]


def at(milliseconds: int) -> datetime:
    """Return the time of an entry in the store of version 1, all of which are of one second."""
    return datetime(2026, 11, 24, 14, 56, 23, milliseconds * 1000, UTC)


def test_older_schema_is_refused_unchanged_unless_asked_for(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreNotInitialized) as failure:
        SqliteAccountRepository(path)
    assert failure.value.reason == "its schema has version 1, older than 2"
    assert failure.value.schema_version == 1
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_upgrade_keeps_every_balance(upgraded: SqliteAccountRepository) -> None:
    assert balances_in(upgraded) == BALANCES
    findings = list(upgraded.audit())
    assert [(finding.account_number, finding.entries) for finding in findings] == [
        ("0", 5), ("1", 4), ("10", 1), ("shop", 2)
    ]  # fmt: skip
    assert all(finding.is_consistent for finding in findings)


def test_upgrade_numbers_opening_and_entries_in_their_order(upgraded: SqliteAccountRepository) -> None:
    assert entries_of(upgraded, "1") == [
        (1, Entry(Opening("1", 1000), Account("1", 1000), None)),
        (2, Entry(Deposit("1", "0.10", "order 1"), Account("1", "1000.10"), at(286))),
        (3, Entry(Withdrawal("1", 2000, "it's"), Account("1", "-999.90"), at(287))),
        (4, Entry(Deposit("1", 100), Account("1", "-899.90"), at(288))),
    ]
    assert entries_of(upgraded, "10") == [(1, Entry(Opening("10", 0), Account("10", 0), None))]
    assert entries_of(upgraded, "shop") == [
        (1, Entry(Opening("shop", "-7.50"), Account("shop", "-7.50"), None)),
        (2, Entry(Deposit("shop", 5, "order 2"), Account("shop", "-2.50"), at(288))),
    ]


def test_keys_from_before_the_upgrade_return_first_answers(upgraded: SqliteAccountRepository) -> None:
    first = deposit(upgraded, "1", "0.10", "order 1")
    assert (first, first.last_entry) == (Account("1", "1000.10"), 2)
    assert withdraw(upgraded, "1", 2000, "it's").balance == Decimal("-999.90")
    assert deposit(upgraded, "0", 100, "order 1").balance == 1100
    with pytest.raises(IdempotencyKeyReused):
        deposit(upgraded, "shop", 6, "order 2")
    assert balances_in(upgraded) == BALANCES


def test_upgraded_account_continues_its_history(upgraded: SqliteAccountRepository) -> None:
    assert deposit(upgraded, "0", 1).last_entry == 6
    assert deposit(upgraded, "10", 1).last_entry == 2
    assert [number for number, _ in entries_of(upgraded, "0")] == [1, 2, 3, 4, 5, 6]
    assert [number for number, _ in entries_of(upgraded, "10")] == [1, 2]
    assert all(finding.is_consistent for finding in upgraded.audit())


def test_upgraded_schema_equals_that_of_a_new_store(path: Path, tmp_path: Path) -> None:
    def schema_of(path: Path) -> list[Any]:
        SqliteAccountRepository(path, []).close()
        with closing(sqlite3.connect(path)) as connection:
            header = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
            return [*header, *connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")]

    assert schema_of(path) == schema_of(tmp_path / "new")


def test_upgrade_hides_no_mismatch_of_version_1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE account SET balance = balance + 1 WHERE account_number = '10'")
        connection.execute("UPDATE journal SET balance = balance + 1 WHERE entry = 3")
        connection.execute("INSERT INTO journal VALUES (9, 'missing', 'deposit', 1, NULL, 1, '')")
        connection.commit()
    with closing(SqliteAccountRepository(path, [])) as accounts:
        found = {finding.account_number: finding for finding in accounts.audit() if not finding.is_consistent}
    assert found.keys() == {"0", "10", "missing"}
    assert (found["0"].first_mismatch, found["10"].first_mismatch, found["missing"].account) == (3, None, None)


@pytest.mark.parametrize("make", [make_version_1, make_empty], ids=["upgrade", "creation"])
def test_kill_at_any_statement_leaves_all_or_nothing(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    # The children of this program kill themselves at their first statement, their second one, and so on.
    program = """
import os, shutil, signal, sqlite3, sys
from itertools import count
from atm_adapters.repositories.sqlite import SqliteAccountRepository

connect = sqlite3.connect
for number in count():
    path = f"{sys.argv[1]} {number}"
    shutil.copy(sys.argv[1], path)
    if (child := os.fork()) == 0:
        statements = []
        def trace(statement):
            statements.append(statement)
            if len(statements) > number:
                os.kill(os.getpid(), signal.SIGKILL)
        def traced(*arguments, **options):
            connection = connect(*arguments, **options)
            connection.set_trace_callback(trace)
            return connection
        sqlite3.connect = traced
        SqliteAccountRepository(path, []).close()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(number)
        break
"""
    original = make(tmp_path / "original")
    done = subprocess.run(  # noqa: S603 - the program above
        [sys.executable, "-c", program, str(original)], capture_output=True, text=True, check=True, timeout=60
    )
    before = contents_of(original)
    killed = [Path(f"{original} {number}") for number in range(int(done.stdout))]
    after_kill = [contents_of(path) for path in killed]
    assert_all_or_nothing(before, after_kill, killed)


@pytest.mark.parametrize("make", [make_version_1, make_empty], ids=["upgrade", "creation"])
def test_exception_at_any_statement_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    before = contents_of(make(tmp_path / "before"))
    interrupted: list[Path] = []
    after = []
    for number in count(1):
        path = make(tmp_path / str(number))
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", connect_and_interrupt(number))
            try:
                SqliteAccountRepository(path, []).close()
                break
            except KeyboardInterrupt:
                interrupted.append(path)
        after.append(contents_of(path))
    assert_all_or_nothing(before, after, interrupted)


def connect_and_interrupt(number: int) -> Callable[..., sqlite3.Connection]:
    """Return a function like ``sqlite3.connect`` whose connections raise an exception at one of their statements."""
    statements = count(1)

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if next(statements) == number:
                raise KeyboardInterrupt
            return super().execute(*arguments)

    return partial(sqlite3.connect, factory=Connection)


def assert_all_or_nothing(before: list[object], after: list[list[object]], paths: list[Path]) -> None:
    """Assert that each file is as before or complete, and that opening it again completes it."""

    def completed(path: Path) -> list[object]:
        SqliteAccountRepository(path, []).close()
        return contents_of(path)

    complete = completed(paths[0])
    unchanged = after.index(complete)
    assert after == [before] * unchanged + [complete] * (len(after) - unchanged)
    assert unchanged > 20  # the statements of the steps, and those before them
    for path in paths:
        assert completed(path) == complete


def test_one_of_eight_processes_upgrades_and_all_work(path: Path) -> None:
    program = """
import sqlite3, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import deposit

connect, statements = sqlite3.connect, []
def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(statements.append)
    return connection
sqlite3.connect = traced
accounts = SqliteAccountRepository(sys.argv[1], [])
for _ in range(20):
    deposit(accounts, "0", 1)
print(sum("DROP TABLE journal" in statement for statement in statements))
"""
    upgrades = sorted(in_processes(8, program, path))
    assert upgrades == ["0"] * 7 + ["1"]
    with closing(SqliteAccountRepository(path, [])) as accounts:
        assert get_account(accounts, "0") == Account("0", 1050 + 8 * 20)
        assert all(finding.is_consistent for finding in accounts.audit())


@pytest.mark.parametrize("version", [-1, 0, 3])
def test_unknown_version_is_refused_unchanged(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for initial_accounts in (None, [Account("0", 1)]):
        with pytest.raises(StoreUnavailable) as failure:
            SqliteAccountRepository(path, initial_accounts)
        assert failure.value.reason == (
            f"its schema has version {version}, but this release of Mini-ATM supports version 2"
        )
        assert not isinstance(failure.value, StoreNotInitialized)
    assert path.read_bytes() == before
