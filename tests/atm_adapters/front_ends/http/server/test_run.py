"""``atm serve`` as a process: banner, shutdown, several workers, and the factory for other servers."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from support.atm_process import run_atm
from support.postgres import Postgres, fresh_schema
from support.server import Server, running_server
from support.stores import demo_store
from support.waiting import until

from atm_adapters.bootstrap import default_store_url, open_store
from atm_adapters.front_ends.http.app import create_app
from atm_core import StoreNotInitialized, deposit, get_account

VERSION_1 = Path(__file__).parents[3] / "repositories" / "version_1.sql"


def test_banner_names_address_store_and_docs(tmp_path: Path) -> None:
    store = demo_store(tmp_path / "accounts.sqlite3")
    with running_server(store, tmp_path) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert server.banner == [
            f"Mini-ATM is listening on {server.address}",
            f"Store: {store}",
            f"Docs:  {server.address}/docs",
        ]
        assert httpx.get(f"{server.address}/accounts/0/balance").status_code == 200


def test_server_shares_its_accounts_with_other_processes(tmp_path: Path) -> None:
    store = demo_store(tmp_path / "accounts.sqlite3")
    with running_server(store, tmp_path) as server, closing(open_store(store)) as accounts:
        deposit(accounts, "0", 100)
        answer = httpx.post(f"{server.address}/accounts/0/deposit", json={"amount": 1})
        assert answer.json() == {"account_number": "0", "balance": 1101, "entry": 3}
        assert get_account(accounts, "0").balance == 1101


def test_several_workers_serve_one_store(tmp_path: Path) -> None:
    store = demo_store(tmp_path / "accounts.sqlite3")
    with running_server(store, tmp_path, "--workers", "2") as server:

        def deposits(_: int) -> None:
            for _ in range(25):
                httpx.post(
                    f"{server.address}/accounts/0/deposit", json={"amount": "0.01"}, timeout=60
                ).raise_for_status()

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(deposits, range(8)))
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == 1002
        assert server.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_missing_or_older_store_is_refused_unchanged(tmp_path: Path, workers: str, postgres: Postgres) -> None:
    older = tmp_path / "older.sqlite3"
    with closing(sqlite3.connect(older)) as connection:
        connection.executescript(VERSION_1.read_text())
    with fresh_schema(postgres) as url:
        for store, command in (
            (str(tmp_path / "typo.sqlite3"), "to create it, run: atm init --store "),
            (str(older), "to upgrade it, run: atm init --store "),
            (url, "it has no tables (to create it, run: atm init --store "),
        ):
            done = run_atm("serve", "--port", "0", "--workers", workers, "--store", store)
            assert (done.returncode, done.stdout) == (4, "")
            (line,) = done.stderr.splitlines()
            assert command in line
        with psycopg.connect(url) as admin:
            assert admin.execute("SELECT FROM pg_tables WHERE schemaname = current_schema").fetchall() == []
    assert list(tmp_path.iterdir()) == [older]
    with closing(sqlite3.connect(older)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_default_file_is_created_and_served_by_several_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with running_server(default_store_url(), tmp_path, "--workers", "2") as server:
        assert httpx.get(f"{server.address}/accounts/1/balance").json()["balance"] == 1000
        assert server.stop() == 0


@pytest.mark.parametrize(("signal_number", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_signal_lets_requests_under_way_finish(tmp_path: Path, signal_number: int, exit_code: int) -> None:
    store = demo_store(tmp_path / "accounts.sqlite3")
    body = b'{"amount": 1}'
    head = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n"
    with running_server(store, tmp_path) as server, socket.create_connection(server.host_and_port) as client:
        client.sendall(head + body[:5])
        # The server answers a request on another connection, so it has read the first half of this one.
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == 1000
        server.process.send_signal(signal_number)
        until(lambda: not _accepts_connections(server))
        client.sendall(body[5:])
        client.settimeout(30)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(timeout=30) == exit_code
        assert "Traceback" not in server.log.read_text()
    with closing(open_store(store)) as accounts:
        assert get_account(accounts, "0").balance == 1001


def _accepts_connections(server: Server) -> bool:
    try:
        socket.create_connection(server.host_and_port).close()
    except ConnectionError:
        return False
    return True


def test_taken_address_is_reported_in_one_line(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        _, port = server.host_and_port
        done = run_atm("serve", "--store", "memory:", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"atm: Cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another address with --host or --port.\n"
    )


def test_log_level_selects_the_lines_of_the_log(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path, "--log-level", "warning") as server:
        httpx.get(f"{server.address}/accounts/0/balance")
        httpx.get(f"{server.address}/accounts/9/balance")
        until(lambda: server.log.read_text().endswith("account-not-found\n"))
        (line,) = server.log.read_text().splitlines()
        assert " WARNING " in line
        assert line.endswith(" atm_adapters.front_ends.http.problems: refused for account '9': account-not-found")


def test_factory_refuses_a_missing_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_STORE", str(tmp_path / "typo.sqlite3"))
    with pytest.raises(StoreNotInitialized, match=r"\(to create it, run: atm init\)"):
        create_app()
    assert list(tmp_path.iterdir()) == []


def test_factory_works_with_any_asgi_server(tmp_path: Path) -> None:
    program = """
import asyncio, httpx
from atm_adapters.front_ends.http.app import create_app
from atm_adapters.bootstrap import open_async_store

async def main():
    app = create_app()
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://atm") as client:
        print((await client.post("/accounts/0/deposit", json={"amount": 5})).text)
    store = open_async_store("memory:")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(store)), base_url="http://atm") as client:
        print((await client.get("/accounts/0/balance")).text)

asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ATM_STORE": demo_store(tmp_path / "accounts.sqlite3")},
    )
    assert done.stdout.split() == [
        '{"account_number":"0","balance":1005.00,"entry":2}',
        '{"account_number":"0","balance":1000.00}',
    ], done.stderr
