"""Hostile connections: smuggled requests, refusals at the wrong time, and clients that hold memory or connections."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from support.server import Server, running_server
from support.waiting import until

from atm_adapters.front_ends.http.server.protocol import MAX_MESSAGE_BYTES, LimitedHttpProtocol

PATH = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"amount": 1}'
DEPOSIT = PATH + b"Content-Length: 13\r\n\r\n" + BODY
CHUNKED = PATH + b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + BODY + b"\r\n0\r\n"
WITHDRAWAL = DEPOSIT.replace(b"/0/deposit", b"/1/withdraw")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server("memory:", tmp_path_factory.mktemp("server")) as server:
        yield server


def balances(server: Server) -> tuple[float, float]:
    first, second = (httpx.get(f"{server.address}/accounts/{number}/balance").json()["balance"] for number in "01")
    return first, second


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send pieces, each after an answer to the one before, then end sending, and return all answers."""
    with socket.create_connection(server.host_and_port, timeout=30) as client:
        answers = b""
        with suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
                if piece is not pieces[-1]:
                    answers += client.recv(65536)
            while data := client.recv(65536):
                answers += data
        return answers


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


LAST = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_body_of_an_upgrade_request_is_not_a_request(server: Server) -> None:
    before = balances(server)
    head = PATH + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(WITHDRAWAL)
    with socket.create_connection(server.host_and_port, timeout=30) as client:
        client.sendall(head)
        httpx.get(f"{server.address}/health/live")  # the server has handled the head
        client.sendall(WITHDRAWAL + LAST)
        answers = b""
        while data := client.recv(65536):
            answers += data
    assert statuses(answers) == [422, 200]
    assert balances(server) == before


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"HTTP/2.0"])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 13\r\n\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + BODY + b"\r\n0\r\n\r\n"]
)
def test_upgrade_is_ignored(server: Server, protocol: bytes, body: bytes) -> None:
    before = balances(server)
    request = PATH + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\n" + body
    assert statuses(exchange(server, request + request + LAST)) == [200, 200, 200]
    assert balances(server) == (before[0] + 2, before[1])


