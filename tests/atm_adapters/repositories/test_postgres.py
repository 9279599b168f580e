"""PostgresAccountRepository beyond the contract: several processes, lost commits, locks and standbys."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from support.postgres import Postgres
from support.postgres_failures import count_sessions, once_available, terminate_connections
from support.proxy import Moment, Proxy, cutting_proxy
from support.server import running_server
from support.waiting import until

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import (
    Account,
    AccountAlreadyExists,
    OutcomeUnknown,
    StoreUnavailable,
    Transaction,
    deposit,
    get_account,
    open_account,
)
from atm_core.ports import Durability

OPENING = [Account("0", 1000), Account("1", 1000)]


def test_only_a_new_database_gets_the_initial_accounts(url: str) -> None:
    with closing(open_store(url)) as accounts:
        deposit(accounts, "0", 1, "key")
        open_account(accounts, "2", 7)
    with closing(open_store(url)) as accounts:
        assert [str(get_account(accounts, number).balance) for number in "012"] == ["1001.00", "1000.00", "7.00"]
        assert deposit(accounts, "0", 1, "key").balance == 1001


def test_several_processes_may_open_a_new_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: PostgresAccountRepository(url, OPENING), range(6)))
    for accounts in stores:
        assert get_account(accounts, "0").balance == 1000
        accounts.close()


def test_concurrent_batches_of_several_clients_all_count(url: str) -> None:
    with (
        closing(PostgresAccountRepository(url, OPENING)) as one,
        closing(PostgresAccountRepository(url)) as other,
        ThreadPoolExecutor(4) as threads,
    ):
        batch = [Transaction(number, "deposit", 1) for number in "01"] * 5
        batches = [(accounts, order) for accounts in (one, other) for order in (batch, batch[::-1])] * 10
        list(threads.map(lambda call: call[0].execute_batch(call[1]), batches))
        assert [get_account(one, number).balance for number in "01"] == [1200, 1200]


def test_journal_numbers_entries_within_their_account(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        accounts.execute_batch([Transaction("0", "deposit", "0.10", "key"), Transaction("1", "withdrawal", 2000)])
        accounts.execute_batch([Transaction("0", "deposit", "0.10", "key"), Transaction("0", "withdrawal", 1)])
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT account_number, entry, kind, amount, key, balance FROM journal ORDER BY 1, 2"
        ).fetchall()
        batches = connection.execute("SELECT count(DISTINCT batch) FROM journal").fetchone()
    assert rows == [
        ("0", 1, "deposit", 10, "key", 100010),
        ("0", 2, "withdrawal", 100, None, 99910),
        ("1", 1, "withdrawal", 200000, None, -100000),
    ]
    assert batches == (2,)


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
    with closing(PostgresAccountRepository(url)) as accounts, accounts._session._pool.connection() as connection:
        (value,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
    return str(value)


def test_durability_is_read_from_the_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asynchronous = f"{url}%20-csynchronous_commit%3Doff"
    with closing(PostgresAccountRepository(asynchronous)) as accounts:
        settings = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "synchronous_standby_names": "",
        }
        assert accounts.durability() == Durability("postgresql", durable=True, settings=settings)
    monkeypatch.setattr("atm_adapters.repositories.postgres_session._configure", lambda _: None)
    with closing(PostgresAccountRepository(asynchronous)) as accounts:
        settings["synchronous_commit"] = "off"
        assert accounts.durability() == Durability("postgresql", durable=False, settings=settings)


def test_database_without_fsync_is_reported_as_not_durable(own_postgres: Postgres) -> None:
    own_postgres.stop()
    own_postgres.start("fsync=off")
    with closing(PostgresAccountRepository(own_postgres.url)) as accounts:
        durability = accounts.durability()
    assert (durability.durable, durability.settings["fsync"]) == (False, "off")


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (
            "UPDATE mini_atm SET schema_version = 2",
            "UPDATE mini_atm SET schema_version = 1",
            "its schema has version 2",
        ),
        ("DROP TABLE journal", None, 'relation "journal" does not exist'),
        (
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END$$;"
            "CREATE TRIGGER fail BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION fail()",
            "DROP TRIGGER fail ON journal",
            "No space left on device",
        ),
    ],
)
def test_server_is_not_ready_while_it_cannot_write(
    url: str, tmp_path: Path, break_it: LiteralString, mend_it: LiteralString | None, reason: str
) -> None:
    with running_server(url, tmp_path) as server, psycopg.connect(url, autocommit=True) as admin:
        assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 200
        assert admin.execute("SELECT count(*) FROM journal").fetchone() == (0,)
        admin.execute(break_it)
        assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 503
        until(lambda: reason in server.log.read_text())
        if mend_it is not None:
            admin.execute(mend_it)
            assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 200


def test_unknown_schema_version_is_refused(url: str) -> None:
    PostgresAccountRepository(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE mini_atm SET schema_version = 2")
    with pytest.raises(StoreUnavailable, match="its schema has version 2, but this release of Mini-ATM supports"):
        PostgresAccountRepository(url)


def test_tables_of_another_application_are_refused(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE TABLE account (name TEXT)")
    with pytest.raises(StoreUnavailable, match="tables named account or journal that belong to another application"):
        PostgresAccountRepository(url)


def test_rows_are_locked_in_order_of_account_number(url: str) -> None:
    # Account 1 is stored before account 0, so that locking in the order of storage would fail the test.
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, [Account("1", 0), Account("0", 0)])) as accounts,
        psycopg.connect(url) as first_holder,
        psycopg.connect(url) as second_holder,
    ):
        first_holder.execute("SELECT FROM account WHERE account_number = '0' FOR UPDATE")
        batch = thread.submit(accounts.execute_batch, [Transaction(number, "deposit", 1) for number in "10"])
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
        outcomes = accounts.execute_batch([Transaction(number, "deposit", 1) for number in "012340"])
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


def test_deposits_without_a_key_count_once_during_restarts(own_postgres: Postgres) -> None:
    stopped = threading.Event()

    def caller() -> tuple[int, int]:
        answered = unknown = 0
        while not stopped.is_set():
            try:
                deposit(accounts, "0", 1)
                answered += 1
            except OutcomeUnknown:
                unknown += 1
            except StoreUnavailable:
                continue
        return answered, unknown

    with closing(PostgresAccountRepository(own_postgres.url, OPENING)) as accounts, ThreadPoolExecutor(8) as threads:
        callers = [threads.submit(caller) for _ in range(8)]
        try:
            for _ in range(5):
                before = get_account(accounts, "0").balance
                while get_account(accounts, "0").balance < before + 100:
                    assert not any(one.done() for one in callers)
                own_postgres.stop()
                own_postgres.start()
        finally:
            stopped.set()
        answered, unknown = (sum(counts) for counts in zip(*[one.result(60) for one in callers], strict=True))
        deposited = get_account(accounts, "0").balance - 1000
        assert answered <= deposited <= answered + unknown


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_commit_on_a_lost_connection_counts_once(proxied_url: str, postgres_proxy: Proxy, moment: Moment) -> None:
    with closing(PostgresAccountRepository(proxied_url, OPENING)) as accounts:
        for attempt, key in enumerate(["a key", None, None], start=1):
            postgres_proxy.cut_at(b"COMMIT", moment)
            assert deposit(accounts, "0", 1, key).balance == 1000 + attempt
            assert postgres_proxy.has_cut()
        assert get_account(accounts, "0").balance == 1003


@pytest.mark.parametrize(("moment", "balance"), [("before", 1000), ("after", 1001)])
def test_lost_commit_during_an_outage_is_an_unknown_outcome(
    proxied_url: str, postgres_proxy: Proxy, moment: Moment, balance: int
) -> None:
    with closing(PostgresAccountRepository(proxied_url, OPENING, retry_timeout=0.5)) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="same idempotency key"):
            deposit(accounts, "0", 1, "key")
        with pytest.raises(StoreUnavailable):
            get_account(accounts, "0")
        postgres_proxy.come_back()
        assert once_available(lambda: get_account(accounts, "0")).balance == balance
        assert deposit(accounts, "0", 1, "key").balance == 1001


def test_entry_of_another_client_is_not_taken_for_the_lost_one(
    url: str, proxied_url: str, postgres_proxy: Proxy
) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(proxied_url, OPENING)) as accounts,
        closing(PostgresAccountRepository(url)) as other,
    ):
        postgres_proxy.cut_at(b"COMMIT", "before", and_stay_away=True)
        lost = thread.submit(deposit, accounts, "0", 1)
        until(postgres_proxy.has_cut)
        # The account is locked until the database has dropped the lost connection.
        assert once_available(lambda: deposit(other, "0", 10)).balance == 1010
        postgres_proxy.come_back()
        assert lost.result(30).balance == 1011


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_opening_on_a_lost_connection_counts_once(
    postgres: Postgres, proxied_url: str, postgres_proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(proxied_url)) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment)
        assert open_account(accounts, "2", 5) == Account("2", 5)
        assert postgres_proxy.has_cut()
        with pytest.raises(AccountAlreadyExists):
            open_account(accounts, "2", 5)
        terminate_connections(postgres)
        assert open_account(accounts, "3", 5) == Account("3", 5)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_lost_opening_during_an_outage_is_an_unknown_outcome(
    proxied_url: str, postgres_proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(proxied_url, retry_timeout=0.5)) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="Read its balance"):
            open_account(accounts, "2", 5)
        with pytest.raises(StoreUnavailable):
            open_account(accounts, "3", 5)  # was certainly not sent


def test_lost_commit_that_waits_for_a_standby_is_not_taken_for_failed(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    url = own_postgres.url
    with (
        ThreadPoolExecutor(1) as thread,
        cutting_proxy(own_postgres.port) as proxy,
        closing(PostgresAccountRepository(url.replace(str(own_postgres.port), str(proxy.port)), OPENING)) as accounts,
    ):
        toggle_missing_standby()
        proxy.cut_at(b"COMMIT", "during")
        answer = thread.submit(deposit, accounts, "0", 1)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        toggle_missing_standby()
        assert answer.result(30).balance == 1001
        assert get_account(accounts, "0").balance == 1001


def test_commit_whose_wait_was_cancelled_is_answered_after_replication(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    url = own_postgres.url
    seen: set[tuple[object, ...]] = set()

    def commits_that_waited() -> int:
        with psycopg.connect(url) as admin:
            seen.update(admin.execute("SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        return len(seen)

    with ThreadPoolExecutor(1) as thread, closing(PostgresAccountRepository(url, OPENING)) as accounts:
        toggle_missing_standby()
        answer = thread.submit(deposit, accounts, "0", 1)
        for commits in (1, 2):  # that of the deposit, then that of the look-up
            until(lambda commits=commits: answer.done() or commits_that_waited() == commits)  # type: ignore[misc]
            with psycopg.connect(url) as admin:
                admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        until(lambda: answer.done() or commits_that_waited() == 3)
        assert not answer.done()
        toggle_missing_standby()
        assert answer.result(30).balance == 1001
        assert get_account(accounts, "0").balance == 1001


def test_replay_waits_until_a_standby_has_the_first_entry(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    url = own_postgres.url
    with ThreadPoolExecutor(1) as thread, closing(PostgresAccountRepository(url, OPENING)) as accounts:
        deposit(accounts, "0", 1, "key")
        toggle_missing_standby()
        answer = thread.submit(deposit, accounts, "0", 1, "key")
        until(lambda: answer.done() or count_sessions(url, "wait_event = 'SyncRep'") == 1)
        assert not answer.done()
        toggle_missing_standby()
        assert answer.result(30).balance == 1001


def test_server_stops_in_time_despite_a_hanging_commit(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None], tmp_path: Path
) -> None:
    with running_server(own_postgres.url, tmp_path) as server, ThreadPoolExecutor(1) as thread:
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
