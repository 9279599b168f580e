"""What applies to every request: large parts of a request are not kept in a cache."""

import os
from pathlib import Path

import httpx
import pytest
from support.server import running_server

LONG = "x" * 60_000


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_large_parts_of_requests_are_not_kept_in_memory(tmp_path: Path, method: str) -> None:
    with running_server("memory:", tmp_path, "--log-level", "error") as server:

        def resident_mib() -> float:
            pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

        def send(number: int) -> None:
            unique = f"{number}-{LONG}"
            path = "/accounts/0/deposit" if method == "POST" else "/accounts/0/balance"
            client.request(method, f"/accounts/{unique}/balance")
            client.request(method, f"{path}?{unique}")
            for name in ("Host", "Origin", "Content-Type", "Cookie", "Idempotency-Key", "X-Request-ID"):
                client.request(method, path, headers={name: unique})

        with httpx.Client(base_url=server.address) as client:
            for number in range(20):
                send(number)
            before = resident_mib()
            for number in range(20, 80):
                send(number)
            assert resident_mib() - before < 6
