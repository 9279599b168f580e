"""PostgresSession: connections, retries, outages and error translation, tested through the repository."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from psycopg import sql
from support.postgres import Postgres
from support.postgres_failures import count_sessions, once_available, terminate_connections
from support.proxy import Proxy
from support.waiting import until
from tenacity import RetryCallState

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories import postgres_journal
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_adapters.repositories.postgres_session import _PAUSE, is_in_doubt
from atm_core import Account, AccountRepository, OutcomeUnknown, StoreUnavailable, deposit, get_account, open_account

OPENING = [Account("0", 1000), Account("1", 1000)]


@pytest.mark.parametrize(
    ("options", "expected"), [("", ("5", "read-write")), ("&connect_timeout=7&target_session_attrs=any", ("7", "any"))]
)
def test_options_of_the_url_override_the_defaults(url: str, options: str, expected: tuple[str, str]) -> None:
    with (
        closing(PostgresAccountRepository(url + options, [])) as accounts,
        accounts._session._pool.connection() as connection,
    ):
        used = connection.info.get_parameters()
    assert (used["connect_timeout"], used.get("target_session_attrs", "any")) == expected
    assert used["tcp_user_timeout"] == "10000"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:secret@127.0.0.1:1/postgres",
        "postgresql://127.0.0.1:1/x?password=secret",
        "postgresql://127.0.0.1:1/x?no_such_option=1&password=secret",
        "postgresql://127.0.0.1:port/x?password=secret",
    ],
)
def test_unreachable_database_is_unavailable_without_password(url: str) -> None:
    with pytest.raises(StoreUnavailable) as failure:
        open_store(url)
    assert failure.value.store == url.replace("secret", "***")
    assert failure.value.reason
    assert "secret" not in str(failure.value)


def test_serialization_failures_are_retried(url: str) -> None:
    serializable = f"{url}%20-cdefault_transaction_isolation%3Dserializable"
    with closing(PostgresAccountRepository(serializable, OPENING)) as accounts, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: deposit(accounts, "0", "0.01"), range(400)))
        assert get_account(accounts, "0").balance == 1004


def test_retries_of_serialization_failures_end(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING, retry_timeout=0.2)) as accounts:
        with psycopg.connect(url) as admin:
            admin.execute(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
                " AS $$BEGIN RAISE 'again' USING ERRCODE = '40001'; END$$"
            )
            admin.execute("CREATE TRIGGER fail BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION fail()")
        with pytest.raises(StoreUnavailable, match="again"):
            deposit(accounts, "0", 1)
        assert get_account(accounts, "0").balance == 1000


@pytest.mark.parametrize(("code", "in_doubt"), [("40003", True), ("40001", False), ("23514", False)])
def test_error_code_decides_whether_a_commit_is_in_doubt(url: str, code: str, in_doubt: bool) -> None:
    with psycopg.connect(url) as connection, pytest.raises(psycopg.Error) as error:
        connection.execute(sql.SQL("DO $$BEGIN RAISE 'x' USING ERRCODE = {}; END$$").format(code))
    assert error.value.sqlstate == code
    assert is_in_doubt(error.value) == in_doubt


def test_pauses_are_random_growing_and_bounded() -> None:
    def pauses(attempt: int) -> list[float]:
        return [_PAUSE(cast(RetryCallState, SimpleNamespace(attempt_number=attempt))) for _ in range(100)]

    assert len(set(pauses(1))) > 1
    assert max(pauses(1)) < max(pauses(10_000)) <= 0.5


def test_lost_connections_are_replaced(postgres: Postgres, url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        for expected in range(1001, 1006):
            terminate_connections(postgres)
            assert deposit(accounts, "0", 1, f"key-{expected}").balance == expected
            terminate_connections(postgres)
            assert get_account(accounts, "0").balance == expected


def test_connection_to_a_former_primary_is_closed(url: str) -> None:
    with closing(PostgresAccountRepository(url, OPENING)) as accounts:
        accounts._session._pool.wait()  # until the pool has its one connection, which the deposit then uses
        with accounts._session._pool.connection() as connection:
            connection.execute("SET default_transaction_read_only = on")  # as on a standby
            session = connection.info.backend_pid
        assert deposit(accounts, "0", 1).balance == 1001
        with psycopg.connect(url, autocommit=True) as admin:
            until(lambda: not admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (session,)).fetchall())


def test_callers_during_an_outage_share_one_deadline(proxied_url: str, postgres_proxy: Proxy) -> None:
    with closing(PostgresAccountRepository(proxied_url, OPENING, retry_timeout=1.0)) as accounts:
        postgres_proxy.cut_at(b"SELECT account_number", "before", and_stay_away=True)
        began = time.monotonic()
        refused = 0
        while time.monotonic() - began < 4.0:
            with pytest.raises(StoreUnavailable):
                get_account(accounts, "0")
            refused += 1
        assert refused > 20
        postgres_proxy.come_back()
        came_back = time.monotonic()
        assert once_available(lambda: get_account(accounts, "0")).balance == 1000
        assert time.monotonic() - came_back < 2.5, "a pool that gave up pauses for longer"


def test_close_aborts_a_hanging_commit_as_an_unknown_outcome(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    accounts = PostgresAccountRepository(own_postgres.url, OPENING)
    with ThreadPoolExecutor(1) as thread:
        toggle_missing_standby()
        answer = thread.submit(deposit, accounts, "0", 1)
        until(lambda: count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        accounts.close()
        try:
            with pytest.raises(OutcomeUnknown):
                answer.result(30)
        finally:
            toggle_missing_standby()


_PATIENCE = 8.0
"""Seconds in which a call with a short retry timeout must end: twice two seconds, and the delays of a busy machine."""


@pytest.mark.parametrize(
    "call", [lambda accounts: get_account(accounts, "0"), lambda accounts: deposit(accounts, "0", 1)]
)
def test_call_to_a_frozen_database_ends(
    own_postgres: Postgres, call: Callable[[AccountRepository[Account]], Account]
) -> None:
    with closing(PostgresAccountRepository(own_postgres.url, OPENING, retry_timeout=0.5)) as accounts:
        deposit(accounts, "0", 1)
        with ThreadPoolExecutor(1) as thread, own_postgres.frozen():
            error = thread.submit(call, accounts).exception(_PATIENCE)
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "the database did not answer in time"
        assert once_available(lambda: get_account(accounts, "0")).balance == 1001
        assert deposit(accounts, "0", 1).balance == 1002


@pytest.mark.parametrize("is_frozen", [False, True])
def test_commit_without_an_answer_ends_as_an_unknown_outcome(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None], is_frozen: bool
) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(own_postgres.url, OPENING, retry_timeout=0.5)) as accounts,
    ):
        toggle_missing_standby()
        answer = thread.submit(deposit, accounts, "0", 1, "key")
        until(lambda: count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        with own_postgres.frozen() if is_frozen else nullcontext(), pytest.raises(OutcomeUnknown):
            answer.result(_PATIENCE)
        toggle_missing_standby()
        assert once_available(lambda: deposit(accounts, "0", 1, "key")).balance == 1001


def test_opening_without_an_answer_ends_as_an_unknown_outcome(
    own_postgres: Postgres, toggle_missing_standby: Callable[[], None]
) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(own_postgres.url, [], retry_timeout=0.5)) as accounts,
    ):
        toggle_missing_standby()
        answer = thread.submit(open_account, accounts, "2")
        until(lambda: count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 1)
        with pytest.raises(OutcomeUnknown, match="same idempotency key"):
            answer.result(_PATIENCE)
        toggle_missing_standby()
        until(lambda: count_sessions(own_postgres.url, "wait_event = 'SyncRep'") == 0)
        assert once_available(lambda: get_account(accounts, "2")) == Account("2", 0)


def test_store_with_a_locked_schema_is_not_opened(url: str) -> None:
    PostgresAccountRepository(url, []).close()
    with psycopg.connect(url) as holder, ThreadPoolExecutor(1) as thread:
        holder.execute("LOCK TABLE mini_atm")
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            thread.submit(PostgresAccountRepository, url, retry_timeout=0.5).result(_PATIENCE)
        holder.rollback()


def test_audit_of_a_frozen_database_ends(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_journal, "MAX_SILENCE", 0.5)
    many = [Account(str(number), 0) for number in range(5_000)]  # more than one fetch returns
    with closing(PostgresAccountRepository(own_postgres.url, many)) as accounts:
        audited = accounts.audit()
        next(audited)
        with ThreadPoolExecutor(1) as thread, own_postgres.frozen():
            error = thread.submit(list, audited).exception(_PATIENCE)
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "the database did not answer in time"
        assert once_available(lambda: get_account(accounts, "0")).balance == 0
        assert len(list(accounts.audit())) == accounts.count_accounts() == len(many)


@pytest.mark.parametrize(
    "call",
    [lambda accounts: accounts.count_accounts(), lambda accounts: next(accounts.audit())],
    ids=["count", "audit"],
)
def test_audit_without_an_answer_ends(
    url: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[PostgresAccountRepository], object]
) -> None:
    monkeypatch.setattr(postgres_journal, "MAX_SILENCE", 0.5)
    with closing(PostgresAccountRepository(url, OPENING)) as accounts, psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE account")
        with ThreadPoolExecutor(1) as thread:
            try:
                error = thread.submit(call, accounts).exception(_PATIENCE)
            finally:
                holder.rollback()
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "the database did not answer in time"


def test_callers_of_a_frozen_database_share_one_deadline(own_postgres: Postgres) -> None:
    with closing(PostgresAccountRepository(own_postgres.url, OPENING, retry_timeout=2.0)) as accounts:
        deposit(accounts, "0", 1)
        with ThreadPoolExecutor(1) as thread, own_postgres.frozen():
            first = thread.submit(get_account, accounts, "0")
            assert isinstance(first.exception(_PATIENCE), StoreUnavailable)
            began = time.monotonic()
            second = thread.submit(get_account, accounts, "0")
            assert isinstance(second.exception(_PATIENCE), StoreUnavailable)
            assert time.monotonic() - began < 3.0, "without the retry timeout of two seconds"
        assert once_available(lambda: get_account(accounts, "0")).balance == 1001
