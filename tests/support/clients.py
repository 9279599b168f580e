"""Clients that don't give up: each sends what was not acknowledged once more, under its key."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from support.postgres import free_port
from support.server import Server, running_server


class RetryingClient(threading.Thread):
    """Deposits to account 0 until it is stopped; each deposit is repeated under its key until it is acknowledged."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._client_name = name
        self._stopped = threading.Event()
        self.acknowledged = 0
        self.retried = 0
        self.trouble: Exception | None = None

    def run(self) -> None:
        """Deposit; what fails the promises is kept for ``stop`` to raise."""
        try:
            with httpx.Client(base_url=self._address, timeout=60) as http:
                while not self._stopped.is_set():
                    if not self._is_acknowledged(http):
                        self.retried += 1
                        while not self._is_acknowledged(http):
                            self._stopped.wait(0.02)  # a server that starts wants the processor for itself
                    self.acknowledged += 1
        except Exception as error:
            self.trouble = error

    def stop(self) -> None:
        """Finish the deposit under way, and end."""
        self._stopped.set()
        self.join(timeout=120)
        assert not self.is_alive()
        if self.trouble is not None:
            raise self.trouble

    def _is_acknowledged(self, http: httpx.Client) -> bool:
        key = f"{self._client_name}-{self.acknowledged}"
        try:
            answer = http.post("/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.text
        assert answer.status_code == 200 or answer.headers["retry-after"]
        return answer.status_code == 200


def deposits_while_a_server_is_ended(
    end: Callable[[Server], None], times: int, store: str, folder: Path, *options: str
) -> list[RetryingClient]:
    """Have eight clients deposit while their server is started and ended, again and again.

    :param end: ends the server that it is given.
    :returns: the clients, when everything that they asked for is acknowledged.
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
    """Wait until every client has had so many more deposits acknowledged."""
    goals = [client.acknowledged + deposits for client in clients]
    give_up_at = time.monotonic() + 120
    for client, goal in zip(clients, goals, strict=True):
        while client.acknowledged < goal:
            assert client.trouble is None, client.trouble
            assert time.monotonic() < give_up_at, "the clients make no progress"
            client.join(0.01)
