"""Attack a server with hostile connections. Its memory stays bounded, and other clients are served quickly."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

from support.evidence import Record, Rounds
from support.latency import latencies_of_new_connections
from support.server import Server, running_server

MAX_GROWTH = 64 * 2**20  # bytes
MAX_LATENCY = 1.0  # seconds
GET = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n\r\n"
SCRIPT = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEPOSIT = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = DEPOSIT + b'Transfer-Encoding: chunked\r\n\r\nd\r\n{"amount": 1}\r\n0\r\n'
ESCAPED = b"{" + b",".join(b'"\\u0061%d":1' % n for n in range(550)) + b',"amount":"x"}'
EXPENSIVE = DEPOSIT + b"Content-Length: %d\r\n\r\n%b" % (len(ESCAPED), ESCAPED)

# How many connections an attack opens, and what each of them sends again and again without reading.
ATTACKS: dict[str, tuple[int, bytes]] = {
    "pipelined requests": (5, GET * 500),
    "unread scripts": (400, SCRIPT),
    "endless trailers": (20, CHUNKED + b"X: y\r\n" * 2_000),
    "silent connections": (2_000, b""),
    "incomplete heads": (800, DEPOSIT + b"X: " + b"x" * 15_000),
    "incomplete bodies": (800, DEPOSIT + b"Content-Length: 8000\r\n\r\n" + b" " * 7_000),
    "expensive bodies": (100, EXPENSIVE),
    "descriptions": (100, b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "metrics": (100, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
}


def test_hostile_connections_hold_little_and_delay_no_one(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    seconds = rounds(1, 8)
    with (
        running_server("memory:", tmp_path, "--log-level", "error") as server,
        ProcessPoolExecutor(1, get_context("spawn")) as other_process,
    ):
        other_process.submit(latencies_of_new_connections, server.host_and_port, 1.0).result(timeout=60)
        before, worst, latencies = _memory(server), 0, []
        for connections, data in ATTACKS.values():
            client = other_process.submit(latencies_of_new_connections, server.host_and_port, seconds)
            for _ in _attack(server.host_and_port, connections, data, client.done):
                worst = max(worst, _memory(server))
            latencies += client.result(timeout=60)
        latencies_of_new_connections(server.host_and_port, 1.0)
        after = _memory(server)
    record(
        "Hostile connections hold little memory and delay no one",
        f"{', '.join(ATTACKS)}, {seconds} seconds each, while another client opens connections",
        {
            "MiB before": before // 2**20,
            "MiB at worst": worst // 2**20,
            "MiB after": after // 2**20,
            "requests of the other client": len(latencies),
            "ms for the slowest": round(max(latencies) * 1000),
        },
        above_64_MiB=int(worst - before > MAX_GROWTH),
        slower_than_1_s=sum(latency > MAX_LATENCY for latency in latencies),
    )


def _attack(address: tuple[str, int], connections: int, data: bytes, is_over: Callable[[], bool]) -> Iterator[None]:
    """Send data on many connections, and open them again when the server closes them. Yield now and then."""
    stop = Event()

    def attack() -> None:
        with ExitStack() as stack:
            clients: list[socket.socket | None] = [None] * connections
            for position in cycle(range(connections)):
                if stop.is_set():
                    return
                client = clients[position]
                try:
                    if client is None:
                        client = clients[position] = stack.enter_context(socket.create_connection(address, timeout=10))
                        client.setblocking(False)
                    client.send(data)
                except BlockingIOError:
                    pass
                except OSError:
                    if client is not None:
                        client.close()
                    clients[position] = None

    thread = Thread(target=attack)
    thread.start()
    try:
        while not is_over():
            yield
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join(timeout=30)


def _memory(server: Server) -> int:
    """Return the resident memory of the server in bytes."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096
