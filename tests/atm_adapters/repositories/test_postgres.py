"""What the PostgreSQL repository promises beyond the contract: processes, and a database in trouble."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from psycopg import sql
from support.postgres import Postgres, fresh_schema, postgres_folder
from support.proxy import Moment, Proxy, cutting_proxy
from support.server import running_server
from support.waiting import until

from atm_adapters.capabilities import Durability
from atm_adapters.repositories.postgres import PostgresAccountRepository, _is_in_doubt, _pause
from atm_adapters.stores import open_store
from atm_core import (
    Account,
    AccountAlreadyExists,
    OutcomeUnknown,
    StoreUnavailable,
    Transaction,
    check_balance,
    deposit,
    open_account,
)

OPENING = [Account("0", 1000), Account("1", 1000)]


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with fresh_schema(postgres) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may ill-treat."""
    with postgres_folder() as (programs, folder):
        server = Postgres(programs, folder)
        server.initialize()
        server.start()
        yield server
        server.stop()


def test_a_new_database_is_given_the_opening_accounts_and_an_existing_one_is_left_as_it_is(url: str) -> None:
    with closing(open_store(url)) as accounts:
        deposit(accounts, "0", 1, "key")
        open_account(accounts, "2", 7)
    with closing(open_store(url)) as accounts:
        assert [str(check_balance(accounts, number).balance) for number in "012"] == ["1001.00", "1000.00", "7.00"]
        assert deposit(accounts, "0", 1, "key").balance == 1001


def test_several_processes_may_open_a_new_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: PostgresAccountRepository(url, OPENING), range(6)))
    for accounts in stores:
        assert check_balance(accounts, "0").balance == 1000
        accounts.close()


def test_batches_of_several_clients_over_the_same_accounts_all_count(url: str) -> None:
    with (
        closing(PostgresAccountRepository(url, OPENING)) as one,
        closing(PostgresAccountRepository(url)) as other,
        ThreadPoolExecutor(4) as threads,
    ):
        up = [Transaction(number, "deposit", 1) for number in "01"] * 5
        batches = [(accounts, order) for accounts in (one, other) for order in (up, up[::-1])] * 10
        list(threads.map(lambda batch: batch[0].execute_batch(batch[1]), batches))
        assert [check_balance(one, number).balance for number in "01"] == [1200, 1200]


def test_what_the_database_could_not_serialize_is_tried_again(url: str) -> None:
    strict = f"{url}%20-cdefault_transaction_isolation%3Dserializable"
    with closing(PostgresAccountRepository(strict, OPENING)) as accounts, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: deposit(accounts, "0", "0.01"), range(400)))
        assert check_balance(accounts, "0").balance == 1004


def test_the_journal_holds_every_transaction_numbered_within_its_account(url: str) -> None:
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


def test_commits_are_synchronous_even_where_the_database_s_own_setting_is_off(url: str) -> None:
    lax = f"{url}%20-csynchronous_commit%3Doff"
    stricter = f"{url}%20-csynchronous_commit%3Dremote_apply"
    for given, expected in ((lax, "on"), (stricter, "remote_apply")):
        with closing(PostgresAccountRepository(given)) as accounts, accounts._pool.connection() as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == (expected,)


def test_durability_is_read_back_as_the_connections_have_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lax = f"{url}%20-csynchronous_commit%3Doff"
    with closing(PostgresAccountRepository(lax)) as accounts:
        settings = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "synchronous_standby_names": "",
        }
        assert accounts.durability() == Durability("postgresql", durable=True, settings=settings)
    monkeypatch.setattr("atm_adapters.repositories.postgres._configure", lambda _: None)
    with closing(PostgresAccountRepository(lax)) as accounts:
        settings["synchronous_commit"] = "off"
        assert accounts.durability() == Durability("postgresql", durable=False, settings=settings)


def test_a_database_that_does_not_sync_is_not_durable_and_says_so(own_postgres: Postgres) -> None:
    own_postgres.stop()
    own_postgres.start("fsync=off")
    with closing(PostgresAccountRepository(own_postgres.url)) as accounts:
        durability = accounts.durability()
    assert (durability.durable, durability.settings["fsync"]) == (False, "off")


