"""Kill a primary with a synchronous standby under load: no acknowledged deposit is lost, none counts twice."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from support.clients import RetryingClient, progress
from support.evidence import Record
from support.postgres import Postgres, postgres_folder
from support.server import running_server
from support.stores import demo_store
from support.waiting import until

CLIENTS = 8
DEPOSITS_BEFORE_AND_AFTER = 50


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A running primary and its running synchronous standby."""
    with postgres_folder() as (programs, folder), postgres_folder() as (_, standby_folder):
        primary = Postgres(programs, folder)
        primary.initialize()
        primary.start()
        standby = Postgres(programs, standby_folder)
        options = ["-X", "stream", "-c", "fast", "-R", "--no-sync"]
        standby.run("pg_basebackup", "-d", primary.url, "-D", standby.data, *options)
        standby.start("cluster_name=standby")  # the standby connects to the primary under this name
        with psycopg.connect(primary.url, autocommit=True) as admin:
            # Set after the base backup, so that the promoted standby does not wait for a standby of its own.
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            admin.execute("SELECT pg_reload_conf()")
            state = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: admin.execute(state).fetchall() == [("sync",)], seconds=60)
        yield primary, standby
        primary.stop()
        standby.stop()


def test_failover_loses_and_doubles_nothing(pair: tuple[Postgres, Postgres], tmp_path: Path, record: Record) -> None:
    """The server finds the promoted standby by itself."""
    primary, standby = pair
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    store = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
    with running_server(demo_store(store), tmp_path, "--log-level", "error") as server:
        clients = [RetryingClient(server.address, f"client-{number}") for number in range(CLIENTS)]
        for client in clients:
            client.start()
        progress(clients, DEPOSITS_BEFORE_AND_AFTER)
        primary.kill()
        with psycopg.connect(standby.url) as admin:
            assert admin.execute("SELECT pg_promote(wait => true)").fetchone() == (True,)
        progress(clients, DEPOSITS_BEFORE_AND_AFTER)
        for client in clients:
            client.stop()
        balance = httpx.get(f"{server.address}/accounts/0/balance").json()["balance"]

    acknowledged = sum(client.acknowledged for client in clients)
    with psycopg.connect(standby.url) as admin:
        row = admin.execute("SELECT count(*), count(DISTINCT key) FROM entry WHERE kind = 'deposit'").fetchone()
    assert row is not None
    entries, keys = row
    record(
        "Acknowledged deposits are kept and count once",
        "kill -9 of a PostgreSQL primary, whose synchronous standby takes over",
        {"failovers": 1, "acknowledged": acknowledged, "retried": sum(client.retried for client in clients)},
        lost=acknowledged - keys,
        doubled=entries - keys,
    )
    assert balance == 1000 + acknowledged
