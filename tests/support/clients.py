"""Clients that retry each deposit with the same key until the server acknowledges it."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from support.postgres import free_port
from support.server import Server, running_server


class RetryingClient(threading.Thread):
    """A thread that deposits to account 0 until it is stopped, and retries each deposit until it is acknowledged."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._client_name = name
        self._stopped = threading.Event()
        self.acknowledged = 0
        self.retried = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Deposit. An exception is kept, and :meth:`stop` raises it."""
        try:
            with httpx.Client(base_url=self._address, timeout=60) as http:
                while not self._stopped.is_set():
                    if not self._is_acknowledged(http):
                        self.retried += 1
                        while not self._is_acknowledged(http):
                            self._stopped.wait(0.02)  # leaves the processor to a starting server
                    self.acknowledged += 1
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """Wait until the current deposit is acknowledged, and end the thread."""
        self._stopped.set()
        self.join(timeout=120)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error

    def _is_acknowledged(self, http: httpx.Client) -> bool:
        key = f"{self._client_name}-{self.acknowledged}"
        try:
            response = http.post("/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        assert response.status_code in (200, 503), response.text
        assert response.status_code == 200 or response.headers["retry-after"]
        return response.status_code == 200


def deposits_while_a_server_is_ended(
    end: Callable[[Server], None], times: int, store: str, folder: Path, *options: str
) -> list[RetryingClient]:
    """Let eight clients deposit while their server is repeatedly started and ended.

    :param end: ends a server.
    :returns: the clients, after all their deposits are acknowledged.
    """
    options = ("--port", str(free_port()), "--log-level", "error", *options)
    clients: list[RetryingClient] = []
    for _ in range(times):
        with running_server(store, folder, *options) as server:
            if not clients:
                clients = [RetryingClient(server.address, f"client-{number}") for number in range(8)]
                for client in clients:
                    client.start()
            progress(clients, random.randint(1, 10))
            end(server)
    with running_server(store, folder, *options):
        for client in clients:
            client.stop()
    return clients


def progress(clients: Sequence[RetryingClient], deposits: int) -> None:
    """Wait until this many more deposits of every client are acknowledged."""
    goals = [client.acknowledged + deposits for client in clients]
    deadline = time.monotonic() + 120
    for client, goal in zip(clients, goals, strict=True):
        while client.acknowledged < goal:
            assert client.error is None, client.error
            assert time.monotonic() < deadline, "the clients make no progress"
            client.join(0.01)
