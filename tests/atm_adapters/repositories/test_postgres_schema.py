"""The schema of PostgreSQL: stores of version 1 are upgraded as a whole or not at all."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import errors, sql
from support.postgres_failures import count_sessions
from support.proxy import Moment, Proxy
from support.waiting import until

from atm_adapters.repositories import postgres_schema
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import (
    Account,
    IdempotencyKeyReused,
    StoreNotInitialized,
    StoreUnavailable,
    deposit,
    get_account,
    read_history,
    withdraw,
)

VERSION_1: Final = (Path(__file__).parent / "postgres_version_1.sql").read_text()

# The statements of servers of version 1.
READ_1: Final = "SELECT account_number, balance, last_entry FROM account WHERE account_number = '0' FOR UPDATE"
REPLAY_1: Final = "SELECT account_number, key, kind, amount, balance FROM journal WHERE key = 'first'"
DEPOSIT_1: Final = """
WITH updated AS (UPDATE account SET balance = balance + 5, last_entry = last_entry + 1 WHERE account_number = '0')
INSERT INTO journal (batch, account_number, entry, kind, amount, key, balance)
VALUES (gen_random_uuid(), '0', 5, 'deposit', 5, 'late', 100649)
"""
OPEN_1: Final = """
INSERT INTO account (account_number, opening, balance, last_entry, batch) VALUES ('9', 5, 5, 0, gen_random_uuid())
"""


@pytest.fixture(autouse=True)
def version_1(url: str) -> None:
    """Make the schema that of version 1."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(VERSION_1)


def test_upgrade_keeps_every_balance_and_entry(url: str) -> None:
    with PostgresAccountRepository(url, [Account("new", 1)]) as accounts:
        assert accounts.list_accounts("", 10) == [
            Account("0", "1006.44"),
            Account("1", "-0.01"),
            Account("overdrawn", "-5.50"),
            Account("unused", 0),
        ]
        assert [account.last_entry for account in accounts.list_accounts("", 10)] == [5, 2, 3, 1]
        assert _history(accounts, "0") == [
            (1, "opening", "1000.00", None, "1000.00"),
            (2, "deposit", "0.10", "first", "1000.10"),
            (3, "withdrawal", "7.00", None, "993.10"),
            (4, "deposit", "12.34", 'it\'s "quoted" \\ %', "1005.44"),
            (5, "deposit", "1.00", "a", "1006.44"),
        ]
        assert _history(accounts, "overdrawn") == [
            (1, "opening", "-5.00", None, "-5.00"),
            (2, "withdrawal", "1.00", "a", "-6.00"),
            (3, "deposit", "0.50", None, "-5.50"),
        ]
        assert _history(accounts, "unused") == [(1, "opening", "0.00", None, "0.00")]
        assert all(account.is_consistent for account in accounts.audit())
        first, second = read_history(accounts, "0", after=0, limit=2).entries
        assert first.recorded_at is None, "version 1 did not record it"
        assert second.recorded_at == datetime(2026, 11, 24, 14, 45, 24, 251470, tzinfo=UTC)


def test_older_tables_are_refused_and_kept(url: str) -> None:
    before = _contents(url)
    with pytest.raises(StoreNotInitialized, match="its schema has version 1, older than 2") as refusal:
        PostgresAccountRepository(url)
    assert refusal.value.schema_version == 1
    assert _contents(url) == before


