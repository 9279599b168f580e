"""Kill servers and databases under load: no acknowledged deposit is lost, none counts twice."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from support.clients import RetryingClient, deposits_while_a_server_is_ended, progress
from support.evidence import Record, Rounds
from support.postgres import Postgres, fresh_schema, running_postgres
from support.server import Server, running_server
from support.stores import demo_store

PROMISE = "Acknowledged deposits are kept and count once"
COUNT = "SELECT count(*), count(DISTINCT key), sum(amount) FROM entry WHERE kind = 'deposit'"
MOVED = """
SELECT account.balance - entry.balance FROM account JOIN entry USING (account_number)
WHERE account_number = '0' AND entry = 1
"""


def test_killed_server_on_sqlite_loses_and_doubles_nothing(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    store, kills = demo_store(tmp_path / "accounts.sqlite3"), rounds(2, 100)
    clients = deposits_while_a_server_is_ended(Server.kill, kills, store, tmp_path)
    with closing(sqlite3.connect(store)) as database:
        journal, moved = database.execute(COUNT).fetchone(), database.execute(MOVED).fetchone()
    _record(record, "kill -9 of atm serve on SQLite, under 8 clients that retry", kills, clients, journal, moved)


def test_killed_workers_on_postgresql_lose_and_double_nothing(
    postgres: Postgres, tmp_path: Path, rounds: Rounds, record: Record
) -> None:
    kills = rounds(1, 20)
    with fresh_schema(postgres) as store:
        clients = deposits_while_a_server_is_ended(Server.kill, kills, demo_store(store), tmp_path, "--workers", "2")
        with psycopg.connect(store) as database:
            journal, moved = database.execute(COUNT).fetchone(), database.execute(MOVED).fetchone()
    _record(
        record,
        "kill -9 of atm serve --workers 2 on PostgreSQL, under 8 clients that retry",
        kills,
        clients,
        journal,
        moved,
    )


def test_killed_database_loses_and_doubles_nothing(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    """The server continues without a restart when the database runs again."""
    kills = rounds(1, 20)
    with (
        running_postgres() as postgres,
        running_server(demo_store(postgres.url), tmp_path, "--log-level", "error") as server,
    ):
        clients = [RetryingClient(server.address, f"client-{number}") for number in range(8)]
        for client in clients:
            client.start()
        for _ in range(kills):
            progress(clients, 10)
            postgres.kill()
            postgres.start()
        for client in clients:
            client.stop()
        with psycopg.connect(postgres.url) as database:
            journal, moved = database.execute(COUNT).fetchone(), database.execute(MOVED).fetchone()
    _record(
        record, "kill -9 of PostgreSQL while atm serve runs, under 8 clients that retry", kills, clients, journal, moved
    )


def _record(
    record: Record,
    test: str,
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
        test,
        {"kills": kills, "acknowledged": acknowledged, "retried": sum(client.retried for client in clients)},
        lost=acknowledged - keys,
        doubled=entries - keys,
    )
    assert moved == (cents,) == (acknowledged * 100,)
