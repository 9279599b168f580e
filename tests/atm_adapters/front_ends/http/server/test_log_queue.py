"""The log of a server whose standard error is read late, or never."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from support.atm_process import AtmProcess
from support.server import running_server
from support.stores import demo_store

from atm_adapters.front_ends.http.server.log_queue import MAX_LINES


@contextmanager
def server_with_unread_log(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a server whose standard error is a pipe that the test reads at the end, or never."""
    with AtmProcess(
        "serve",
        "--port",
        "0",
        *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().rpartition(" ")[2].strip()
            yield process, address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def get_often(address: str, times: int) -> None:
    """Read a balance so often. Each answer is a line of the log."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    request = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as client:
        for _ in range(times // 10):
            client.sendall(request * 10)
            answers = b""
            while answers.count(b'"balance":1000.00}') < 10:
                received = client.recv(65536)
                assert received
                answers += received


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unread_log_stops_neither_requests_nor_shutdown(tmp_path: Path, workers: str) -> None:
    store = demo_store(tmp_path / "accounts.sqlite3")
    with server_with_unread_log("--store", store, "--workers", workers) as (process, address):
        get_often(address, 2_000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)


def test_dropped_lines_are_counted_and_the_others_are_complete() -> None:
    requests = MAX_LINES + 2_000
    with server_with_unread_log("--store", "memory:", "--log-format", "json") as (process, address):
        get_often(address, requests)
        assert process.stderr is not None
        with ThreadPoolExecutor(1) as reader:
            log = reader.submit(process.stderr.read)
            assert httpx.get(f"{address}/accounts/1/balance").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == -signal.SIGTERM
        lines = [json.loads(line)["message"] for line in log.result().splitlines()]
    (dropped,) = [int(match[1]) for line in lines if (match := re.match(r"(\d+) lines of the log were dropped", line))]
    assert 0 < dropped < 2_000
    assert lines.count("balance of account 0 checked") + dropped in range(requests, requests + 3)
    assert "Finished server process" in lines[-1]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_loses_no_line(tmp_path: Path, how: int) -> None:
    with running_server("memory:", tmp_path) as server:
        get_often(server.address, 400)
        server.stop(how)
        lines = server.log.read_text().splitlines()
    assert sum("balance of account 0 checked" in line for line in lines) == 400
    assert "Finished server process" in lines[-1]


def test_lines_of_a_program_are_written_before_it_ends() -> None:
    program = """
import logging.config
from atm_adapters.front_ends.http.server.run import log_config
logging.config.dictConfig(log_config("INFO", "console"))
for number in range(5_000):
    logging.info("line %d \\udc80", number)
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert [line.split()[-2:] for line in done.stderr.splitlines()] == [[str(n), "\\udc80"] for n in range(5_000)]