def test_keys_work_after_an_upgrade(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts:
        replays = [
            deposit(accounts, "0", "0.10", "first"),
            withdraw(accounts, "1", "1000.01", "first"),
            withdraw(accounts, "overdrawn", 1, "a"),
        ]
        assert [(account.balance, account.last_entry) for account in replays] == [
            (Account("0", "1000.10").balance, 2),
            (Account("1", "-0.01").balance, 2),
            (Account("overdrawn", -6).balance, 2),
        ]
        with pytest.raises(IdempotencyKeyReused):
            deposit(accounts, "0", "0.11", "first")
        after = deposit(accounts, "0", 1)
        assert (after, after.last_entry) == (Account("0", "1007.44"), 6)


def test_upgraded_schema_equals_a_new_one(url: str) -> None:
    PostgresAccountRepository(url, []).close()
    upgraded = _schema(url)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP TABLE account, entry, mini_atm")
    PostgresAccountRepository(url, []).close()
    assert _schema(url) == upgraded
    assert ("entry", "PRIMARY KEY (account_number, entry)") in upgraded


STATEMENTS = [
    "SET LOCAL statement_timeout",
    "FOR UPDATE",
    *(statement.strip() for statement in postgres_schema._MIGRATIONS[1].split(";")),
    "UPDATE mini_atm",
    "COMMIT",
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_interrupted_upgrade_leaves_version_1_whole(
    url: str, proxied_url: str, postgres_proxy: Proxy, statement: str, moment: Moment
) -> None:
    before = _contents(url)
    postgres_proxy.cut_at(statement.encode(), moment)
    with pytest.raises(StoreUnavailable):
        PostgresAccountRepository(proxied_url, [])
    assert postgres_proxy.has_cut()
    if (statement, moment) != ("COMMIT", "after"):
        assert _contents(url) == before
    with PostgresAccountRepository(url, []) as accounts:
        assert deposit(accounts, "0", "0.10", "first").last_entry == 2
        assert all(account.is_consistent for account in accounts.audit())


def test_eight_processes_may_upgrade_at_once(url: str) -> None:
    program = (
        "import sys; from atm_adapters.repositories.postgres import PostgresAccountRepository; from atm_core import *\n"
        "with PostgresAccountRepository(sys.argv[1], []) as accounts: deposit(accounts, '0', 1)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE, text=True)  # noqa: S603 - Python
        for _ in range(8)
    ]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 8
    with PostgresAccountRepository(url) as accounts:
        assert get_account(accounts, "0").balance == Account("0", "1014.44").balance
        assert all(account.is_consistent for account in accounts.audit())


@pytest.mark.parametrize(
    "options", ["", "%20-cdefault_transaction_isolation%3Dserializable", "%20-cstatement_timeout%3D200ms"]
)
def test_upgrade_waits_for_a_server_of_version_1(url: str, options: str) -> None:
    with psycopg.connect(url) as server, ThreadPoolExecutor(1) as thread:
        server.execute(READ_1)
        upgraded = thread.submit(PostgresAccountRepository, url + options, [])
        until(lambda: count_sessions(url, "wait_event_type = 'Lock' AND now() - query_start > '0.3 s'") == 1)
        server.execute(DEPOSIT_1)
        server.commit()
        with upgraded.result(30) as accounts:
            assert deposit(accounts, "0", "0.05", "late") == Account("0", "1006.49")
            assert all(account.is_consistent for account in accounts.audit())


@pytest.mark.parametrize("statement", [REPLAY_1, DEPOSIT_1, OPEN_1])
def test_server_of_version_1_cannot_use_an_upgraded_store(url: str, statement: str) -> None:
    PostgresAccountRepository(url, []).close()
    before = _contents(url)
    with psycopg.connect(url) as server:
        server.execute(READ_1)
        with pytest.raises((errors.UndefinedTable, errors.UndefinedColumn)):
            server.execute(statement)
    assert _contents(url) == before


def test_upgrade_gives_up_while_others_use_the_tables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '100ms'")
    before = _contents(url)
    with psycopg.connect(url) as other:
        other.execute("SELECT FROM journal")
        with pytest.raises(StoreUnavailable, match="cannot be upgraded while other sessions use them"):
            PostgresAccountRepository(url, [])
    assert _contents(url) == before


def test_table_of_another_application_prevents_the_upgrade(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE TABLE entry (name TEXT)")
    before = _contents(url)
    with pytest.raises(StoreUnavailable, match="account, entry, journal or mini_atm that belong to another"):
        PostgresAccountRepository(url, [])
    assert _contents(url) == before


def _history(accounts: PostgresAccountRepository, account_number: str) -> list[tuple[int, str, str, str | None, str]]:
    return [
        (
            entry.account.last_entry,
            entry.transaction.kind,
            str(entry.amount),
            entry.transaction.key,
            str(entry.account.balance),
        )
        for entry in read_history(accounts, account_number, after=0).entries
    ]


def _schema(url: str) -> list[tuple[Any, ...]]:
    """Return the columns, constraints and indexes."""
    with psycopg.connect(url) as admin:
        return [
            *admin.execute(
                "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
                " WHERE table_schema = current_schema ORDER BY table_name, ordinal_position"
            ),
            *admin.execute(
                "SELECT relname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint"
                " JOIN pg_class ON pg_class.oid = conrelid WHERE connamespace::regnamespace::text = current_schema"
                " ORDER BY relname, conname"
            ),
            *admin.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema ORDER BY indexname"),
        ]


def _contents(url: str) -> list[tuple[Any, ...]]:
    """Return the schema and all rows."""
    contents = _schema(url)
    with psycopg.connect(url) as admin:
        tables = admin.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            rows = sql.SQL("SELECT line::text FROM {} AS line ORDER BY 1").format(sql.Identifier(table))
            contents += admin.execute(rows).fetchall()
    return contents
