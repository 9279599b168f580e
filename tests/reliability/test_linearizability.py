"""Concurrent clients get the answers of an account that does one thing at a time, from one process or several."""

import json
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPResponse
from pathlib import Path
from threading import Barrier

import pytest
from support.evidence import Record, Rounds
from support.linearizability import Answer, Operation, State, is_linearizable
from support.postgres import Postgres, fresh_schema
from support.server import running_server, serving
from support.stores import demo_store

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, Transaction
from atm_core.money import from_minor_units, to_minor_units

CLIENTS = 8
OPERATIONS = 8  # of each client
KINDS = {"read": 4, "deposit": 4, "withdrawal": 6, "limit-change": 2, "closing": 3, "reopening": 2, "opening": 1}
CALLS = {
    "opening": ("POST", "/accounts"),
    "deposit": ("POST", "/accounts/{}/deposit"),
    "withdrawal": ("POST", "/accounts/{}/withdraw"),
    "limit-change": ("PUT", "/accounts/{}/limits"),
    "closing": ("POST", "/accounts/{}/close"),
    "reopening": ("POST", "/accounts/{}/reopen"),
    "read": ("GET", "/accounts/{}"),
}

Address = tuple[str, int]


@pytest.mark.parametrize("store", ["memory", "SQLite", "PostgreSQL"])
def test_answers_to_concurrent_clients_are_linearizable(
    store: str, tmp_path: Path, postgres: Postgres, rounds: Rounds, record: Record
) -> None:
    with _served(store, tmp_path, postgres) as server:
        histories = dict(_histories(server, rounds(5, 200)))

    operations = [operation for history in histories.values() for operation in history]
    applied = Counter(operation.kind for operation in operations if isinstance(operation.answer, State))
    violations = {name: history for name, history in histories.items() if not is_linearizable(history, None)}
    for name, history in violations.items():
        print(f"{name} is not linearizable:", *sorted(history, key=lambda operation: operation.called), sep="\n")
    record(
        "Linearizable",
        f"{CLIENTS} concurrent clients over HTTP, some of which disconnect: {store}",
        {
            "histories": len(histories),
            "operations": len(operations),
            "limit changes": applied["limit-change"],
            "closings": applied["closing"],
            "refusals": sum(isinstance(operation.answer, str) for operation in operations),
            "unknown outcomes": sum(operation.answer is None for operation in operations),
        },
        violations=len(violations),
    )


