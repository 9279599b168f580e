"""What applies to every request: no answer to HEAD has a body, and no cache keeps large parts of a request."""

import asyncio
import os
from pathlib import Path
from typing import cast

import httpx
import pytest
from litestar.types import HTTPRequestEvent, Message, Receive, Scope, Send
from support.server import running_server

from atm_adapters.bootstrap import open_async_store
from atm_adapters.front_ends.http.app import create_app

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


@pytest.mark.parametrize("path", ["/accounts/0", "/openapi.json", "/nothing"])
def test_application_sends_no_body_for_head(path: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> HTTPRequestEvent:
        return {"type": "http.request", "body": b"", "more_body": False}

    app = create_app(open_async_store("memory:"))
    scope = {
        "type": "http",
        "method": "HEAD",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1")],
    }
    asyncio.run(app(cast("Scope", scope), cast("Receive", receive), cast("Send", send)))
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert b"".join(cast("dict[str, bytes]", body)["body"] for body in bodies) == b""
