"""Servers and databases killed under load: nothing acknowledged is lost, nothing counts twice."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from support.clients import RetryingClient, deposits_while_a_server_is_ended, progress
from support.evidence import Often, Record
from support.postgres import Postgres, fresh_schema, running_postgres
from support.server import Server, running_server

PROMISE = "What was acknowledged is there, once"
COUNT = "SELECT count(*), count(DISTINCT key), sum(amount) FROM journal"
BALANCE = "SELECT balance - opening FROM account WHERE account_number = '0'"


def test_a_server_on_sqlite_killed_under_load_loses_and_doubles_nothing(
    tmp_path: Path, often: Often, record: Record
) -> None:
    store, times = str(tmp_path / "accounts.sqlite3"), often(2, 100)
    clients = deposits_while_a_server_is_ended(Server.kill, times, store, tmp_path)
    with closing(sqlite3.connect(store)) as database:
        journal, moved = database.execute(COUNT).fetchone(), database.execute(BALANCE).fetchone()
    _record(record, "kill -9 of atm serve on SQLite, under 8 clients that retry", times, clients, journal, moved)


def test_a_server_with_workers_on_postgresql_killed_under_load_loses_and_doubles_nothing(
    postgres: Postgres, tmp_path: Path, often: Often, record: Record
) -> None:
    times = often(1, 20)
    with fresh_schema(postgres) as store:
        clients = deposits_while_a_server_is_ended(Server.kill, times, store, tmp_path, "--workers", "2")
        with psycopg.connect(store) as database:
            journal, moved = database.execute(COUNT).fetchone(), database.execute(BALANCE).fetchone()
    _record(
        record,
        "kill -9 of atm serve --workers 2 on PostgreSQL, under 8 clients that retry",
        times,
        clients,
        journal,
        moved,
    )


def test_a_database_killed_under_load_loses_and_doubles_nothing_and_the_server_serves_on(
    tmp_path: Path, often: Often, record: Record
) -> None:
    times = often(1, 20)
    with running_postgres() as postgres, running_server(postgres.url, tmp_path, "--log-level", "error") as server:
        clients = [RetryingClient(server.address, f"client-{number}") for number in range(8)]
        for client in clients:
            client.start()
        for _ in range(times):
            progress(clients, 10)
            postgres.kill()
            postgres.start()
        for client in clients:
            client.stop()
        with psycopg.connect(postgres.url) as database:
            journal, moved = database.execute(COUNT).fetchone(), database.execute(BALANCE).fetchone()
    _record(
        record, "kill -9 of PostgreSQL beneath atm serve, under 8 clients that retry", times, clients, journal, moved
    )


def _record(
    record: Record,
    tried_by: str,
    kills: int,
    clients: Sequence[RetryingClient],
    journal: tuple[int, int, int] | None,
    moved: tuple[int] | None,
) -> None:
    acknowledged = sum(client.acknowledged for client in clients)
    assert journal is not None
    entries, keys, cents = journal
    record(
        PROMISE,
        tried_by,
        {"kills": kills, "acknowledged": acknowledged, "sent again": sum(client.retried for client in clients)},
        lost=acknowledged - keys,
        doubled=entries - keys,
    )
    assert moved == (cents,) == (acknowledged * 100,)
