"""What the PostgreSQL repository promises beyond the contract: processes, and a database in trouble."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from support.clients import RetryingClient, progress
from support.postgres import Postgres, fresh_schema, postgres_folder
from support.proxy import Moment, Proxy, cutting_proxy
from support.server import running_server

from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_adapters.stores import open_store
from atm_core import Account, OutcomeUnknown, StoreUnavailable, Transaction, check_balance, deposit, open_account

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
    cut_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test_%'"
    with (
        closing(PostgresAccountRepository(url, OPENING)) as accounts,
        psycopg.connect(postgres.url, autocommit=True) as admin,
    ):
        for expected in range(1001, 1006):
            admin.execute(cut_all)
            assert deposit(accounts, "0", 1, f"key-{expected}").balance == expected
            admin.execute(cut_all)
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


def once_available(call: Callable[[], Account]) -> Account:
    """Call until the store is there again."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < give_up_at


def test_a_server_whose_database_is_killed_answers_503_and_serves_again_with_nothing_lost_or_doubled(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    with running_server(own_postgres.url, tmp_path, "--log-level", "error") as server:
        clients = [RetryingClient(server.address, name) for name in "abcdefgh"]
        for client in clients:
            client.start()
        progress(clients, 20)
        own_postgres.kill()
        refused = httpx.post(f"{server.address}/accounts/1/deposit", json={"amount": 1}, timeout=60)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        own_postgres.start()
        progress(clients, 20)
        for client in clients:
            client.stop()
        acknowledged = sum(client.acknowledged for client in clients)
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == 1000 + acknowledged
