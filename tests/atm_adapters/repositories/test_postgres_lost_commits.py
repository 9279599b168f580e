"""PostgresAccountRepository: no outcome is guessed when a commit is lost, or while a standby is missing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from support.postgres import Postgres
from support.postgres_failures import count_sessions, once_available, terminate_connections
from support.proxy import Moment, Proxy, cutting_proxy
from support.waiting import until

from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import (
    Account,
    AccountAlreadyExists,
    AccountClosed,
    Closing,
    Deposit,
    LimitChange,
    Opening,
    OutcomeUnknown,
    Reopening,
    StoreUnavailable,
    Withdrawal,
    deposit,
    get_account,
    open_account,
)

OPENING = [Account("0", 1000), Account("1", 1000)]


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


@pytest.mark.parametrize("key", [None, "a key"])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_opening_on_a_lost_connection_counts_once(
    postgres: Postgres, proxied_url: str, postgres_proxy: Proxy, moment: Moment, key: str | None
) -> None:
    with closing(PostgresAccountRepository(proxied_url, [])) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment)
        opened = open_account(accounts, "2", 5, key=key)
        assert (opened, opened.last_entry) == (Account("2", 5), 1)
        assert postgres_proxy.has_cut()
        with pytest.raises(AccountAlreadyExists):
            open_account(accounts, "2", 5)
        terminate_connections(postgres)
        assert open_account(accounts, "3", 5) == Account("3", 5)
        assert [account.entries for account in accounts.audit() if account.is_consistent] == [1, 1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_batch_of_all_kinds_on_a_lost_connection_counts_once(
    proxied_url: str, postgres_proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(proxied_url, OPENING)) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment)
        batch = [
            Opening("2", 5),
            Withdrawal("2", 5),
            LimitChange("2", 0, 10),
            Closing("2"),
            Deposit("2", 1),
            Reopening("2"),
            Deposit("0", 1),
            Opening("3", 0),
        ]
        outcomes = accounts.execute_batch(batch)
        assert postgres_proxy.has_cut()
        assert [outcome.last_entry if isinstance(outcome, Account) else type(outcome) for outcome in outcomes] == [
            *[1, 2, 3, 4, AccountClosed, 5, 2, 1]
        ]
        assert [account.entries for account in accounts.audit() if account.is_consistent] == [2, 1, 5, 1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_lost_opening_during_an_outage_is_an_unknown_outcome(
    proxied_url: str, postgres_proxy: Proxy, moment: Moment
) -> None:
    with closing(PostgresAccountRepository(proxied_url, [], retry_timeout=0.5)) as accounts:
        postgres_proxy.cut_at(b"COMMIT", moment, and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="same idempotency key"):
            open_account(accounts, "2", 5)
        with pytest.raises(StoreUnavailable):
            open_account(accounts, "3", 5)  # was certainly not sent
        postgres_proxy.come_back()
        opened = ["2"] if moment == "after" else []
        assert once_available(lambda: [one.account_number for one in accounts.list_accounts("", 10)]) == opened


def test_opening_by_another_client_is_not_taken_for_the_lost_one(
    url: str, proxied_url: str, postgres_proxy: Proxy
) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(proxied_url, [])) as accounts,
        closing(PostgresAccountRepository(url)) as other,
    ):
        postgres_proxy.cut_at(b"COMMIT", "before", and_stay_away=True)
        lost = thread.submit(open_account, accounts, "2", 5)
        until(postgres_proxy.has_cut)
        assert once_available(lambda: open_account(other, "2", 5)) == Account("2", 5)
        postgres_proxy.come_back()
        assert isinstance(lost.exception(30), AccountAlreadyExists)


CALLS = pytest.mark.parametrize(
    ("call", "balance"),
    [(lambda accounts: deposit(accounts, "0", 1), 1001), (lambda accounts: open_account(accounts, "2", 5), 5)],
    ids=["deposit", "opening"],
)


@CALLS
def test_lost_commit_that_waits_for_a_standby_is_not_taken_for_failed(
    own_postgres: Postgres,
    toggle_missing_standby: Callable[[], None],
    call: Callable[[PostgresAccountRepository], Account],
    balance: int,
) -> None:
    url = own_postgres.url
    with (
        ThreadPoolExecutor(1) as thread,
        cutting_proxy(own_postgres.port) as proxy,
        closing(PostgresAccountRepository(url.replace(str(own_postgres.port), str(proxy.port)), OPENING)) as accounts,
    ):
        toggle_missing_standby()
        proxy.cut_at(b"COMMIT", "during")
        answer = thread.submit(call, accounts)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 1)
        toggle_missing_standby()
        assert answer.result(30).balance == balance
        assert all(account.is_consistent for account in accounts.audit())


@CALLS
def test_lost_commit_behind_a_slow_write_is_not_taken_for_failed(
    url: str,
    proxied_url: str,
    postgres_proxy: Proxy,
    call: Callable[[PostgresAccountRepository], Account],
    balance: int,
) -> None:
    """The look-up comes before the database has written anything of the batch."""
    with (
        ThreadPoolExecutor(1) as thread,
        closing(PostgresAccountRepository(proxied_url, OPENING)) as accounts,
        psycopg.connect(url) as holder,
    ):
        holder.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN PERFORM pg_advisory_xact_lock(14); RETURN NEW; END$$"
        )
        holder.execute("CREATE TRIGGER wait BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION wait()")
        holder.commit()
        holder.execute("SELECT pg_advisory_xact_lock(14)")
        postgres_proxy.cut_at(b"COMMIT", "during")
        answer = thread.submit(call, accounts)
        until(lambda: count_sessions(url, "wait_event_type = 'Lock'") == 2)
        holder.rollback()
        assert answer.result(30).balance == balance
        assert all(account.is_consistent for account in accounts.audit())


@CALLS
def test_commit_whose_wait_was_cancelled_is_answered_after_replication(
    own_postgres: Postgres,
    toggle_missing_standby: Callable[[], None],
    call: Callable[[PostgresAccountRepository], Account],
    balance: int,
) -> None:
    url = own_postgres.url
    seen: set[tuple[object, ...]] = set()

    def commits_that_waited() -> int:
        with psycopg.connect(url) as admin:
            seen.update(admin.execute("SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        return len(seen)

    with ThreadPoolExecutor(1) as thread, closing(PostgresAccountRepository(url, OPENING)) as accounts:
        toggle_missing_standby()
        answer = thread.submit(call, accounts)
        for commits in (1, 2):  # that of the deposit, then that of the look-up
            until(lambda commits=commits: answer.done() or commits_that_waited() == commits)  # type: ignore[misc]
            with psycopg.connect(url) as admin:
                admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        until(lambda: answer.done() or commits_that_waited() == 3)
        assert not answer.done()
        toggle_missing_standby()
        assert answer.result(30).balance == balance
        assert all(account.is_consistent for account in accounts.audit())


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