def test_a_commit_that_waits_for_a_standby_is_not_cut_short_by_the_database_s_statement_timeout(url: str) -> None:
    # Cut short, it would report success for what only one machine has.
    hasty = f"{url}%20-cstatement_timeout%3D1s"
    with closing(PostgresAccountRepository(hasty)) as accounts, accounts._pool.connection() as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_tables_of_a_version_this_release_does_not_know_are_refused(url: str) -> None:
    PostgresAccountRepository(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE mini_atm SET schema_version = 2")
    with pytest.raises(StoreUnavailable, match="its tables are of version 2"):
        PostgresAccountRepository(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:secret@127.0.0.1:1/postgres",
        "postgresql://127.0.0.1:1/x?password=secret",
        "postgresql://127.0.0.1:1/x?no_such_option=1&password=secret",
        "postgresql://127.0.0.1:port/x?password=secret",
    ],
)
def test_a_database_that_can_not_be_reached_is_unavailable_with_the_reason_and_without_the_password(url: str) -> None:
    with pytest.raises(StoreUnavailable) as trouble:
        open_store(url)
    assert trouble.value.store == url.replace("secret", "***")
    assert trouble.value.reason
    assert "secret" not in str(trouble.value)


def test_connections_that_were_lost_are_replaced_without_a_restart(postgres: Postgres, url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        for expected in range(1001, 1006):
            postgres_connections_end(postgres)
            assert deposit(accounts, "0", 1, f"key-{expected}").balance == expected
            postgres_connections_end(postgres)
            assert check_balance(accounts, "0").balance == expected


def test_deposits_without_a_key_count_once_while_the_database_is_restarted_again_and_again(
    own_postgres: Postgres,
) -> None:
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
                before = check_balance(accounts, "0").balance
                while check_balance(accounts, "0").balance < before + 100:
                    assert not any(one.done() for one in callers)
                own_postgres.stop()
                own_postgres.start()
        finally:
            stopped.set()
        answered, unknown = (sum(figures) for figures in zip(*[one.result(60) for one in callers], strict=True))
        moved = check_balance(accounts, "0").balance - 1000
        assert answered <= moved <= answered + unknown


def test_what_the_database_never_can_serialize_is_unavailable_in_the_end(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING, patience=0.2)) as accounts:
        with psycopg.connect(url) as admin:
            admin.execute(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
                " AS $$BEGIN RAISE 'again' USING ERRCODE = '40001'; END$$"
            )
            admin.execute("CREATE TRIGGER fail BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION fail()")
        with pytest.raises(StoreUnavailable, match="again"):
            deposit(accounts, "0", 1)
        assert check_balance(accounts, "0").balance == 1000


def test_a_database_that_says_it_does_not_know_is_believed(url: str) -> None:
    for code, in_doubt in (("40003", True), ("40001", False), ("23514", False)):
        with psycopg.connect(url) as connection, pytest.raises(psycopg.Error) as error:
            connection.execute(sql.SQL("DO $$BEGIN RAISE 'said' USING ERRCODE = {}; END$$").format(code))
        assert error.value.sqlstate == code
        assert _is_in_doubt(error.value) == in_doubt


def test_pauses_between_attempts_differ_grow_and_are_bounded() -> None:
    first, later = ([_pause(attempt) for _ in range(100)] for attempt in (1, 10_000))
    assert len(set(first)) > 1
    assert max(first) < max(later) <= 0.5


def test_rows_are_locked_in_order_of_account_number(url: str) -> None:
    # The second is stored before the first, so that the order of storage would be the wrong one.
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(url, [Account("1", 0), Account("0", 0)])) as accounts,
        psycopg.connect(url) as first_holder,
        psycopg.connect(url) as second_holder,
    ):
        first_holder.execute("SELECT FROM account WHERE account_number = '0' FOR UPDATE")
        batch = thread.submit(accounts.execute_batch, [Transaction(number, "deposit", 1) for number in "10"])
        until(lambda: sessions(url, "wait_event_type = 'Lock'") == 1)
        second_holder.execute("SELECT FROM account WHERE account_number = '1' FOR UPDATE NOWAIT")
        second_holder.rollback()
        first_holder.rollback()
        assert batch.result(30) == [Account("1", 1), Account("0", 1)]


