"""The documents of the API cost a server little, however often and however slowly they are read."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support.server import Server, running_server

MIN_SWAGGER_UI = (5, 24, 2)
MIN_DOM_PURIFY = (3, 2, 4)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server("memory:", tmp_path) as server:
        yield server


def processor_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(server: Server) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("path", ["/openapi.json", "/metrics", "/docs"])
def test_fixed_document_costs_less_than_a_millisecond(server: Server, path: str) -> None:
    with httpx.Client(base_url=server.address) as client:
        first = client.get(path)
        before = processor_seconds(server)
        for _ in range(300):
            assert client.get(path).status_code == 200
    assert first.content
    assert processor_seconds(server) - before < 0.3


def test_clients_that_do_not_read_hold_little_memory(server: Server) -> None:
    script = "/docs/assets/swagger-ui-bundle.js"
    assert len(httpx.get(f"{server.address}{script}").content) > 1_000_000
    before = resident_mib(server)
    with ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(server.host_and_port)
            client.sendall(f"GET {script} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(1).startswith(b"H")
        assert httpx.get(f"{server.address}/accounts/0/balance").status_code == 200
        assert resident_mib(server) - before < 20  # 60 copies of the script take 85


def test_whole_file_arrives_at_a_slow_reader(server: Server) -> None:
    whole = httpx.get(f"{server.address}/docs/assets/swagger-ui.css").content
    slow = b""
    with httpx.stream("GET", f"{server.address}/docs/assets/swagger-ui.css") as answer:
        for piece in answer.iter_bytes(1000):
            slow += piece
    assert slow == whole


def test_bundled_swagger_ui_is_not_older_than_its_minimum(server: Server) -> None:
    script = httpx.get(f"{server.address}/docs/assets/swagger-ui-bundle.js").text

    def version(pattern: str) -> tuple[int, ...]:
        match = re.search(pattern, script)
        assert match is not None, pattern
        return tuple(int(number) for number in match[1].split("."))

    assert version(r'PACKAGE_VERSION:"([\d.]+)"') >= MIN_SWAGGER_UI
    assert version(r'\.version="([\d.]+)",\w+\.removed=\[\]') >= MIN_DOM_PURIFY  # as DOMPurify begins
