"""A primary with a synchronous standby, killed under load: nothing acknowledged is lost, nothing counts twice."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from support.clients import RetryingClient, progress
from support.evidence import Record
from support.postgres import Postgres, postgres_folder
from support.server import running_server
from support.waiting import until

CLIENTS = 8
DEPOSITS_BEFORE_AND_AFTER = 50


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its synchronous standby, both running."""
    with postgres_folder() as (programs, folder), postgres_folder() as (_, standby_folder):
        primary = Postgres(programs, folder)
        primary.initialize()
        primary.start()
        standby = Postgres(programs, standby_folder)
        standby.run("pg_basebackup", "-d", primary.url, "-D", standby.data, "-X", "stream", "-c", "fast", "-R")
        standby.start("cluster_name=standby")  # the name by which it calls itself to the primary
        with psycopg.connect(primary.url, autocommit=True) as admin:
            # Only now, so that the standby has not copied the setting: promoted, it has no standby of its own.
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            admin.execute("SELECT pg_reload_conf()")
            state = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: admin.execute(state).fetchall() == [("sync",)], seconds=60)
        yield primary, standby
        primary.stop()
        standby.stop()


def test_a_primary_killed_under_load_loses_and_doubles_nothing_and_the_server_finds_the_standby(
    pair: tuple[Postgres, Postgres], tmp_path: Path, record: Record
) -> None:
    primary, standby = pair
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    store = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
    with running_server(store, tmp_path, "--log-level", "error") as server:
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
        row = admin.execute("SELECT count(*), count(DISTINCT key) FROM journal").fetchone()
    assert row is not None
    entries, keys = row
    record(
        "What was acknowledged is there, once",
        "kill -9 of a PostgreSQL primary; its synchronous standby takes over",
        {
            "failovers": 1,
            "acknowledged": acknowledged,
            "sent again": sum(client.retried for client in clients),
        },
        lost=acknowledged - keys,
        doubled=entries - keys,
    )
    assert balance == 1000 + acknowledged
