"""PostgreSQL stopped, restarted, out of connections: 503 and the reason, no wrong balance, and service afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from support.evidence import Often, Record
from support.postgres import Postgres, running_postgres
from support.server import ATM, Server, running_server
from support.waiting import until

MAX_CONNECTIONS = 8
PROMISE = "A store in trouble is 503, never a wrong balance, and back when it ends"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server that a test may ill-treat."""
    with running_postgres(f"max_connections={MAX_CONNECTIONS}", "superuser_reserved_connections=0") as server:
        yield server


def test_a_stopped_database_is_503_and_a_start_up_error_and_service_returns_when_it_starts(
    postgres: Postgres, tmp_path: Path, record: Record
) -> None:
    with running_server(postgres.url, tmp_path, "--log-level", "error") as server:
        assert _deposit(server, "before").json()["balance"] == 1001
        postgres.stop()
        _is_refused(_deposit(server, "during"))
        assert "Connection refused" in _start_up_error(postgres)
        postgres.start()
        until(lambda: _deposit(server, "during").status_code == 200)
        balance = _balance(server)
    record(PROMISE, "PostgreSQL stopped while a server runs", {"stops": 1}, wrong_balances=balance != 1002)


def test_a_database_that_restarts_is_waited_for(
    postgres: Postgres, tmp_path: Path, often: Often, record: Record
) -> None:
    times = often(2, 20)
    with running_server(postgres.url, tmp_path, "--log-level", "error") as server:
        assert _balance(server) == 1000  # it has started by now
        for number in range(times):
            postgres.stop()
            postgres.start()
            assert _deposit(server, str(number)).status_code == 200
        balance = _balance(server)
    record(
        PROMISE,
        "PostgreSQL restarted while a server runs",
        {"restarts": times},
        wrong_balances=balance != 1000 + times,
    )


def test_a_database_out_of_connections_is_503_and_a_start_up_error_and_service_returns_with_them(
    postgres: Postgres, tmp_path: Path, record: Record
) -> None:
    with running_server(postgres.url, tmp_path, "--log-level", "error") as server:
        assert _deposit(server, "before").json()["balance"] == 1001
        with ExitStack() as others:
            admin = others.enter_context(psycopg.connect(postgres.url, autocommit=True))
            taken = 1
            while taken < MAX_CONNECTIONS:  # the server's own are ended until all are somebody else's
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'other'"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                try:
                    others.enter_context(psycopg.connect(postgres.url, application_name="other"))
                except psycopg.OperationalError:  # the server was quicker
                    continue
                taken += 1
            _is_refused(_deposit(server, "during"))
            assert "too many clients already" in _start_up_error(postgres)
        until(lambda: _deposit(server, "during").status_code == 200)
        balance = _balance(server)
    record(
        PROMISE,
        "PostgreSQL out of connections while a server runs",
        {"shortages": 1},
        wrong_balances=balance != 1002,
    )


def _deposit(server: Server, key: str) -> httpx.Response:
    return httpx.post(
        f"{server.address}/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key}, timeout=60
    )


def _balance(server: Server) -> int:
    balance: int = httpx.get(f"{server.address}/accounts/0/balance", timeout=60).json()["balance"]
    return int(balance)


def _is_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
    assert answer.json()["type"] in ("urn:mini-atm:error:store-unavailable", "urn:mini-atm:error:outcome-unknown")


def _start_up_error(postgres: Postgres) -> str:
    """What a command says that can't open the store."""
    done = subprocess.run(  # noqa: S603 - our own command
        [ATM, "balance", "0"], capture_output=True, text=True, timeout=60, env={**os.environ, "ATM_STORE": postgres.url}
    )
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"atm: The store {postgres.url} is unavailable: ")
    return line