def test_an_account_that_somebody_keeps_locked_fails_its_own_callers_only(url: str) -> None:
    patient = f"{url}%20-clock_timeout%3D1s"
    with closing(PostgresAccountRepository(patient, OPENING)) as accounts, psycopg.connect(url) as holder:
        for number in "234":
            open_account(accounts, number)
        holder.execute("SELECT FROM account WHERE account_number > '0' FOR UPDATE")
        began = time.monotonic()
        outcomes = accounts.execute_batch([Transaction(number, "deposit", 1) for number in "012340"])
        assert time.monotonic() - began < 2.5, "a second for all of them, and for each no more than a moment"
        assert [outcome for outcome in outcomes if isinstance(outcome, Account)] == [
            Account("0", 1001),
            Account("0", 1002),
        ]
        assert [type(outcome) for outcome in outcomes[1:5]] == [StoreUnavailable] * 4
        with pytest.raises(StoreUnavailable, match="somebody else keeps the account locked"):
            deposit(accounts, "1", 1)
        holder.rollback()
        assert deposit(accounts, "1", 1).balance == 1001


def test_a_lock_is_not_waited_for_without_end_and_stricter_settings_stay(url: str) -> None:
    for given, expected in ((url, "5s"), (f"{url}%20-clock_timeout%3D1s", "1s")):
        with closing(PostgresAccountRepository(given)) as accounts, accounts._pool.connection() as connection:
            assert connection.execute("SHOW lock_timeout").fetchone() == (expected,)


def test_a_dead_server_is_noticed_and_a_standby_left_alone_unless_the_url_says_otherwise(url: str) -> None:
    for given, expected in (
        (url, ("5", "read-write")),
        (f"{url}&connect_timeout=7&target_session_attrs=any", ("7", "any")),
    ):
        with closing(PostgresAccountRepository(given)) as accounts, accounts._pool.connection() as connection:
            options = connection.info.get_parameters()
            assert (options["connect_timeout"], options.get("target_session_attrs", "any")) == expected
            assert options["tcp_user_timeout"] == "10000"


def test_a_connection_to_what_is_no_longer_the_primary_is_given_up(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        accounts._pool.wait()  # so that it has one connection, and the deposit takes that
        with accounts._pool.connection() as connection:
            connection.execute("SET default_transaction_read_only = on")  # what a session on a standby sees
            session = connection.info.backend_pid
        assert deposit(accounts, "0", 1).balance == 1001
        with psycopg.connect(url, autocommit=True) as admin:
            until(lambda: not admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (session,)).fetchall())


