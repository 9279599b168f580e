"""Concurrent clients get the answers of an account that does one thing at a time, from one process or several."""

import json
import random
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from http.client import HTTPResponse
from pathlib import Path
from threading import Barrier

import pytest
from support.evidence import Record, Rounds
from support.linearizability import Operation, is_linearizable
from support.postgres import Postgres, fresh_schema
from support.server import running_server, serving

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, Transaction
from atm_core.money import from_minor_units, to_minor_units

CLIENTS = 8
OPERATIONS = 8  # of each client
OPENING = 100_000  # cents

Address = tuple[str, int]


@pytest.mark.parametrize("store", ["memory", "SQLite", "PostgreSQL"])
def test_answers_to_concurrent_clients_are_linearizable(
    store: str, tmp_path: Path, postgres: Postgres, rounds: Rounds, record: Record
) -> None:
    accounts = _accounts(rounds(5, 200))
    with _served(store, accounts, tmp_path, postgres) as server:
        histories = dict(_histories(server, accounts))

    operations = [operation for history in histories.values() for operation in history]
    violations = {name: history for name, history in histories.items() if not is_linearizable(history, OPENING)}
    for name, history in violations.items():
        print(f"{name} is not linearizable:", *sorted(history, key=lambda operation: operation.called), sep="\n")
    record(
        "Linearizable",
        f"{CLIENTS} concurrent clients over HTTP, some of which disconnect: {store}",
        {
            "histories": len(histories),
            "operations": len(operations),
            "unknown outcomes": sum(operation.balance is None for operation in operations),
        },
        violations=len(violations),
    )


class LaggingReads(InMemoryAccountRepository):
    """Returns the account as of two transactions ago from reads, as a replica that lags behind may do."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        super().__init__(accounts)
        self._latest = {account.account_number: deque([account], maxlen=3) for account in accounts}

    def execute(self, transaction: Transaction, /) -> Account:
        account = super().execute(transaction)
        self._latest[account.account_number].append(account)
        return account

    def get(self, account_number: str, /) -> Account:
        return self._latest[account_number][0]


def test_lagging_reads_are_detected(record: Record) -> None:
    accounts = _accounts(100)  # about three of them are needed
    with serving(LaggingReads(accounts)) as server:
        violations = (not is_linearizable(history, OPENING) for _, history in _histories(server, accounts))
        tried = next((tried for tried, is_violation in enumerate(violations, start=1) if is_violation), None)
    record(
        "Linearizable",
        "a planted fault: reads that lag by two transactions",
        {"histories until it was detected": tried or len(accounts)},
        undetected=tried is None,
    )


def _accounts(count: int) -> list[Account]:
    """Make one account for each history, because an abandoned request may arrive after its history has ended."""
    return [Account(f"history-{number}", from_minor_units(OPENING)) for number in range(count)]


@contextmanager
def _served(store: str, accounts: Sequence[Account], folder: Path, postgres: Postgres) -> Iterator[Address]:
    if store == "memory":
        with serving(InMemoryAccountRepository(accounts)) as server:
            yield server
    elif store == "SQLite":
        with _two_workers(str(folder / "accounts.sqlite3"), accounts, folder) as server:
            yield server
    else:
        with fresh_schema(postgres) as url, _two_workers(url, accounts, folder) as server:
            yield server


@contextmanager
def _two_workers(url: str, accounts: Sequence[Account], folder: Path) -> Iterator[Address]:
    with closing(open_store(url)) as store:
        for account in accounts:
            store.add(account)
    with running_server(url, folder, "--workers", "2", "--log-level", "error") as server:
        yield server.host_and_port


def _histories(server: Address, accounts: Sequence[Account]) -> Iterator[tuple[str, list[Operation]]]:
    """Run the clients on one account after the other, and yield its number and the operations that they saw."""
    start = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as threads:
        for account in accounts:
            clients = [
                threads.submit(_client, server, account.account_number, f"client-{number}", start)
                for number in range(CLIENTS)
            ]
            yield account.account_number, [operation for client in clients for operation in client.result()]


def _client(server: Address, account_number: str, name: str, start: Barrier) -> list[Operation]:
    """Read, deposit and withdraw. Disconnect from some requests, and retry some of those with the same key."""
    choices = random.Random(f"{account_number} {name}")  # the same in every run
    operations = []
    start.wait(timeout=60)
    for number in range(OPERATIONS):
        change = choices.choice((-1, 0, 1)) * choices.randint(1, 99_999)
        request = _request(account_number, change, key=f"{name}-{number}")
        called = time.monotonic_ns()
        if change and choices.random() < 0.25:
            _send_and_disconnect(server, request[: len(request) - choices.randint(0, 1)])  # half of them are incomplete
            if choices.random() < 0.5:
                operations.append(Operation(change, called))
                continue
        balance = _send(server, request)
        operations.append(Operation(change, called, time.monotonic_ns(), balance))
    return operations


def _request(account_number: str, change: int, key: str) -> bytes:
    if not change:
        return f"GET /accounts/{account_number}/balance HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body = f'{{"amount": "{from_minor_units(abs(change))}"}}'
    return (
        f"POST /accounts/{account_number}/{'deposit' if change > 0 else 'withdraw'} HTTP/1.1\r\nHost: localhost\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _send_and_disconnect(server: Address, request: bytes) -> None:
    with socket.create_connection(server, timeout=60) as connection:
        connection.sendall(request)


def _send(server: Address, request: bytes) -> int:
    """Send a request over a new connection, so that any worker may accept it, and return the balance in cents."""
    with socket.create_connection(server, timeout=60) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    assert answer.status == 200, body
    balance: Decimal = json.loads(body, parse_float=Decimal)["balance"]
    return to_minor_units(balance)
