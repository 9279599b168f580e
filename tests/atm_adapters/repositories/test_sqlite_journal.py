"""The whole journal of a SQLite store: audit, export and import beyond the contract."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from support.programs import in_processes

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import (
    Account,
    AccountNotFound,
    Closing,
    Deposit,
    Entry,
    InconsistentJournal,
    LimitChange,
    Opening,
    OutcomeUnknown,
    Reopening,
    StoreNotEmpty,
    StoreUnavailable,
    Withdrawal,
    deposit,
    get_account,
    read_history,
)
from atm_core.audit import replayed

# In the order of the database of PostgreSQL, they may stand otherwise.
OPENING = [Account("0", 1000), Account("1", 1000), Account("B", 0, 50, 20), Account("a", 0), Account("b", 0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def accounts(path: Path) -> Iterator[SqliteAccountRepository]:
    """A store with every kind of entry, whose accounts take turns."""
    with closing(SqliteAccountRepository(path, OPENING)) as accounts:
        accounts.execute_batch(
            [
                Deposit("a", "0.01", "key", "note"),
                Closing("b", "key"),
                Withdrawal("B", 20, note="grüße"),
                LimitChange("a", 0, None),
                Reopening("b"),
                *[Deposit("0", 1, f"key {number}") for number in range(2500)],
            ]
        )
        yield accounts


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SqliteAccountRepository]:
    with closing(SqliteAccountRepository(tmp_path / "empty.sqlite3", [])) as empty:
        yield empty


def test_export_has_every_entry_by_account_and_number(accounts: SqliteAccountRepository) -> None:
    entries = list(accounts.export_entries())
    assert [(entry.account.account_number, entry.account.last_entry) for entry in entries] == [
        *[("0", number) for number in range(1, 2502)],
        *[("1", 1), ("B", 1), ("B", 2), ("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)],
    ]
    assert len(entries) == accounts.count_entries()
    of_a = [entry for entry in entries if entry.account.account_number == "a"]
    assert of_a == list(read_history(accounts, "a", after=0).entries)


@pytest.mark.parametrize("account_number", ["0", "1", "b"])
def test_export_of_one_account_has_its_entries(accounts: SqliteAccountRepository, account_number: str) -> None:
    of_all = [entry for entry in accounts.export_entries() if entry.account.account_number == account_number]
    exported = accounts.export_entries(account_number)
    first = next(exported)
    if account_number == "0":
        deposit(accounts, "0", 1)  # is not part of the export that began before
    assert [first, *exported] == of_all


def test_import_restores_accounts_entries_and_keys(
    accounts: SqliteAccountRepository, empty: SqliteAccountRepository
) -> None:
    empty.import_entries(replayed(accounts.export_entries()))
    assert list(empty.export_entries()) == list(accounts.export_entries())
    assert repr(empty.list_accounts("", 100)) == repr(accounts.list_accounts("", 100))
    assert empty.count_entries() == accounts.count_entries()
    assert all(found.is_consistent for found in empty.audit())
    before = get_account(empty, "0")
    assert deposit(empty, "0", 1, "key 7").last_entry == 9
    assert get_account(empty, "0") == before
    assert deposit(empty, "0", 1).last_entry == 2502
    page = read_history(empty, "0", before=2400, limit=100)
    assert [entry.account.last_entry for entry in page.entries] == list(range(2399, 2299, -1))
    assert all(found.is_consistent for found in empty.audit())


@pytest.mark.parametrize(
    "recorded_at",
    [
        None,
        datetime(2026, 11, 24, 14, 56, 23, tzinfo=UTC),
        datetime(2026, 11, 24, 14, 56, 23, 123456, tzinfo=UTC),
        datetime(2026, 11, 24, 14, 56, 23, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
)
def test_import_keeps_times_exactly(empty: SqliteAccountRepository, recorded_at: datetime | None) -> None:
    opening = Opening("0", 1)
    empty.import_entries([Entry(opening, opening.apply(None), recorded_at)])
    (entry,) = empty.export_entries()
    assert entry.recorded_at == recorded_at
    assert recorded_at is None or str(entry.recorded_at) == str(recorded_at.astimezone(UTC))


def test_store_with_accounts_accepts_no_import(accounts: SqliteAccountRepository) -> None:
    before = list(accounts.export_entries())
    with pytest.raises(StoreNotEmpty):
        accounts.import_entries([])
    assert list(accounts.export_entries()) == before


def assert_empty(store: SqliteAccountRepository) -> None:
    assert (store.count_accounts(), store.count_entries()) == (0, 0)
    with pytest.raises(AccountNotFound):
        deposit(store, "0", 1)  # the store can be written to


def test_repeated_key_is_refused_and_nothing_imported(
    accounts: SqliteAccountRepository, empty: SqliteAccountRepository
) -> None:
    def with_repeated_key() -> Iterator[Entry]:
        for entry in accounts.export_entries():
            is_seventh = (entry.account.account_number, entry.account.last_entry) == ("0", 7)
            yield entry._replace(transaction=Deposit("0", 1, "key 1")) if is_seventh else entry

    with pytest.raises(InconsistentJournal) as failure:
        empty.import_entries(replayed(with_repeated_key()))
    assert (failure.value.account_number, failure.value.entry) == ("0", 7)
    assert_empty(empty)
    empty.import_entries(replayed(accounts.export_entries()))
    assert empty.count_entries() == accounts.count_entries()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_exception_during_import_leaves_the_store_empty(
    accounts: SqliteAccountRepository, empty: SqliteAccountRepository, error: type[BaseException]
) -> None:
    def entries() -> Iterator[Entry]:
        yield from accounts.export_entries()
        raise error

    with pytest.raises(error):
        empty.import_entries(entries())
    assert_empty(empty)


def test_full_disk_during_import_leaves_the_store_empty(
    accounts: SqliteAccountRepository, empty: SqliteAccountRepository
) -> None:
    (pages,) = empty._writer.execute("PRAGMA page_count").fetchone()
    empty._writer.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(StoreUnavailable, match="full"):
        empty.import_entries(accounts.export_entries())
    assert_empty(empty)
    empty._writer.execute("PRAGMA max_page_count = 1000000")
    empty.import_entries(accounts.export_entries())
    assert empty.count_entries() == accounts.count_entries()


def test_import_whose_commit_fails_says_how_to_find_out(path: Path, empty: SqliteAccountRepository) -> None:
    opening = Opening("0", 1)
    aside = path.with_name("aside")

    def entries() -> Iterator[Entry]:
        yield Entry(opening, opening.apply(None))
        Path(empty._file).rename(aside)

    with pytest.raises(OutcomeUnknown) as failure:
        empty.import_entries(entries())
    assert failure.value.advice == (
        "It is not known whether the journal was imported. Import it again: if it was imported, the store is refused "
        "because it is not empty."
    )
    aside.rename(empty._file)


def test_second_import_at_the_same_time_is_refused(tmp_path: Path, accounts: SqliteAccountRepository) -> None:
    path = tmp_path / "target"
    SqliteAccountRepository(path, []).close()
    program = """
import sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import StoreNotEmpty
source, target = map(SqliteAccountRepository, sys.argv[1:])
try:
    target.import_entries(source.export_entries())
    print("imported")
except StoreNotEmpty:
    print("not empty")
"""
    outcomes = in_processes(4, program, accounts._file, path)
    assert sorted(outcomes) == ["imported", *["not empty"] * 3]
    with closing(SqliteAccountRepository(path)) as target:
        assert list(target.export_entries()) == list(accounts.export_entries())


@pytest.mark.parametrize("begin", ["audit", "export_entries"])
def test_reading_sees_one_moment_and_lets_the_log_shrink(accounts: SqliteAccountRepository, begin: str) -> None:
    accounts._writer.execute("PRAGMA wal_autocheckpoint = 100")  # pages of 1 KiB
    expected = len(list(getattr(accounts, begin)()))
    reading = getattr(accounts, begin)()
    next(reading)
    for number in range(50):
        accounts.execute_batch([Deposit("1", 1, f"{number}-{n}") for n in range(100)])
    assert Path(f"{accounts._file}-wal").stat().st_size < 300 * 1024
    assert 1 + len(list(reading)) == expected


def test_full_folder_of_temporary_files_is_named(accounts: SqliteAccountRepository) -> None:
    program = """
import resource, signal, sys
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import StoreUnavailable
accounts = SqliteAccountRepository(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
for call in (accounts.audit, accounts.export_entries):
    try:
        list(call())
    except StoreUnavailable as error:
        print(error.reason)
"""
    accounts.execute_batch([Deposit("1", 1, f"{n:0>200}") for n in range(20_000)])  # more than SQLite's cache
    (output,) = in_processes(1, program, accounts._file)
    reason = "the folder of temporary files has no room for a copy: set SQLITE_TMPDIR to one that has (disk I/O error)"
    assert output.splitlines() == [reason, reason]


DAMAGE: dict[str, tuple[list[str], dict[str, int | None]]] = {
    "repeated keys": (
        [
            "DROP INDEX entry_key",
            "UPDATE entry SET key = 'key 3' WHERE account_number = '0' AND entry IN (9, 12)",
            "UPDATE entry SET key = 'key' WHERE account_number = 'a' AND entry = 3",
        ],
        {"0": 9, "a": 3},
    ),
    "a key of two accounts": (
        ["UPDATE entry SET key = 'key' WHERE account_number = '0' AND entry = 3"],
        {},
    ),
    "wrong links of all accounts": (
        ["UPDATE entry SET previous = id WHERE previous IS NOT NULL", "UPDATE account SET last_id = 1"],
        {"0": 2, "1": 1, "B": 2, "a": 2, "b": 2},
    ),
    "an entry after the last one": (
        [
            "UPDATE account SET last_id = (SELECT previous FROM entry WHERE id = last_id) WHERE account_number = 'a'",
            "UPDATE account SET last_entry = 2 WHERE account_number = 'a'",
        ],
        {"a": None},
    ),
    "entries without an account": (["DELETE FROM account WHERE account_number = 'a'"], {"a": None}),
    "an account without entries": (["DELETE FROM entry WHERE account_number = 'a'"], {"a": None}),
    "a wrong balance before a wrong link": (
        [
            "UPDATE entry SET previous = NULL WHERE entry = 9",
            "UPDATE entry SET balance = 1 WHERE account_number = '0' AND entry = 5",
        ],
        {"0": 5},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "mismatches"), DAMAGE.values(), ids=DAMAGE)
def test_audit_finds_damage_and_names_the_first_entry(
    accounts: SqliteAccountRepository, statements: list[str], mismatches: dict[str, int | None]
) -> None:
    with closing(sqlite3.connect(accounts._file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    wrong = {found.account_number: found.first_mismatch for found in accounts.audit() if not found.is_consistent}
    assert wrong == mismatches
