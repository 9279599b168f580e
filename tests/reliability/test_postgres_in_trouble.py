"""PostgreSQL stopped, restarted or out of connections: the server answers 503, never a wrong balance, and recovers."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from support.atm_process import ATM
from support.evidence import Record, Rounds
from support.postgres import Postgres, running_postgres
from support.server import Server, running_server
from support.stores import demo_store
from support.waiting import until

MAX_CONNECTIONS = 8
PROMISE = "A failing store means 503, never a wrong balance, and recovery"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server for one test, which may stop it."""
    with running_postgres(f"max_connections={MAX_CONNECTIONS}", "superuser_reserved_connections=0") as server:
        yield server


def test_stopped_database_means_503_until_it_runs_again(postgres: Postgres, tmp_path: Path, record: Record) -> None:
    """A command that starts during the outage exits with the reason."""
    with running_server(demo_store(postgres.url), tmp_path, "--log-level", "error") as server:
        assert _deposit(server, "before").json()["balance"] == 1001
        postgres.stop()
        _assert_unavailable(_deposit(server, "during"))
        assert "Connection refused" in _start_up_error(postgres)
        postgres.start()
        until(lambda: _deposit(server, "during").status_code == 200)
        balance = _balance(server)
    record(PROMISE, "PostgreSQL stopped while a server runs", {"stops": 1}, wrong_balances=balance != 1002)


def test_request_waits_for_restarting_database(
    postgres: Postgres, tmp_path: Path, rounds: Rounds, record: Record
) -> None:
    restarts = rounds(2, 20)
    with running_server(demo_store(postgres.url), tmp_path, "--log-level", "error") as server:
        assert _balance(server) == 1000  # the server is ready
        for number in range(restarts):
            postgres.stop()
            postgres.start()
            assert _deposit(server, str(number)).status_code == 200
        balance = _balance(server)
    record(
        PROMISE,
        "PostgreSQL restarted while a server runs",
        {"restarts": restarts},
        wrong_balances=balance != 1000 + restarts,
    )


def test_database_out_of_connections_means_503_until_one_is_free(
    postgres: Postgres, tmp_path: Path, record: Record
) -> None:
    """A command that starts during the outage exits with the reason."""
    with running_server(demo_store(postgres.url), tmp_path, "--log-level", "error") as server:
        assert _deposit(server, "before").json()["balance"] == 1001
        with ExitStack() as others:
            admin = others.enter_context(psycopg.connect(postgres.url, autocommit=True))
            taken = 1
            while taken < MAX_CONNECTIONS:  # ends those of atm serve until the test holds all
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'other'"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                try:
                    others.enter_context(psycopg.connect(postgres.url, application_name="other"))
                except psycopg.OperationalError:  # atm serve was faster
                    continue
                taken += 1
            _assert_unavailable(_deposit(server, "during"))
            assert "too many clients already" in _start_up_error(postgres)
        until(lambda: _deposit(server, "during").status_code == 200)
        balance = _balance(server)
    record(
        PROMISE, "PostgreSQL out of connections while a server runs", {"shortages": 1}, wrong_balances=balance != 1002
    )


def _deposit(server: Server, key: str) -> httpx.Response:
    return httpx.post(
        f"{server.address}/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key}, timeout=60
    )


def _balance(server: Server) -> int:
    balance: int = httpx.get(f"{server.address}/accounts/0/balance", timeout=60).json()["balance"]
    return int(balance)


def _assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
    assert answer.json()["type"] in ("urn:mini-atm:error:store-unavailable", "urn:mini-atm:error:outcome-unknown")


def _start_up_error(postgres: Postgres) -> str:
    """Return the error of a command that cannot open the store."""
    done = subprocess.run(  # noqa: S603 - the project's own command
        [ATM, "balance", "0"], capture_output=True, text=True, timeout=60, env={**os.environ, "ATM_STORE": postgres.url}
    )
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"atm: The store {postgres.url} is unavailable: ")
    return line
