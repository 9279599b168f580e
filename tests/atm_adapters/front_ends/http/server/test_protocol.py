"""Limits on the size and the duration of requests, tested through a socket and a running server."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
import uvicorn
from support.server import Server, running_server

from atm_adapters.front_ends.http.server.protocol import MAX_FIELDS, MAX_HEAD_BYTES, LimitedHttpProtocol

HEAD = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n"
WHOLE = HEAD + b'\r\n{"amount": 1}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server("memory:", tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(server.host_and_port, timeout=LimitedHttpProtocol.read_seconds + 10) as client:
        yield client


def balance(server: Server) -> float:
    amount: float = httpx.get(f"{server.address}/accounts/0/balance").json()["balance"]
    return amount


def everything(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    answer = b""
    try:
        while data := client.recv(65536):
            answer += data
    except ConnectionResetError:
        pass  # data that the server did not read causes a reset after the response
    return answer


def assert_refused(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"content-type: application/problem+json" in head
    assert b"x-frame-options: DENY" in head
    problem = json.loads(body)
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert problem["detail"]


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"x" * 70_000 + b"\r\n",
        b"X" * 70_000 + b": x\r\n",
        b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(70)),
        b"".join(b"X-%d: x\r\n" % n for n in range(MAX_FIELDS)),
    ],
)
@pytest.mark.parametrize("piece", [1_000, 10_000_000])
def test_too_large_head_is_431_in_pieces_of_any_size(server: Server, head: bytes, piece: int) -> None:
    before = balance(server)
    request = HEAD + head + WHOLE.removeprefix(HEAD)
    with socket.create_connection(server.host_and_port, timeout=30) as client:
        try:
            for begin in range(0, len(request), piece):
                client.sendall(request[begin : begin + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server refused the request before it was complete
        answer = everything(client)
    if answer or piece > 1_000:  # a reset may discard the response if the client still sends
        assert_refused(answer, 431)
    assert balance(server) == before


def test_endless_head_is_431_before_it_is_complete(client: socket.socket) -> None:
    client.sendall(b"GET /" + b"x" * 66_000)
    assert_refused(everything(client), 431)


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 100, 431)])
@pytest.mark.parametrize("earlier", [b"", WHOLE], ids=["first", "second"])
def test_bound_of_a_head_holds_behind_another_request(
    client: socket.socket, earlier: bytes, size: int, status: int
) -> None:
    head = HEAD + b"Connection: close\r\nX: "
    client.sendall(earlier + head + b"x" * (size - len(head) - 4) + b'\r\n\r\n{"amount": 1}')
    expected = [200, status] if earlier else [status]
    assert [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", everything(client))] == expected


def test_maximum_number_of_fields_is_accepted(client: socket.socket) -> None:
    client.sendall(HEAD + b"".join(b"X-%d: x\r\n" % n for n in range(MAX_FIELDS - 2)) + b'\r\n{"amount": 1}')
    assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "request_",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /accounts/0/balance HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n{"amount": 1}',
        HEAD + b'Content-Length: 14\r\n\r\n{"amount": 1}',
        HEAD.replace(b"13", b"-13") + b"\r\n",
        b"POST /accounts/0/deposit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_malformed_request_is_400_with_a_problem_document(server: Server, request_: bytes) -> None:
    before = balance(server)
    with socket.create_connection(server.host_and_port, timeout=30) as client:
        client.sendall(request_)
        assert_refused(everything(client), 400)
    assert balance(server) == before


def test_slow_clients_are_disconnected_and_do_not_block_others(server: Server) -> None:
    before = balance(server)
    beginnings = [b"", HEAD, HEAD + b'\r\n{"amount"', WHOLE + HEAD, b"\r\n"]
    with ExitStack() as stack:
        clients = [
            (stack.enter_context(socket.create_connection(server.host_and_port, timeout=30)), beginnings[n % 5])
            for n in range(200)
        ]
        for client, beginning in clients:
            client.sendall(beginning)
        began = time.monotonic()
        served = 0
        while time.monotonic() - began < LimitedHttpProtocol.read_seconds + 1:
            assert httpx.get(f"{server.address}/accounts/1/balance", timeout=1).status_code == 200
            served += 1
            for client, beginning in clients[:25]:
                if beginning:
                    with suppress(ConnectionError):  # the server has closed the connection
                        client.sendall(b"X" if beginning == HEAD else b" ")  # one more byte
        assert served > 100
        answers = [(beginning, everything(client)) for client, beginning in clients]
        assert time.monotonic() - began < LimitedHttpProtocol.read_seconds + 5
    for beginning, answer in answers[25:]:
        if not beginning.strip():
            assert answer == b""
        elif beginning.startswith(WHOLE):
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert_refused(answer[answer.index(b"HTTP/1.1 408") :], 408)
        else:
            assert_refused(answer, 408)
    assert balance(server) == before + 40
    assert "Traceback" not in server.log.read_text()


def test_connection_is_kept_alive_and_accepts_pipelined_requests(client: socket.socket) -> None:
    for requests in (1, 1, 3):
        client.sendall(WHOLE[:30])
        client.sendall(WHOLE[30:] + WHOLE * (requests - 1))
        answer = b""
        while answer.count(b'"balance"') < requests:
            answer += client.recv(65536)
        assert answer.count(b"HTTP/1.1 200 OK") == requests


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts the timers of connections."""

    timers = 0

    def call_later(self, delay: float, callback: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.timers += isinstance(getattr(callback, "__self__", None), LimitedHttpProtocol)
        return super().call_later(delay, callback, *args, **kwargs)


def test_requests_of_a_connection_share_their_timers() -> None:
    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    server = uvicorn.Server(uvicorn.Config(answer, http=LimitedHttpProtocol, lifespan="off", log_config=None))
    loop = CountingLoop()
    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=lambda: loop) as runner:
        thread = threading.Thread(target=runner.run, args=[server.serve(sockets=[listener])])
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=30) as client:
            for _ in range(100):
                client.sendall(WHOLE)
                assert client.recv(65536).endswith(b"done")
            server.should_exit = True
        thread.join(timeout=30)
    assert 1 <= loop.timers <= 4


class ShortDeadlineProtocol(LimitedHttpProtocol):
    """A protocol with a deadline that a test can wait for."""

    read_seconds = 0.2


@pytest.fixture
def short_deadline() -> Iterator[socket.socket]:
    """Connect to a server whose application needs three times the deadline of a request for its response."""

    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(3 * ShortDeadlineProtocol.read_seconds)  # the time of a commit
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    server = uvicorn.Server(uvicorn.Config(slow, http=ShortDeadlineProtocol, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=30) as client:
            yield client
        server.should_exit = True
        thread.join(timeout=30)


def test_deadline_does_not_include_the_response(short_deadline: socket.socket) -> None:
    for _ in range(2):
        short_deadline.sendall(WHOLE)
        answer = HTTPResponse(short_deadline)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b"done")


def test_second_request_on_a_connection_has_a_deadline(short_deadline: socket.socket) -> None:
    short_deadline.sendall(WHOLE)
    answer = HTTPResponse(short_deadline)
    answer.begin()
    assert answer.read() == b"done"
    began = time.monotonic()
    short_deadline.sendall(HEAD)
    assert_refused(everything(short_deadline), 408)
    assert time.monotonic() - began < 3, "closed by the keep-alive timeout, not by the deadline"
