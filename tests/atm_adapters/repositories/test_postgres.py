"""PostgresAccountRepository beyond the contract: several processes, locks, settings and readiness."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from support.postgres import Postgres
from support.postgres_failures import count_sessions
from support.server import running_server
from support.stores import demo_store
from support.waiting import until

from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import (
    Account,
    AccountAlreadyExists,
    AtmError,
    Deposit,
    Opening,
    StoreUnavailable,
    Withdrawal,
    deposit,
    get_account,
    open_account,
    read_history,
)
from atm_core.ports import Durability

OPENING = [Account("0", 1000), Account("1", 1000)]


def test_only_a_new_database_gets_the_initial_accounts(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        deposit(accounts, "0", 1, "key")
        open_account(accounts, "2", 7)
    with closing(PostgresAccountRepository(url, [Account("3", 1000)])) as accounts:
        assert [account.account_number for account in accounts.list_accounts("", 10)] == ["0", "1", "2"]
        assert [str(get_account(accounts, number).balance) for number in "012"] == ["1001.00", "1000.00", "7.00"]
        assert deposit(accounts, "0", 1, "key").balance == 1001


def test_concurrent_batches_of_several_clients_all_count(url: str) -> None:
    with (
        closing(PostgresAccountRepository(url, OPENING)) as one,
        closing(PostgresAccountRepository(url)) as other,
        ThreadPoolExecutor(4) as threads,
    ):
        batch = [Deposit(number, 1) for number in "01"] * 5
        batches = [(accounts, order) for accounts in (one, other) for order in (batch, batch[::-1])] * 10
        list(threads.map(lambda call: call[0].execute_batch(call[1]), batches))
        assert [get_account(one, number).balance for number in "01"] == [1200, 1200]


def test_journal_numbers_entries_within_their_account(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        accounts.execute_batch([Deposit("0", "0.10", "key"), Withdrawal("1", 2000)])
        accounts.execute_batch([Deposit("0", "0.10", "key"), Withdrawal("0", 1)])
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT account_number, entry, kind, amount, key, balance FROM entry ORDER BY 1, 2"
        ).fetchall()
        batches = connection.execute("SELECT count(DISTINCT batch) FROM entry").fetchone()
    assert rows == [
        ("0", 1, "opening", 100000, None, 100000),
        ("0", 2, "deposit", 10, "key", 100010),
        ("0", 3, "withdrawal", 100, None, 99910),
        ("1", 1, "opening", 100000, None, 100000),
        ("1", 2, "withdrawal", 200000, None, -100000),
    ]
    assert batches == (3,)


def test_entry_is_recorded_after_its_account_was_locked(url: str) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, OPENING)) as accounts,
        psycopg.connect(url) as holder,
    ):
        holder.execute("SELECT FROM account WHERE account_number = '0' FOR UPDATE")
        answer = thread.submit(deposit, accounts, "0", 1)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        (locked_until,) = holder.execute("SELECT clock_timestamp()").fetchone() or (None,)
        holder.rollback()
        assert answer.result(30).balance == 1001
        recorded_at = read_history(accounts, "0").entries[0].recorded_at
    assert recorded_at is not None
    assert recorded_at > locked_until


def test_times_are_utc_whatever_the_session_displays(url: str) -> None:
    german = f"{url}%20-cdatestyle%3DGerman%20-ctimezone%3DAmerica/New_York"
    with closing(PostgresAccountRepository(german, OPENING)) as accounts:
        began = datetime.now(UTC)
        first = deposit(accounts, "0", 1, "key")
        assert deposit(accounts, "0", 1, "key") == first
        recorded_at = read_history(accounts, "0").entries[0].recorded_at
    assert recorded_at is not None
    assert recorded_at.tzinfo == UTC
    assert abs(recorded_at - began) < timedelta(seconds=30)


def test_no_call_reads_a_whole_table(url: str) -> None:
    """The planner would read tables as small as these, and continue to do so while they grow."""

    def whole_reads() -> list[tuple[object, ...]]:
        # Sessions report their counts when they end.
        until(lambda: count_sessions(url, "application_name LIKE 'test_%' AND pid <> pg_backend_pid()") == 0)
        with psycopg.connect(url) as admin:
            return admin.execute(
                "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = current_schema"
                " AND relname IN ('account', 'entry') ORDER BY 1"
            ).fetchall()

    PostgresAccountRepository(url, OPENING).close()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("ANALYZE account, entry")
    before = whole_reads()
    with closing(PostgresAccountRepository(url)) as accounts:
        open_account(accounts, "2")
        batch = [Deposit(number, 1, f"key {number} {turn}") for number in "012" for turn in range(4)]
        for _ in range(8):  # statements are prepared from the sixth on
            accounts.execute_batch(batch)
            deposit(accounts, "0", 1)
            read_history(accounts, "0", limit=2)
            accounts.list_accounts("", 2)
            get_account(accounts, "0")
    assert whole_reads() == before


@pytest.mark.parametrize(("given", "expected"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_commits_are_synchronous_despite_weaker_settings(url: str, given: str, expected: str) -> None:
    assert _setting(f"{url}%20-csynchronous_commit%3D{given}", "synchronous_commit") == expected


def test_statement_timeout_cannot_end_a_wait_for_a_standby(url: str) -> None:
    """A COMMIT that times out would report success although only one machine has it."""
    assert _setting(f"{url}%20-cstatement_timeout%3D1s", "statement_timeout") == "0"


@pytest.mark.parametrize(("options", "expected"), [("", "5s"), ("%20-clock_timeout%3D1s", "1s")])
def test_wait_for_a_lock_is_bounded(url: str, options: str, expected: str) -> None:
    assert _setting(url + options, "lock_timeout") == expected


def _setting(url: str, name: str) -> str:
    """Return a setting as the connections of a repository have it."""
    with closing(PostgresAccountRepository(url, [])) as accounts, accounts._session._pool.connection() as connection:
        (value,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
    return str(value)


def test_durability_is_read_from_the_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asynchronous = f"{url}%20-csynchronous_commit%3Doff"
    with closing(PostgresAccountRepository(asynchronous, [])) as accounts:
        settings = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "synchronous_standby_names": "",
        }
        assert accounts.durability() == Durability("postgresql", durable=True, settings=settings)
    monkeypatch.setattr("atm_adapters.repositories.postgres_session.configure", lambda _: None)
    with closing(PostgresAccountRepository(asynchronous)) as accounts:
        settings["synchronous_commit"] = "off"
        assert accounts.durability() == Durability("postgresql", durable=False, settings=settings)


def test_database_without_fsync_is_reported_as_not_durable(own_postgres: Postgres) -> None:
    own_postgres.stop()
    own_postgres.start("fsync=off")
    with closing(PostgresAccountRepository(own_postgres.url, [])) as accounts:
        durability = accounts.durability()
    assert (durability.durable, durability.settings["fsync"]) == (False, "off")


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (
            "UPDATE mini_atm SET schema_version = 3",
            "UPDATE mini_atm SET schema_version = 2",
            "its schema has version 3",
        ),
        ("DROP TABLE entry", None, 'relation "entry" does not exist'),
        (
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END$$;"
            "CREATE TRIGGER fail BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION fail()",
            "DROP TRIGGER fail ON entry",
            "No space left on device",
        ),
    ],
)
def test_server_is_not_ready_while_it_cannot_write(
    url: str, tmp_path: Path, break_it: LiteralString, mend_it: LiteralString | None, reason: str
) -> None:
    with running_server(demo_store(url), tmp_path) as server, psycopg.connect(url, autocommit=True) as admin:
        assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 200
        assert admin.execute("SELECT count(*) FROM entry").fetchone() == (2,)
        admin.execute(break_it)
        assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 503
        until(lambda: reason in server.log.read_text())
        if mend_it is not None:
            admin.execute(mend_it)
            assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 200


def test_rows_are_locked_in_order_of_account_number(url: str) -> None:
    # Account 1 is stored before account 0, so that locking in the order of storage would fail the test.
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, [Account("1", 0), Account("0", 0)])) as accounts,
        psycopg.connect(url) as first_holder,
        psycopg.connect(url) as second_holder,
    ):
        first_holder.execute("SELECT FROM account WHERE account_number = '0' FOR UPDATE")
        batch = thread.submit(accounts.execute_batch, [Deposit(number, 1) for number in "10"])
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        second_holder.execute("SELECT FROM account WHERE account_number = '1' FOR UPDATE NOWAIT")
        second_holder.rollback()
        first_holder.rollback()
        assert batch.result(30) == [Account("1", 1), Account("0", 1)]


def test_locked_account_fails_only_its_own_callers(url: str) -> None:
    one_second = f"{url}%20-clock_timeout%3D1s"
    with closing(PostgresAccountRepository(one_second, OPENING)) as accounts, psycopg.connect(url) as holder:
        for number in "234":
            open_account(accounts, number)
        holder.execute("SELECT FROM account WHERE account_number > '0' FOR UPDATE")
        began = time.monotonic()
        outcomes = accounts.execute_batch([Deposit(number, 1) for number in "012340"])
        assert time.monotonic() - began < 2.5, "the batch waits for one second, then each account for a tenth"
        assert [outcome for outcome in outcomes if isinstance(outcome, Account)] == [
            Account("0", 1001),
            Account("0", 1002),
        ]
        assert [type(outcome) for outcome in outcomes[1:5]] == [StoreUnavailable] * 4
        with pytest.raises(StoreUnavailable, match="another session keeps the account locked"):
            deposit(accounts, "1", 1)
        holder.rollback()
        assert deposit(accounts, "1", 1).balance == 1001


@pytest.mark.parametrize("options", ["", "%20-cdefault_transaction_isolation%3Dserializable"])
def test_number_that_many_open_at_once_is_opened_once(url: str, options: str) -> None:
    numbers = [str(number) for number in range(20)]
    orders = [numbers, numbers[::-1]] * 4

    def open_all(numbers: list[str]) -> dict[str, Account | AtmError]:
        with PostgresAccountRepository(url + options, []) as accounts:
            started.wait()
            openings = [Opening(number, 5) for number in numbers]
            return dict(zip(numbers, accounts.execute_batch(openings), strict=True))

    started = threading.Barrier(len(orders))
    with ThreadPoolExecutor(len(orders)) as threads:
        outcomes = list(threads.map(open_all, orders))
    for number in numbers:
        kinds = sorted(type(outcome[number]).__name__ for outcome in outcomes)
        assert kinds == ["Account", *["AccountAlreadyExists"] * (len(orders) - 1)]
    with PostgresAccountRepository(url) as accounts:
        assert [account.entries for account in accounts.audit() if account.is_consistent] == [1] * len(numbers)


def test_openings_with_one_key_at_once_have_one_answer(url: str) -> None:
    with closing(PostgresAccountRepository(url, [])) as accounts, ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: open_account(accounts, "2", 5, key="key"), range(40)))
        assert {(account.balance, account.last_entry) for account in opened} == {(Account("2", 5).balance, 1)}
        assert len(read_history(accounts, "2").entries) == 1


def test_openings_of_a_batch_share_a_commit(url: str) -> None:
    with closing(PostgresAccountRepository(url, [])) as accounts, psycopg.connect(url) as admin:
        accounts.execute_batch([Opening(str(number), 1) for number in range(1000)])
        assert admin.execute("SELECT count(*), count(DISTINCT batch) FROM entry").fetchone() == (1000, 1)


@pytest.mark.parametrize("is_committed", [False, True])
def test_opening_waits_for_one_that_is_under_way(url: str, is_committed: bool) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, [])) as accounts,
        psycopg.connect(url) as other,
    ):
        other.execute("INSERT INTO account (account_number, balance, last_entry) VALUES ('2', 0, 1)")
        answer = thread.submit(open_account, accounts, "2", 5)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        if is_committed:
            other.commit()
            assert isinstance(answer.exception(30), AccountAlreadyExists)
        else:
            other.rollback()
            assert answer.result(30) == Account("2", 5)


def test_accounts_are_opened_in_order_of_account_number(url: str) -> None:
    insert = "INSERT INTO account (account_number, balance, last_entry) VALUES (%s, 0, 1)"
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, [])) as accounts,
        psycopg.connect(url) as first_holder,
        psycopg.connect(f"{url}%20-clock_timeout%3D1s") as second_holder,
    ):
        first_holder.execute(insert, ("0",))
        batch = thread.submit(accounts.execute_batch, [Opening(number, 1) for number in "10"])
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        second_holder.execute(insert, ("1",))
        second_holder.rollback()
        first_holder.rollback()
        assert batch.result(30) == [Account("1", 1), Account("0", 1)]


def test_opening_that_waits_fails_only_its_own_caller(url: str) -> None:
    one_second = f"{url}%20-clock_timeout%3D1s"
    with closing(PostgresAccountRepository(one_second, OPENING)) as accounts, psycopg.connect(url) as other:
        other.execute("INSERT INTO account (account_number, balance, last_entry) VALUES ('2', 0, 1)")
        outcomes = accounts.execute_batch([Deposit("0", 1), Opening("2", 5), Opening("3", 5)])
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [Account("0", 1001), StoreUnavailable, Account("3", 5)]


def test_server_stops_in_time_despite_a_hanging_commit(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None], tmp_path: Path
) -> None:
    with running_server(demo_store(own_postgres.url), tmp_path) as server, ThreadPoolExecutor(1) as thread:
        toggle_missing_standby()
        answer = thread.submit(httpx.post, f"{server.address}/accounts/0/deposit", json={"amount": 1}, timeout=60)
        until(lambda: count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
        assert answer.result(30).status_code == 503
        assert answer.result().json()["type"] == "urn:mini-atm:error:outcome-unknown"
        assert "Traceback" not in server.log.read_text()
        toggle_missing_standby()