def test_tables_of_somebody_else_and_a_lack_of_rights_are_told(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE TABLE account (name TEXT)")
        with pytest.raises(StoreUnavailable, match="it has tables account or journal that are not Mini-ATM's"):
            PostgresAccountRepository(url)
        admin.execute("DROP TABLE account")
        admin.execute("CREATE ROLE nobody_much LOGIN")
        try:
            with pytest.raises(StoreUnavailable, match="permission denied for schema public"):
                PostgresAccountRepository(url.partition("?")[0].replace("postgres@", "nobody_much@"))
        finally:
            admin.execute("DROP ROLE nobody_much")


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with cutting_proxy(postgres.port) as proxy:
        yield proxy


def through(proxy: Proxy, url: str, postgres: Postgres) -> str:
    return url.replace(f":{postgres.port}/", f":{proxy.port}/")


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_connection_cut_at_its_commit_is_looked_up_and_the_money_moves_once(
    postgres: Postgres, url: str, proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(through(proxy, url, postgres), OPENING)) as accounts:
        for attempt, key in enumerate(["a key", None, None], start=1):
            proxy.cut_at(b"COMMIT", moment)
            assert deposit(accounts, "0", 1, key).balance == 1000 + attempt
            assert proxy.has_cut()
        assert check_balance(accounts, "0").balance == 1003


@pytest.mark.parametrize(("moment", "balance"), [("before", 1000), ("after", 1001)])
def test_what_can_not_be_learnt_is_an_unknown_outcome_and_the_same_key_settles_it(
    postgres: Postgres, url: str, proxy: Proxy, moment: Moment, balance: int
) -> None:
    with closing(PostgresAccountRepository(through(proxy, url, postgres), OPENING, patience=0.5)) as accounts:
        proxy.cut_at(b"COMMIT", moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="same idempotency key"):
            deposit(accounts, "0", 1, "key")
        with pytest.raises(StoreUnavailable):
            check_balance(accounts, "0")
        proxy.come_back()
        assert once_available(lambda: check_balance(accounts, "0")).balance == balance
        assert deposit(accounts, "0", 1, "key").balance == 1001


def test_an_entry_of_somebody_else_is_not_taken_for_the_lost_one(postgres: Postgres, url: str, proxy: Proxy) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(through(proxy, url, postgres), OPENING)) as accounts,
        closing(PostgresAccountRepository(url)) as other,
    ):
        proxy.cut_at(b"COMMIT", "before", and_stay_away=True)
        lost = thread.submit(deposit, accounts, "0", 1)
        until(proxy.has_cut)
        assert (
            once_available(lambda: deposit(other, "0", 10)).balance == 1010
        )  # once the database has dropped the lost one
        proxy.come_back()
        assert lost.result(30).balance == 1011


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_connection_cut_while_an_account_is_opened_opens_it_once(
    postgres: Postgres, url: str, proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(through(proxy, url, postgres))) as accounts:
        proxy.cut_at(b"COMMIT", moment)
        assert open_account(accounts, "2", 5) == Account("2", 5)
        assert proxy.has_cut()
        with pytest.raises(AccountAlreadyExists):
            open_account(accounts, "2", 5)
        postgres_connections_end(postgres)
        assert open_account(accounts, "3", 5) == Account("3", 5)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_opening_that_can_not_be_learnt_of_is_an_unknown_outcome_and_the_balance_settles_it(
    postgres: Postgres, url: str, proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(through(proxy, url, postgres), patience=0.5)) as accounts:
        proxy.cut_at(b"COMMIT", moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="Read its balance"):
            open_account(accounts, "2", 5)
        with pytest.raises(StoreUnavailable):
            open_account(accounts, "3", 5)  # of which it is known that nothing was sent


def test_while_the_database_is_away_later_callers_do_not_wait_a_whole_patience_each(
    postgres: Postgres, url: str, proxy: Proxy
) -> None:
    with closing(PostgresAccountRepository(through(proxy, url, postgres), OPENING, patience=1.0)) as accounts:
        proxy.cut_at(b"SELECT balance", "before", and_stay_away=True)
        began = time.monotonic()
        refused = 0
        while time.monotonic() - began < 4.0:
            with pytest.raises(StoreUnavailable):
                check_balance(accounts, "0")
            refused += 1
        assert refused > 20
        proxy.come_back()
        back = time.monotonic()
        assert once_available(lambda: check_balance(accounts, "0")).balance == 1000
        assert time.monotonic() - back < 2.5, "although it was away so long that a pool's own pauses are longer"


@pytest.fixture
def standby_missing(own_postgres: Postgres) -> Iterator[Callable[[], None]]:
    """Commits on the server that tests may ill-treat wait for a standby, from the call until the next one."""
    with psycopg.connect(own_postgres.url, autocommit=True) as admin:

        def switch() -> None:
            (names,) = admin.execute("SHOW synchronous_standby_names").fetchone() or ("",)
            other = "" if names else "missing"
            admin.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(other))
            admin.execute("SELECT pg_reload_conf()")
            until(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == (other,))

        yield switch


