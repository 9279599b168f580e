"""Health checks of a running server, with stores that answer and stores that do not."""

import os
import re
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient
from support.postgres import Postgres, fresh_schema, running_postgres
from support.server import Server, running_server
from support.stores import demo_store
from support.waiting import until

from atm_adapters.bootstrap import default_store_url
from atm_adapters.front_ends.http.app import create_app
from atm_core import Account, AccountNotFound, Transaction


def ready(server: Server) -> httpx.Response:
    return httpx.get(f"{server.address}/health/ready", timeout=30)


def assert_not_ready(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "urn:mini-atm:error:store-unavailable"
    assert answer.headers["retry-after"] == "1"


def test_memory_is_ready_and_not_durable(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        assert httpx.get(f"{server.address}/health/live").json() == {"status": "live"}
        assert ready(server).json() == {
            "status": "ready",
            "store": "memory",
            "durable": False,
            "settings": {"kept_until": "the process ends"},
        }


def test_sqlite_reports_its_settings_and_checks_are_not_logged(tmp_path: Path) -> None:
    with running_server(demo_store(tmp_path / "accounts.sqlite3"), tmp_path) as server:
        assert ready(server).json() == {
            "status": "ready",
            "store": "sqlite",
            "durable": True,
            "settings": {"journal_mode": "wal", "synchronous": "FULL"},
        }
        assert httpx.get(f"{server.address}/health/live").status_code == 200
        assert "atm_adapters" not in server.log.read_text()


def test_postgresql_reports_its_settings(postgres: Postgres, tmp_path: Path) -> None:
    with fresh_schema(postgres) as url, running_server(demo_store(url), tmp_path) as server:
        answer = ready(server).json()
        server.stop()
    assert (answer["store"], answer["durable"], answer["settings"]["synchronous_commit"]) == ("postgresql", True, "on")


def test_server_without_its_database_is_live_and_not_ready(tmp_path: Path) -> None:
    with running_postgres() as postgres, running_server(demo_store(postgres.url), tmp_path) as server:
        assert ready(server).status_code == 200
        postgres.stop()
        began = time.monotonic()
        answer = ready(server)
        assert time.monotonic() - began < 4
        assert_not_ready(answer)
        assert "127.0.0.1" not in answer.text
        until(lambda: "it did not answer in 2 seconds" in server.log.read_text())
        assert httpx.get(f"{server.address}/health/live").status_code == 200
        postgres.start()
        until(lambda: ready(server).status_code == 200)


def statuses(server: Server) -> set[int]:
    paths = ["/accounts/0/balance", "/health/ready"]
    return {httpx.get(f"{server.address}{path}", timeout=30).status_code for path in paths * 5}


def workers(server: Server) -> list[int]:
    """Return the ids of all workers that were started."""
    return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log.read_text())]


def replace_both_workers(server: Server) -> None:
    until(lambda: len(workers(server)) == 2)
    for pid in workers(server):
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(workers(server)) == 4, seconds=60)


def test_worker_starts_without_its_database_and_finds_it_later(tmp_path: Path) -> None:
    with running_postgres() as postgres, running_server(demo_store(postgres.url), tmp_path, "--workers", "2") as server:
        until(lambda: len(workers(server)) == 2)
        postgres.stop()
        replace_both_workers(server)
        assert_not_ready(ready(server))
        assert statuses(server) == {503}
        postgres.start()
        until(lambda: statuses(server) == {200})
        assert len(workers(server)) == 4
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("is_default", [False, True], ids=["named file", "default file"])
def test_worker_waits_for_a_file_that_was_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_default: bool
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = Path(default_store_url()) if is_default else tmp_path / "data" / "shop.sqlite3"
    folder, elsewhere = path.parent, tmp_path / "elsewhere"
    folder.mkdir(parents=True, exist_ok=True)
    elsewhere.mkdir()
    with running_server(demo_store(path), tmp_path, "--workers", "2") as server:
        assert httpx.post(f"{server.address}/accounts/0/deposit", json={"amount": 1}).status_code == 200
        for file in folder.iterdir():
            file.rename(elsewhere / file.name)
        replace_both_workers(server)
        answer = ready(server)
        assert_not_ready(answer)
        assert str(path) not in answer.text
        assert statuses(server) == {503}
        assert f"The store {path} is unavailable: there is no such file." in server.log.read_text()
        assert list(folder.iterdir()) == []
        for file in elsewhere.iterdir():
            file.rename(folder / file.name)
        until(lambda: statuses(server) == {200})
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == 1001
        assert len(workers(server)) == 4
        assert server.stop() == 0


def test_blocked_writer_is_not_ready_although_reads_work(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite3"
    with running_server(demo_store(path), tmp_path) as server, ThreadPoolExecutor(1) as thread:
        assert ready(server).status_code == 200
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            deposit = thread.submit(httpx.post, f"{server.address}/accounts/0/deposit", json={"amount": 1}, timeout=60)
            until(lambda: ready(server).status_code == 503)
            answer = ready(server)
            assert_not_ready(answer)
            assert str(path) not in answer.text
            assert httpx.get(f"{server.address}/accounts/0/balance").status_code == 200
        assert deposit.result(30).status_code == 200
        assert ready(server).status_code == 200


def test_locked_file_is_not_ready_although_no_deposit_waits(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite3"
    with running_server(demo_store(path), tmp_path) as server:
        assert ready(server).status_code == 200
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert_not_ready(ready(server))
        assert ready(server).status_code == 200


def test_replaced_file_is_not_ready_and_logged(tmp_path: Path) -> None:
    path, copy = tmp_path / "accounts.sqlite3", tmp_path / "copy"
    with running_server(demo_store(path), tmp_path) as server:
        assert ready(server).status_code == 200
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        answer = ready(server)
        assert_not_ready(answer)
        assert str(tmp_path) not in answer.text
        reason = f"{path} was moved, deleted or replaced while in use: put it back"
        until(lambda: reason in server.log.read_text())


def test_newer_schema_is_not_ready_and_logged(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite3"
    with running_server(demo_store(path), tmp_path) as server:
        assert ready(server).status_code == 200
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version = 99")
        assert_not_ready(ready(server))
        reason = "its schema has version 99, but this release of Mini-ATM supports version"
        until(lambda: reason in server.log.read_text())


def test_custom_repository_is_ready_without_reporting_durability() -> None:
    class Empty:
        async def get(self, account_number: str, /) -> Account:
            raise AccountNotFound(account_number)

        async def execute(self, transaction: Transaction, /) -> Account:
            raise AccountNotFound(transaction.account_number)

    with TestClient(create_app(Empty())) as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
