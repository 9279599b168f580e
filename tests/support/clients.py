"""Clients that don't give up: each sends what was not acknowledged once more, under its key."""

import threading
import time
from collections.abc import Sequence

import httpx


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
                    while not self._is_acknowledged(http):
                        self.retried += 1
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


def progress(clients: Sequence[RetryingClient], deposits: int) -> None:
    """Wait until every client has had so many more deposits acknowledged."""
    goals = [client.acknowledged + deposits for client in clients]
    give_up_at = time.monotonic() + 120
    for client, goal in zip(clients, goals, strict=True):
        while client.acknowledged < goal:
            assert client.trouble is None, client.trouble
            assert time.monotonic() < give_up_at, "the clients make no progress"
            client.join(0.01)