def test_a_lost_commit_that_still_waits_for_a_standby_is_not_taken_for_failed(
    own_postgres: Postgres, standby_missing: Callable[[], None]
) -> None:
    url = own_postgres.url
    with (
        ThreadPoolExecutor(1) as thread,
        cutting_proxy(own_postgres.port) as proxy,
        closing(PostgresAccountRepository(through(proxy, url, own_postgres), OPENING)) as accounts,
    ):
        standby_missing()
        proxy.cut_at(b"COMMIT", "during")
        answer = thread.submit(deposit, accounts, "0", 1)
        until(lambda: sessions(url, "wait_event_type = 'Lock'") == 1)
        standby_missing()
        assert answer.result(30).balance == 1001
        assert check_balance(accounts, "0").balance == 1001


def test_a_commit_whose_wait_for_a_standby_was_cut_short_is_not_answered_before_the_standby_has_it(
    own_postgres: Postgres, standby_missing: Callable[[], None]
) -> None:
    url = own_postgres.url
    seen: set[tuple[object, ...]] = set()

    def commits_that_waited() -> int:
        with psycopg.connect(url) as admin:
            seen.update(admin.execute("SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        return len(seen)

    with ThreadPoolExecutor(1) as thread, closing(PostgresAccountRepository(url, OPENING)) as accounts:
        standby_missing()
        answer = thread.submit(deposit, accounts, "0", 1)
        for commits in (1, 2):  # the deposit's own, then that of the lookup
            until(lambda commits=commits: answer.done() or commits_that_waited() == commits)  # type: ignore[misc]
            with psycopg.connect(url) as admin:
                admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        until(lambda: answer.done() or commits_that_waited() == 3)
        assert not answer.done()
        standby_missing()
        assert answer.result(30).balance == 1001
        assert check_balance(accounts, "0").balance == 1001


def test_a_repeated_answer_is_given_once_a_standby_has_the_first(
    own_postgres: Postgres, standby_missing: Callable[[], None]
) -> None:
    url = own_postgres.url
    with ThreadPoolExecutor(1) as thread, closing(PostgresAccountRepository(url, OPENING)) as accounts:
        deposit(accounts, "0", 1, "key")
        standby_missing()
        answer = thread.submit(deposit, accounts, "0", 1, "key")
        until(lambda: answer.done() or sessions(url, "wait_event = 'SyncRep'") == 1)
        assert not answer.done()
        standby_missing()
        assert answer.result(30).balance == 1001


def test_closing_cuts_off_a_commit_that_hangs_and_its_outcome_is_unknown(
    own_postgres: Postgres, standby_missing: Callable[[], None]
) -> None:
    accounts = PostgresAccountRepository(own_postgres.url, OPENING)
    with ThreadPoolExecutor(1) as thread:
        standby_missing()
        answer = thread.submit(deposit, accounts, "0", 1)
        until(lambda: sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        accounts.close()
        try:
            with pytest.raises(OutcomeUnknown):
                answer.result(30)
        finally:
            standby_missing()


def test_a_server_ends_in_time_although_a_commit_hangs_and_says_that_its_outcome_is_unknown(
    own_postgres: Postgres, standby_missing: Callable[[], None], tmp_path: Path
) -> None:
    with running_server(own_postgres.url, tmp_path) as server, ThreadPoolExecutor(1) as thread:
        standby_missing()
        answer = thread.submit(httpx.post, f"{server.address}/accounts/0/deposit", json={"amount": 1}, timeout=60)
        until(lambda: sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
        assert answer.result(30).status_code == 503
        assert answer.result().json()["type"] == "urn:mini-atm:error:outcome-unknown"
        assert "Traceback" not in server.log.read_text()
        standby_missing()


def sessions(url: str, condition: LiteralString) -> int:
    """Count the sessions on a server of which something is true."""
    with psycopg.connect(url, autocommit=True) as admin:
        return len(admin.execute(f"SELECT FROM pg_stat_activity WHERE {condition}").fetchall())


def postgres_connections_end(postgres: Postgres) -> None:
    """Have the server drop the connections of all tests."""
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test_%'")


def once_available(call: Callable[[], Account]) -> Account:
    """Call until the store is there again."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < give_up_at
