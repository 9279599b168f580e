"""Every bad request in the table is answered at once, with its status and a problem document. It moves no money."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse

import httpx
import pytest
from support.hostile_requests import HOSTILE, Hostile
from support.server import Server, running_server
from support.stores import demo_store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with running_server(demo_store(folder / "accounts.sqlite3"), folder) as server:
        yield server
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def reader(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address) as reader:
        yield reader


def test_table_has_150_different_requests_or_more() -> None:
    assert len({hostile.what for hostile in HOSTILE}) == len({hostile.request for hostile in HOSTILE}) == len(HOSTILE)
    assert len(HOSTILE) >= 150


@pytest.mark.parametrize("hostile", HOSTILE, ids=[hostile.what for hostile in HOSTILE])
def test_bad_request_gets_its_status_and_moves_no_money(server: Server, reader: httpx.Client, hostile: Hostile) -> None:
    began = time.monotonic()
    status, body = _answer(server, hostile.request)
    assert time.monotonic() - began < 2
    assert status == hostile.status, body
    if not hostile.request.startswith(b"HEAD"):  # a response to HEAD has no body
        problem = json.loads(body)
        assert problem["status"] == hostile.status
        assert problem["detail"]
        assert len(body) < 1_500
    for account in ("0", "1"):
        assert reader.get(f"/accounts/{account}/balance").json() == {"account_number": account, "balance": 1000}


def _answer(server: Server, request: bytes) -> tuple[int, bytes]:
    with socket.create_connection(server.host_and_port, timeout=30) as client:
        with suppress(ConnectionError):  # the server may refuse the request before all of it was sent
            client.sendall(request)
        answer = HTTPResponse(client, method=request.split(b" ")[0].decode("latin-1"))
        answer.begin()
        return answer.status, answer.read()