def test_connect_is_refused(server: Server) -> None:
    for target in (b"localhost:80", b"/accounts/0/balance", b"http://localhost/"):
        assert statuses(exchange(server, b"CONNECT " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) == [400]


@pytest.mark.parametrize(
    ("following", "status"),
    [(b"x", 400), (b"no request\r\n\r\n", 400), (b"GET /" + b"x" * 80_000, 431), (PATH + b"Bad\x00: x\r\n\r\n", 400)],
)
def test_refusal_does_not_overtake_an_answer(server: Server, following: bytes, status: int) -> None:
    before = balances(server)
    for requests in (1, 3):
        assert statuses(exchange(server, DEPOSIT * requests + following)) == [200] * requests + [status]
    assert balances(server)[0] == before[0] + 4


def test_blank_lines_between_requests_are_ignored(server: Server) -> None:
    assert statuses(exchange(server, b"\r\n" + DEPOSIT + b"\r\n\r\n" + DEPOSIT + b"\r\n" + LAST)) == [200, 200, 200]


def test_trailers_are_not_header_fields(server: Server) -> None:
    before = balances(server)
    request = CHUNKED.replace(b"Transfer", b"Sec-Fetch-Site: cross-site\r\nTransfer")
    trailers = b"Sec-Fetch-Site: same-origin\r\nIdempotency-Key: a key\r\nHost: evil.example\r\n\r\n"
    assert statuses(exchange(server, request + trailers + LAST)) == [403, 200]
    assert statuses(exchange(server, (CHUNKED + trailers) * 2 + LAST)) == [200, 200, 200]
    assert balances(server)[0] == before[0] + 2


@pytest.mark.parametrize(
    "endless",
    [
        CHUNKED + b"X: y\r\n" * 100_000,
        PATH + b"Transfer-Encoding: chunked\r\n\r\nd;" + b"x" * 500_000,
        PATH + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000,
        PATH.replace(b"/deposit", b"/nowhere") + b"Content-Length: 9000000\r\n\r\n" + b" " * 9_000_000,
    ],
    ids=["trailers", "chunk extension", "tiny chunks", "discarded body"],
)
def test_every_part_of_a_request_is_bounded(server: Server, endless: bytes) -> None:
    assert len(endless) > MAX_MESSAGE_BYTES
    before = balances(server)
    answers = exchange(server, endless)
    assert all(400 <= status < 500 for status in statuses(answers))
    assert balances(server) == before


def memory(server: Server) -> int:
    """Return the resident memory of the server in bytes."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_pipelined_requests_that_no_one_reads_hold_little_memory(server: Server) -> None:
    httpx.get(f"{server.address}/accounts/0/balance")
    before, worst = memory(server), 0
    pipelined = LAST.replace(b"Connection: close\r\n", b"") * 1_000
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(server.host_and_port, timeout=30)) for _ in range(5)]
        for client in clients:
            client.setblocking(False)
        for _ in range(50):
            for client in clients:
                with suppress(BlockingIOError, ConnectionError):
                    client.send(pipelined)
            assert httpx.get(f"{server.address}/accounts/1/balance", timeout=1).status_code == 200
            worst = max(worst, memory(server))
    assert worst - before < 16 * 2**20


class ImpatientProtocol(LimitedHttpProtocol):
    """A protocol with deadlines and bounds that a test can reach."""

    read_seconds = 0.3
    write_seconds = 0.3
    max_connections = 3


class Application:
    """An application that answers when the test says so."""

    def __init__(self, body: bytes = b"done", *, reads_request: bool = True) -> None:
        self.may_answer = threading.Event()
        self.requests = 0
        self._body = body
        self._reads_request = reads_request

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        while self._reads_request and (await receive()).get("more_body"):
            pass
        await asyncio.to_thread(self.may_answer.wait, 30)
        length = b"%d" % len(self._body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self._body})


@contextmanager
def impatient(application: Application) -> Iterator[tuple[str, int]]:
    """Serve an application with :class:`ImpatientProtocol`, and yield the address."""
    config = uvicorn.Config(application, http=ImpatientProtocol, lifespan="off", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            application.may_answer.set()
            server.should_exit = True
            thread.join(timeout=30)


def everything(client: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError):
        while data := client.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("following", [b"\r\n", DEPOSIT[:20], DEPOSIT + DEPOSIT[:20]])
def test_time_of_an_answer_does_not_count_against_the_next_request(following: bytes) -> None:
    application = Application()
    with impatient(application) as address, socket.create_connection(address, timeout=30) as client:
        client.sendall(DEPOSIT + following)
        until(lambda: application.requests == 1)
        client.settimeout(3 * ImpatientProtocol.read_seconds)
        with pytest.raises(TimeoutError):  # no 408, although the deadline is over
            client.recv(65536)
        client.settimeout(30)
        application.may_answer.set()
        answers = everything(client)
    complete = following.count(BODY)
    assert statuses(answers) == [200] * (1 + complete) + [408] * (following != b"\r\n")


def test_connection_of_a_request_answered_early_is_kept_alive_and_closed() -> None:
    application = Application(reads_request=False)
    application.may_answer.set()
    with impatient(application) as address, socket.create_connection(address, timeout=30) as client:
        client.sendall(DEPOSIT[:-5])
        assert statuses(client.recv(65536)) == [200]
        client.sendall(DEPOSIT[-5:] + DEPOSIT[:-5])
        assert statuses(client.recv(65536)) == [200]
        client.sendall(DEPOSIT[-5:])
        assert everything(client) == b""  # closed by the keep-alive timeout


def test_idle_connection_is_closed_one_timeout_after_its_last_answer() -> None:
    application = Application()
    application.may_answer.set()
    with impatient(application) as address, socket.create_connection(address, timeout=30) as client:
        began = time.monotonic()
        while time.monotonic() - began < 1.5:  # longer than the timeout
            client.sendall(DEPOSIT)
            last = time.monotonic()
            assert statuses(client.recv(65536)) == [200]
        assert everything(client) == b""
        assert time.monotonic() - last > 0.9


def test_client_that_does_not_read_is_disconnected() -> None:
    application = Application(b"x" * 32 * 2**20)
    application.may_answer.set()
    with impatient(application) as address, socket.create_connection(address, timeout=30) as client:
        client.sendall(DEPOSIT)
        until(lambda: application.requests == 1)
        began = time.monotonic()
        until(lambda: not _is_connected(address, client))
        assert time.monotonic() - began < 10
        assert len(everything(client)) < 32 * 2**20


def _is_connected(address: tuple[str, int], client: socket.socket) -> bool:
    """Return whether the server's end of the connection exists, as the kernel lists it."""
    port = f":{client.getsockname()[1]:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{address[1]:04X}") and row[2].endswith(port) for row in rows)


def test_slow_reader_that_makes_progress_gets_its_answer() -> None:
    application = Application(b"x" * 2 * 2**20)
    application.may_answer.set()
    with impatient(application) as address:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.connect(address)
            client.settimeout(30)
            client.sendall(DEPOSIT)
            received = 0
            while received < 2 * 2**20:
                received += len(client.recv(64 * 1024))
                threading.Event().wait(0.03)
        assert received >= 2 * 2**20


def test_new_connection_replaces_the_one_idle_for_longest() -> None:
    application = Application()
    application.may_answer.set()
    with impatient(application) as address, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(3)]
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(LAST)
            assert statuses(everything(client)) == [200]
        assert everything(idle[0]) == b""


def test_connection_beyond_the_bound_is_answered_503() -> None:
    application = Application()
    with impatient(application) as address, ExitStack() as stack:
        busy = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(3)]
        for client in busy:
            client.sendall(DEPOSIT + LAST)
        until(lambda: application.requests == 3)
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(LAST)
            assert statuses(everything(client)) == [503]
        application.may_answer.set()
        assert [statuses(everything(client)) for client in busy] == [[200, 200]] * 3
