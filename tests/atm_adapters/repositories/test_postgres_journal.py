"""PostgresAccountRepository: exports, imports and audits of the whole journal."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from psycopg import sql
from support.postgres import Postgres
from support.postgres_failures import count_sessions, once_available
from support.proxy import Moment, Proxy
from support.waiting import until

from atm_adapters.repositories import postgres_journal
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import (
    Account,
    Closing,
    Deposit,
    Entry,
    LimitChange,
    Opening,
    OutcomeUnknown,
    Reopening,
    StoreUnavailable,
    Withdrawal,
    deposit,
    open_account,
)
from atm_core.errors import AccountNotFound, InconsistentJournal, StoreNotEmpty

TIME = datetime(2026, 11, 24, 17, 51, 38, 123457, tzinfo=timezone(timedelta(hours=5, minutes=30)))
JOURNAL = [
    Entry(Opening("10", 5, key="a", note="näh 😀"), Account("10", 5, last_entry=1), TIME),
    Entry(Withdrawal("10", "5.00", key='it\'s "quoted" \\N \\ %'), Account("10", 0, last_entry=2), TIME),
    Entry(LimitChange("10", 0, "99.99"), Account("10", 0, 0, "99.99", last_entry=3), TIME + timedelta(microseconds=1)),
    Entry(Closing("10"), Account("10", 0, 0, "99.99", closed=True, last_entry=4), datetime.max.replace(tzinfo=UTC)),
    Entry(Reopening("10"), Account("10", 0, 0, "99.99", last_entry=5), datetime(1, 1, 2, tzinfo=UTC)),
    Entry(Opening("9", "-999999999999.99", None, 0), Account("9", "-999999999999.99", None, 0, last_entry=1)),
    Entry(Deposit("9", "0.01", "a"), Account("9", "-999999999999.98", None, 0, last_entry=2), TIME),
]


@pytest.mark.parametrize("options", ["", "%20-cdatestyle%3DGerman%20-ctimezone%3DAmerica/New_York"])
def test_exported_journal_equals_the_imported_one(url: str, options: str) -> None:
    with PostgresAccountRepository(url + options, []) as accounts:
        accounts.import_entries(iter(JOURNAL))
        exported = list(accounts.export_entries())
        assert exported == JOURNAL
        assert [entry.account.last_entry for entry in exported] == [1, 2, 3, 4, 5, 1, 2]
        assert {entry.recorded_at.tzinfo for entry in exported if entry.recorded_at is not None} == {UTC}
        assert list(accounts.export_entries("9")) == JOURNAL[5:]
        assert (accounts.count_accounts(), accounts.count_entries()) == (2, 7)
        assert [account.is_consistent for account in accounts.audit()] == [True] * 2
        assert [account.last_entry for account in accounts.list_accounts("", 10)] == [5, 2]


def test_keys_work_after_an_import(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts:
        accounts.import_entries(JOURNAL)
        assert deposit(accounts, "9", "0.01", "a").last_entry == 2
        assert deposit(accounts, "9", "0.01", "b").last_entry == 3


def test_export_of_a_missing_account_is_refused(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts, pytest.raises(AccountNotFound):
        next(accounts.export_entries("9"))


def test_import_needs_an_empty_store(url: str) -> None:
    with PostgresAccountRepository(url, [Account("0", 1)]) as accounts:
        before = list(accounts.export_entries())
        with pytest.raises(StoreNotEmpty):
            accounts.import_entries(JOURNAL)
        assert list(accounts.export_entries()) == before
        with psycopg.connect(url) as admin:
            admin.execute("DELETE FROM account")
        with pytest.raises(StoreNotEmpty):
            accounts.import_entries(JOURNAL)


@pytest.mark.parametrize("chunk", [1, 10])
@pytest.mark.parametrize("last", [JOURNAL[6:], []])
def test_import_of_a_repeated_key_leaves_the_store_empty(
    url: str, monkeypatch: pytest.MonkeyPatch, chunk: int, last: list[Entry]
) -> None:
    monkeypatch.setattr(postgres_journal, "_COPIED_ROWS", chunk)
    repeated = Entry(Deposit("10", 1, 'it\'s "quoted" \\N \\ %'), Account("10", 1, 0, "99.99", last_entry=6))
    with PostgresAccountRepository(url, []) as accounts:
        with pytest.raises(InconsistentJournal) as refusal:
            accounts.import_entries([*JOURNAL[:5], repeated, JOURNAL[5], *last])
        assert (refusal.value.account_number, refusal.value.entry) == ("10", 6)
        assert accounts.count_entries() == accounts.count_accounts() == 0
        accounts.import_entries(JOURNAL)
        assert list(accounts.export_entries()) == JOURNAL


def test_error_of_the_source_leaves_the_store_empty(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "_COPIED_ROWS", 2)

    def damaged() -> Iterator[Entry]:
        yield from JOURNAL[:5]
        raise ValueError("line 6 is damaged")

    with PostgresAccountRepository(url, []) as accounts:
        with pytest.raises(ValueError, match="line 6"):
            accounts.import_entries(damaged())
        assert accounts.count_entries() == 0
        accounts.import_entries(JOURNAL)


@contextmanager
def waiting_source() -> Iterator[tuple[Iterator[Entry], threading.Event]]:
    """A journal whose last entry waits until the block ends, and an event that is set when it is waited for."""
    reached, released = threading.Event(), threading.Event()

    def entries() -> Iterator[Entry]:
        yield from JOURNAL[:-1]
        reached.set()
        assert released.wait(60)
        yield JOURNAL[-1]

    try:
        yield entries(), reached
    finally:
        released.set()


def test_nothing_is_written_or_seen_during_an_import(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "_COPIED_ROWS", 1)
    monkeypatch.setattr(postgres_journal, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '100ms'")
    with (
        PostgresAccountRepository(url, []) as accounts,
        PostgresAccountRepository(f"{url}%20-clock_timeout%3D100ms") as other,
        ThreadPoolExecutor(1) as thread,
    ):
        with waiting_source() as (entries, reached):
            imported = thread.submit(accounts.import_entries, entries)
            assert reached.wait(30)
            assert (other.count_entries(), other.list_accounts("", 10)) == (0, [])
            with pytest.raises(StoreUnavailable, match="locked"):
                open_account(other, "0")
            with pytest.raises(StoreUnavailable, match="other sessions write to it; stop them, then import again"):
                other.import_entries(JOURNAL)
        imported.result(30)
        assert list(other.export_entries()) == JOURNAL
        assert open_account(other, "0") == Account("0", 0)


def test_of_two_imports_at_once_one_fills_the_store(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts, ThreadPoolExecutor(2) as threads:
        with waiting_source() as (entries, reached):
            first = threads.submit(accounts.import_entries, entries)
            assert reached.wait(30)
            second = threads.submit(accounts.import_entries, JOURNAL)
            until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        first.result(30)
        assert isinstance(second.exception(30), StoreNotEmpty)
        assert list(accounts.export_entries()) == JOURNAL


def test_import_waits_for_a_transaction_under_way(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts, ThreadPoolExecutor(1) as thread, psycopg.connect(url) as other:
        other.execute("INSERT INTO account (account_number, balance, last_entry) VALUES ('2', 0, 1)")
        imported = thread.submit(accounts.import_entries, JOURNAL)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        other.commit()
        assert isinstance(imported.exception(30), StoreNotEmpty)
        assert accounts.count_entries() == 0


SHORT_TIMEOUTS = "%20-cstatement_timeout%3D100ms%20-cidle_in_transaction_session_timeout%3D100ms"


def test_timeouts_of_the_database_do_not_end_an_import(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "_COPIED_ROWS", 1)
    idle = "state = 'idle in transaction' AND now() - state_change > '0.3 s'"
    with (
        PostgresAccountRepository(url + SHORT_TIMEOUTS, []) as accounts,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(url) as holder,
    ):
        with waiting_source() as (entries, reached):
            holder.execute("LOCK TABLE entry")
            imported = thread.submit(accounts.import_entries, entries)
            until(lambda: count_sessions(url, "wait_event_type = 'Lock' AND now() - query_start > '0.3 s'") == 1)
            holder.rollback()
            assert reached.wait(30)
            until(lambda: imported.done() or count_sessions(url, idle) == 1)
        imported.result(30)
        assert list(accounts.export_entries()) == JOURNAL


READS: dict[str, Callable[[PostgresAccountRepository], Generator[object, None, None]]] = {
    "audit": lambda accounts: accounts.audit(),
    "export": lambda accounts: accounts.export_entries(),
}
each_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
MANY = [Account(str(number), 0) for number in range(5_000)]  # more than one fetch returns


@each_read
def test_timeouts_of_the_database_do_not_end_a_read(
    url: str, read: Callable[[PostgresAccountRepository], Generator[object, None, None]]
) -> None:
    idle = "state = 'idle in transaction' AND now() - state_change > '0.3 s'"
    with (
        PostgresAccountRepository(url, MANY) as writer,
        PostgresAccountRepository(url + SHORT_TIMEOUTS) as accounts,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(url) as holder,
    ):
        holder.execute("LOCK TABLE entry")
        rows = read(accounts)
        first = thread.submit(next, rows)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock' AND now() - query_start > '0.3 s'") == 1)
        holder.rollback()
        first.result(30)
        until(lambda: count_sessions(url, idle) == 1)
        open_account(writer, "new")
        assert len(list(rows)) == len(MANY) - 1, "as of the moment when it began"


@each_read
@pytest.mark.parametrize("end", [list, Generator.close], ids=["read on", "close"])
def test_read_of_a_frozen_database_ends(
    own_postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[PostgresAccountRepository], Generator[object, None, None]],
    end: Callable[[Generator[object, None, None]], object],
) -> None:
    monkeypatch.setattr(postgres_journal, "MAX_SILENCE", 0.5)
    with PostgresAccountRepository(own_postgres.url, MANY) as accounts:
        rows = read(accounts)
        next(rows)
        with ThreadPoolExecutor(1) as thread, own_postgres.frozen():
            error = thread.submit(end, rows).exception(8)
        assert (error is None) == (end is not list)
        assert error is None or "did not answer in time" in str(error)
        assert once_available(lambda: len(list(read(accounts)))) == len(MANY)


def test_import_into_a_frozen_database_ends(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "MAX_SILENCE", 0.5)
    monkeypatch.setattr(postgres_journal, "_COPIED_ROWS", 1)
    with PostgresAccountRepository(own_postgres.url, []) as accounts, ThreadPoolExecutor(1) as thread:
        with ExitStack() as frozen:
            with waiting_source() as (entries, reached):
                imported = thread.submit(accounts.import_entries, entries)
                assert reached.wait(30)
                frozen.enter_context(own_postgres.frozen())
            error = imported.exception(8)
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "the database did not answer in time"
        assert once_available(accounts.count_entries) == 0
        accounts.import_entries(JOURNAL)


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("statement", ["LOCK TABLE", "COPY entry", "INSERT INTO account"])
def test_import_on_a_lost_connection_leaves_the_store_empty(
    proxied_url: str, postgres_proxy: Proxy, statement: str, moment: Moment
) -> None:
    with PostgresAccountRepository(proxied_url, []) as accounts:
        postgres_proxy.cut_at(statement.encode(), moment)
        with pytest.raises(StoreUnavailable):
            accounts.import_entries(JOURNAL)
        assert postgres_proxy.has_cut()
        assert accounts.count_entries() == accounts.count_accounts() == 0
        accounts.import_entries(JOURNAL)
        assert list(accounts.export_entries()) == JOURNAL


COMMIT = b"COMMIT\0"  # not BEGIN ISOLATION LEVEL READ COMMITTED


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_import_whose_commit_was_lost_is_looked_up(proxied_url: str, postgres_proxy: Proxy, moment: Moment) -> None:
    with PostgresAccountRepository(proxied_url, []) as accounts:
        postgres_proxy.cut_at(COMMIT, moment)
        if moment == "before":
            with pytest.raises(StoreUnavailable, match="the connection was lost during the commit"):
                accounts.import_entries(JOURNAL)
            accounts.import_entries(JOURNAL)
        else:
            accounts.import_entries(JOURNAL)
        assert postgres_proxy.has_cut()
        assert list(accounts.export_entries()) == JOURNAL


@pytest.mark.parametrize("moment", ["before", "after"])
def test_lost_import_during_an_outage_is_an_unknown_outcome(
    url: str, proxied_url: str, postgres_proxy: Proxy, moment: Moment
) -> None:
    with PostgresAccountRepository(proxied_url, [], retry_timeout=0.5) as accounts:
        postgres_proxy.cut_at(COMMIT, moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="not known whether the journal was imported"):
            accounts.import_entries(JOURNAL)
    with PostgresAccountRepository(url) as accounts:
        if moment == "after":
            with pytest.raises(StoreNotEmpty):
                accounts.import_entries(JOURNAL)
        else:
            accounts.import_entries(JOURNAL)
        assert list(accounts.export_entries()) == JOURNAL


def test_import_waits_until_a_standby_has_it(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    url = f"{own_postgres.url}?options=-csynchronous_commit%3Doff"
    with PostgresAccountRepository(url, []) as accounts, ThreadPoolExecutor(1) as thread:
        toggle_missing_standby()
        imported = thread.submit(accounts.import_entries, JOURNAL)
        until(lambda: imported.done() or count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        assert not imported.done()
        toggle_missing_standby()
        imported.result(30)


def test_audit_finds_keys_that_occur_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "_FETCHED_ROWS", 2)
    numbers = ["a", "B", "b", "_", "10", "9"]
    with PostgresAccountRepository(url, [Account(number, 0) for number in numbers]) as accounts:
        for number in numbers:
            for turn in range(4):
                deposit(accounts, number, 1, f"key {turn}")
        with psycopg.connect(url) as admin:
            admin.execute("DROP INDEX entry_key")
            admin.execute("UPDATE entry SET key = 'key 1' WHERE account_number IN ('B', '9') AND entry > 3")
            admin.execute("UPDATE entry SET balance = 0 WHERE account_number IN ('9', '10') AND entry = 2")
        assert {account.account_number: account.first_mismatch for account in accounts.audit()} == {
            "a": None, "B": 4, "b": None, "_": None, "10": 2, "9": 2
        }  # fmt: skip


def test_audit_reads_keys_and_accounts_of_one_moment(url: str) -> None:
    with (
        PostgresAccountRepository(url, [Account("0", 0)]) as accounts,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(url) as other,
    ):
        other.execute("LOCK TABLE account")  # keys are read from the entries before
        audited = thread.submit(list, accounts.audit())
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        other.execute("UPDATE account SET balance = 1")
        other.commit()
        assert [account.is_consistent for account in audited.result(30)] == [True]
        assert [account.is_consistent for account in accounts.audit()] == [False]


@pytest.fixture(params=["de", "en-US"])
def database(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """The URL of a database whose text order is that of a language, if the server was built with ICU."""
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        has_icu = admin.execute("SELECT FROM pg_collation WHERE collprovider = 'i'").fetchall()
        icu = sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(request.param) if has_icu else sql.SQL("")
        admin.execute(sql.SQL("CREATE DATABASE language TEMPLATE template0 {}").format(icu))
        try:
            yield postgres.url.removesuffix("/postgres") + "/language?application_name=language"
            until(lambda: count_sessions(postgres.url, "application_name = 'language'") == 0)
        finally:
            admin.execute("DROP DATABASE language")


def test_text_order_of_the_database_changes_no_export(database: str) -> None:
    numbers = ["B", "a", "_", "-", "A-b", "ab", "Ab", "b", "a-b", "10", "9", "A", "aB"]
    with PostgresAccountRepository(database, []) as accounts:
        for number in numbers:
            open_account(accounts, number, 1)
        for number in numbers:
            deposit(accounts, number, 1, "key")
        listed: list[str] = []
        while page := accounts.list_accounts(listed[-1] if listed else "", 2):
            listed += [account.account_number for account in page]
        assert sorted(listed) == sorted(numbers)
        audited = list(accounts.audit())
        assert [account.account_number for account in audited] == listed
        assert {(account.is_consistent, account.entries) for account in audited} == {(True, 2)}
        exported = list(accounts.export_entries())
        order = [(entry.account.account_number, entry.account.last_entry) for entry in exported]
        assert order == [(number, entry) for number in sorted(numbers) for entry in (1, 2)]
        with psycopg.connect(database) as admin:
            admin.execute("DELETE FROM entry; DELETE FROM account")
        accounts.import_entries(exported)
        assert list(accounts.export_entries()) == exported
        assert all(account.is_consistent for account in accounts.audit())
        with closing(accounts.export_entries("a-b")) as entries:
            assert next(entries).account.account_number == "a-b"
