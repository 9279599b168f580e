"""Request ids in responses and in the log, in both log formats."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.server import Server, running_server
from support.waiting import until

SECURITY_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server("memory:", tmp_path_factory.mktemp("server")) as server:
        yield server


def get(server: Server, path: str, request_id: str | None = None) -> httpx.Response:
    return httpx.get(f"{server.address}{path}", headers={} if request_id is None else {"X-Request-ID": request_id})


@pytest.mark.parametrize("request_id", ["a", "x" * 128, "0f-.._Z9", "7d8e6a0c-6a2f-4d52-9f1c-1a2b3c4d5e6f"])
def test_request_id_of_the_client_is_returned_and_logged(server: Server, request_id: str) -> None:
    assert get(server, "/accounts/0/balance", request_id).headers["x-request-id"] == request_id
    assert get(server, "/accounts/9/balance", request_id).headers["x-request-id"] == request_id

    def lines() -> list[str]:
        log = server.log.read_text().splitlines()
        return [line.partition(": ")[2] for line in log if f" [{request_id}] " in line]

    expected = ["balance of account 0 checked", "refused for account '9': account-not-found"]
    until(lambda: lines() == expected)


@pytest.mark.parametrize("request_id", [None, "", "x" * 129, "a b", "a\tb", "\u00e9", "a]b", "$(id)"])
def test_missing_or_malformed_request_id_is_replaced(server: Server, request_id: str | None) -> None:
    headers = {} if request_id is None else {b"X-Request-ID": request_id.encode("latin-1")}
    ids = {httpx.get(f"{server.address}/accounts/0/balance", headers=headers).headers["x-request-id"] for _ in "ab"}
    assert len(ids) == 2
    for new in ids:
        assert re.fullmatch("[0-9a-f]{32}", new)
        until(lambda new=new: f"[{new}]" in server.log.read_text())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/docs", 200),
        ("GET", "/docs/assets/swagger-ui.css", 200),
        ("GET", "/nothing/here", 404),
        ("PUT", "/accounts/0/deposit", 405),
        ("POST", "/accounts/0/deposit", 422),
        ("OPTIONS", "/accounts/0/deposit", 204),
    ],
)
def test_every_response_has_the_request_id_and_forbids_framing(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, f"{server.address}{path}", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (status, ["mine"])
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value]


def test_concurrent_requests_keep_their_ids(server: Server) -> None:
    def refused(number: int) -> None:
        for _ in range(20):
            assert (
                get(server, f"/accounts/mix-{number}/balance", f"id-{number}").headers["x-request-id"] == f"id-{number}"
            )

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(refused, range(8)))

    def pairs() -> list[tuple[str, str]]:
        return re.findall(r"\[id-(\d)\] .* 'mix-(\d)'", server.log.read_text())

    until(lambda: len(pairs()) == 160)
    assert all(request_id == account for request_id, account in pairs())


def test_every_line_of_a_json_log_is_an_object(tmp_path: Path) -> None:
    """The lines of uvicorn are objects, too."""
    with running_server("memory:", tmp_path, "--log-format", "json") as server:
        get(server, "/accounts/0/balance", "mine")
        get(server, "/accounts/9/balance", "mine")
        server.stop()
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    for line in lines:
        assert set(line) == {"timestamp", "level", "logger", "request_id", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", line["timestamp"])
    assert {"level": "INFO", "logger": "uvicorn.error", "request_id": "-"}.items() <= lines[0].items()
    assert [list(line.values())[:4] for line in lines if line["request_id"] == "mine"] == [
        ["INFO", "atm_adapters.front_ends.http.routes", "mine", "balance of account 0 checked"],
        ["WARNING", "atm_adapters.front_ends.http.problems", "mine", "refused for account '9': account-not-found"],
    ]
    assert "Finished server process" in lines[-1]["message"]


def test_unexpected_error_is_logged_with_id_and_traceback_in_one_line() -> None:
    program = """
import asyncio, httpx, uvicorn
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.front_ends.http.app import create_app
from atm_adapters.front_ends.http.server.run import log_config

class Broken:
    def get(self, account_number):
        raise RuntimeError("no such thing")
    add = execute = get

async def main():
    transport = httpx.ASGITransport(create_app(InlineBridge(Broken())))
    async with httpx.AsyncClient(transport=transport, base_url="http://atm") as client:
        answer = await client.get("/accounts/0/balance", headers={"X-Request-ID": "mine"})
        print(answer.status_code, answer.headers["x-request-id"])

uvicorn.Config("", log_config=log_config("INFO", "json"))
asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert done.stdout == "500 mine\n", done.stderr
    (line,) = [json.loads(line) for line in done.stderr.splitlines() if "httpx" not in line]
    assert (line["level"], line["request_id"], line["message"]) == ("ERROR", "mine", "unexpected error")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("RuntimeError: no such thing")