class LaggingReads(InMemoryAccountRepository):
    """Returns the account as of two transactions ago from reads, as a replica that lags behind may do."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[str, deque[Account]] = {}

    def execute(self, transaction: Transaction, /) -> Account:
        account = super().execute(transaction)
        self._latest.setdefault(account.account_number, deque(maxlen=3)).append(account)
        return account

    def get(self, account_number: str, /) -> Account:
        super().get(account_number)
        return self._latest[account_number][0]


def test_lagging_reads_are_detected(record: Record) -> None:
    most = 100  # about three of them are needed
    with serving(LaggingReads()) as server:
        violations = (not is_linearizable(history, None) for _, history in _histories(server, most))
        tried = next((tried for tried, is_violation in enumerate(violations, start=1) if is_violation), None)
    record(
        "Linearizable",
        "a planted fault: reads that lag by two transactions",
        {"histories until it was detected": tried or most},
        undetected=tried is None,
    )


@contextmanager
def _served(store: str, folder: Path, postgres: Postgres) -> Iterator[Address]:
    if store == "memory":
        with serving(InMemoryAccountRepository()) as server:
            yield server
    elif store == "SQLite":
        with _two_workers(str(folder / "accounts.sqlite3"), folder) as server:
            yield server
    else:
        with fresh_schema(postgres) as url, _two_workers(url, folder) as server:
            yield server


@contextmanager
def _two_workers(url: str, folder: Path) -> Iterator[Address]:
    with running_server(demo_store(url), folder, "--workers", "2", "--log-level", "error") as server:
        yield server.host_and_port


def _histories(server: Address, count: int) -> Iterator[tuple[str, list[Operation]]]:
    """Run the clients on one new account after the other, and yield its number and the operations that they saw.

    Each history has its own account, because an abandoned request may arrive after its history has ended.
    """
    start = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as threads:
        for number in range(count):
            clients = [
                threads.submit(_client, server, f"history-{number}", f"client-{client}", start)
                for client in range(CLIENTS)
            ]
            yield f"history-{number}", [operation for client in clients for operation in client.result()]


def _client(server: Address, account_number: str, name: str, start: Barrier) -> list[Operation]:
    """Open the account and use it. Disconnect from some requests, and retry some of those with the same key."""
    choices = random.Random(f"{account_number} {name}")  # the same in every run
    operations: list[Operation] = []
    start.wait(timeout=60)
    for number in range(OPERATIONS):
        operation = _chosen(choices, operations)
        request = _request(account_number, operation, key=f"{name}-{number}")
        operation = operation._replace(called=time.monotonic_ns())
        abandoned = operation.kind != "read" and choices.random() < 0.25
        if abandoned:
            _send_and_disconnect(server, request[: len(request) - choices.randint(0, 1)])  # half of them are incomplete
            if choices.random() < 0.5:
                operations.append(operation)
                continue
        answer = _send(server, request)
        if abandoned and isinstance(answer, str):
            operations.append(operation)  # a refusal is not recorded, so the first request may still succeed
        operations.append(operation._replace(answered=time.monotonic_ns(), answer=answer))
    return operations


def _chosen(choices: random.Random, earlier: list[Operation]) -> Operation:
    """Return a random operation, the first of which is an opening."""
    (kind,) = choices.choices(list(KINDS), list(KINDS.values()))
    cents = choices.randint(1, 99_999)
    seen = [operation.answer.balance for operation in earlier if isinstance(operation.answer, State)]
    if not earlier:
        kind = "opening"
    elif kind in ("deposit", "withdrawal") and seen and seen[-1] and choices.random() < 0.5:
        kind, cents = ("withdrawal" if seen[-1] > 0 else "deposit"), abs(seen[-1])  # to zero, so that it can be closed
    limit = choices.choice([None, 0, 50_000]) if kind in ("opening", "limit-change") else None
    return Operation(kind, 0, cents=cents, overdraft_limit=limit)


def _request(account_number: str, operation: Operation, key: str) -> bytes:
    method, path = CALLS[operation.kind]
    start = f"{method} {path.format(account_number)} HTTP/1.1\r\nHost: localhost\r\nPrefer: return=representation\r\n"
    if operation.kind == "read":
        return f"{start}\r\n".encode()
    money, limit = str(from_minor_units(operation.cents)), operation.overdraft_limit
    limits = {"overdraft_limit": None if limit is None else str(from_minor_units(limit)), "withdrawal_limit": None}
    bodies: dict[str, dict[str, str | None]] = {
        "opening": {"account_number": account_number, "balance": money, **limits},
        "deposit": {"amount": money},
        "withdrawal": {"amount": money},
        "limit-change": limits,
    }
    body = json.dumps(bodies[operation.kind]) if operation.kind in bodies else ""
    return f"{start}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _send_and_disconnect(server: Address, request: bytes) -> None:
    with socket.create_connection(server, timeout=60) as connection:
        connection.sendall(request)


def _send(server: Address, request: bytes) -> Answer:
    """Send a request over a new connection, so that any worker may accept it, and return the answer."""
    with socket.create_connection(server, timeout=60) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read(), parse_float=Decimal)
    if response.status not in (200, 201):
        assert response.status < 500, body
        code: str = body["type"]
        return code.removeprefix("urn:mini-atm:error:")
    limit = body["overdraft_limit"]
    return State(to_minor_units(body["balance"]), None if limit is None else to_minor_units(limit), body["closed"])
