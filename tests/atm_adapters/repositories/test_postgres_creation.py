"""A store in PostgreSQL is created on purpose, with one role, and used with another that may only read and write it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import psycopg
import pytest
from psycopg import errors, sql
from support.atm_process import AtmProcess
from support.postgres import Postgres, fresh_schema
from support.server import running_server

from atm_adapters.bootstrap import init_store, open_store
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import Account, StoreNotInitialized, StoreUnavailable, deposit, open_account, read_history

VERSION_1: Final = (Path(__file__).parent / "postgres_version_1.sql").read_text()


def test_missing_tables_are_refused_and_not_created(url: str) -> None:
    with pytest.raises(StoreNotInitialized, match="it has no tables") as refusal:
        PostgresAccountRepository(url)
    assert refusal.value.schema_version == 0
    assert _tables(url) == []
    PostgresAccountRepository(url, []).close()
    with PostgresAccountRepository(url) as accounts:
        assert accounts.count_accounts() == 0


@pytest.mark.parametrize("initial_accounts", [None, []])
def test_newer_tables_are_refused(url: str, initial_accounts: list[Account] | None) -> None:
    PostgresAccountRepository(url, []).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE mini_atm SET schema_version = 3")
    with pytest.raises(StoreUnavailable, match="its schema has version 3, but this release of Mini-ATM supports") as at:
        PostgresAccountRepository(url, initial_accounts)
    assert not isinstance(at.value, StoreNotInitialized)


@pytest.mark.parametrize("table", ["account", "entry", "journal", "mini_atm"])
def test_tables_of_another_application_are_refused(url: str, table: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE TABLE {} (name TEXT)").format(sql.Identifier(table)))
    with pytest.raises(StoreUnavailable):
        PostgresAccountRepository(url)
    with pytest.raises(StoreUnavailable, match="account, entry, journal or mini_atm that belong to another"):
        PostgresAccountRepository(url, [])
    assert _tables(url) == [table]


def test_each_schema_of_a_database_can_hold_a_store(url: str, postgres: Postgres) -> None:
    with fresh_schema(postgres) as other:
        PostgresAccountRepository(url, [Account("0", 1)]).close()
        with pytest.raises(StoreNotInitialized):
            PostgresAccountRepository(other)
        PostgresAccountRepository(other, [Account("0", 2)]).close()
        with PostgresAccountRepository(url) as first, PostgresAccountRepository(other) as second:
            assert [store.get("0").balance for store in (first, second)] == [1, 2]


def test_several_processes_may_run_init_at_once(url: str) -> None:
    processes = [AtmProcess("init", "--store", url, stderr=subprocess.PIPE) for _ in range(6)]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 6
    assert [process.returncode for process in processes] == [0] * 6
    with PostgresAccountRepository(url) as accounts:
        open_account(accounts, "0", 1)
        assert [account.is_consistent for account in accounts.audit()] == [True]


def test_database_without_utf_8_is_refused(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            with pytest.raises(StoreUnavailable, match="its encoding is LATIN1; create the database with ENCODING"):
                open_store(postgres.url.removesuffix("/postgres") + "/latin", create=True)
        finally:
            admin.execute("DROP DATABASE latin")


# The statements of docs/operating.md, there for the schema public.
SET_UP: Final = (
    "CREATE ROLE atm_owner LOGIN",
    "CREATE ROLE atm_server LOGIN",
    "GRANT USAGE, CREATE ON SCHEMA {schema} TO atm_owner",
    "GRANT USAGE ON SCHEMA {schema} TO atm_server",
)
GRANT_TABLES: Final = (
    "GRANT SELECT ON mini_atm TO atm_server",
    "GRANT SELECT, INSERT, UPDATE ON account TO atm_server",
    "GRANT SELECT, INSERT ON entry TO atm_server",
)


class Roles(NamedTuple):
    """The URLs of one schema: for a superuser, the owner of the tables, and the servers."""

    admin: str
    owner: str
    server: str

    def grant_tables(self) -> None:
        """Let the servers use the tables."""
        with psycopg.connect(self.owner) as owner:
            for statement in GRANT_TABLES:
                owner.execute(statement.encode())


@pytest.fixture
def roles(postgres: Postgres) -> Iterator[Roles]:
    """The roles, and an empty schema."""
    with fresh_schema(postgres) as url, psycopg.connect(postgres.url, autocommit=True) as admin:
        schema = sql.Identifier(url.rpartition("search_path%3D")[2])
        for statement in SET_UP:
            admin.execute(sql.SQL(statement).format(schema=schema))
        try:
            yield Roles(url, *(url.replace("postgres@", f"{role}@") for role in ("atm_owner", "atm_server")))
        finally:
            admin.execute("DROP OWNED BY atm_owner, atm_server; DROP ROLE atm_owner, atm_server")


def test_server_needs_no_right_to_create_tables(roles: Roles, tmp_path: Path) -> None:
    assert init_store(roles.owner) == 0
    roles.grant_tables()
    assert init_store(roles.server) is None, "there is nothing to do"
    with PostgresAccountRepository(roles.server) as accounts:
        open_account(accounts, "0", 1)
        entries = list(accounts.export_entries())
        with psycopg.connect(roles.owner) as owner:
            owner.execute("DELETE FROM entry; DELETE FROM account")
        accounts.import_entries(entries)
        assert deposit(accounts, "0", 1, "key") == deposit(accounts, "0", 1, "key") == Account("0", 2)
        assert len(read_history(accounts, "0").entries) == accounts.count_entries() == 2
        assert accounts.list_accounts("", 10) == [Account("0", 2)]
        assert [account.is_consistent for account in accounts.audit()] == [True]
        assert accounts.durability().durable
    with running_server(roles.server, tmp_path) as server:
        assert httpx.post(f"{server.address}/accounts/0/deposit", json={"amount": 1}, timeout=30).json()["balance"] == 3
        assert httpx.get(f"{server.address}/health/ready", timeout=30).status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount = 2",
        "DELETE FROM entry",
        "DELETE FROM account",
        "UPDATE mini_atm SET schema_version = 1",
    ],
)
def test_server_cannot_change_the_journal_or_the_schema(roles: Roles, statement: str) -> None:
    init_store(roles.owner)
    roles.grant_tables()
    with psycopg.connect(roles.server) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_init_without_the_right_to_create_says_so(roles: Roles) -> None:
    with pytest.raises(StoreUnavailable, match=r"its user 'atm_server' may not create .*permission denied for schema"):
        init_store(roles.server)
    assert _tables(roles.owner) == []


def test_upgrade_by_another_role_than_the_owner_says_so(roles: Roles) -> None:
    with psycopg.connect(roles.owner) as owner:
        owner.execute(VERSION_1.encode())
        owner.execute("GRANT ALL ON account, journal, mini_atm TO atm_server")
    with psycopg.connect(roles.admin) as admin:
        schema = sql.Identifier(roles.admin.rpartition("search_path%3D")[2])
        admin.execute(sql.SQL("GRANT CREATE ON SCHEMA {} TO atm_server").format(schema))
    with pytest.raises(StoreUnavailable, match=r"'atm_server' may not .* \(must be owner of table journal\); use one"):
        init_store(roles.server)
    assert init_store(roles.owner) == 1
    with PostgresAccountRepository(roles.server) as accounts:
        with pytest.raises(StoreUnavailable, match="permission denied for table entry"):
            accounts.durability()
        roles.grant_tables()
        assert accounts.durability().durable
        assert all(account.is_consistent for account in accounts.audit())


def _tables(url: str) -> list[str]:
    with psycopg.connect(url) as admin:
        rows: list[tuple[Any, ...]] = admin.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1"
        ).fetchall()
    return [name for (name,) in rows]
