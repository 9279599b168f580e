"""A server that is told to end under load: what it acknowledged is there, and it ends within its grace period."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import create_connection

from support.clients import deposits_while_a_server_is_ended
from support.evidence import Often, Record
from support.server import Server

from atm_adapters.http.server import GRACE_SECONDS

AT_ONCE = 4
HALF_SENT = [
    b"",
    b"POST /accounts/1/deposit HTTP/1.1\r\nHost: local",
    b"POST /accounts/1/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n",
    b'POST /accounts/1/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"amou',
]


def test_a_server_told_to_end_under_load_keeps_what_it_acknowledged_and_ends_within_its_grace_period(
    tmp_path: Path, often: Often, record: Record
) -> None:
    rounds = often(1, 5)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        servers = list(threads.map(lambda n: _ended_under_load(tmp_path / str(n), rounds), range(AT_ONCE)))
    lasted, acknowledged, lost, doubled, half_done = zip(*servers, strict=True)
    ends = [seconds for server in lasted for seconds in server]
    record(
        "A server told to end keeps what it acknowledged",
        "SIGTERM to atm serve on SQLite, under 8 clients that retry, with half-sent requests open",
        {"ends": len(ends), "acknowledged": sum(acknowledged)},
        lost=sum(lost),
        doubled=sum(doubled),
        half_done=sum(half_done),
        # The two seconds are for a machine that has other things to do.
        late=sum(seconds > GRACE_SECONDS + 2 for seconds in ends),
    )


def _ended_under_load(folder: Path, times: int) -> tuple[list[float], int, int, int, int]:
    """How many seconds each end took, how much was acknowledged, and how much of it was lost, doubled or half-done."""
    folder.mkdir()
    store = folder / "accounts.sqlite3"
    lasted: list[float] = []

    def end(server: Server) -> None:
        with _half_sent_requests(server):
            began = time.monotonic()
            assert server.stop(signal.SIGTERM) == -signal.SIGTERM
            lasted.append(time.monotonic() - began)

    clients = deposits_while_a_server_is_ended(end, times, str(store), folder)
    acknowledged = sum(client.acknowledged for client in clients)
    with closing(sqlite3.connect(store)) as database:
        entries, keys, cents = database.execute(
            "SELECT count(*), count(DISTINCT key), sum(amount) FROM journal"
        ).fetchone()
        moved = database.execute("SELECT sum(balance - opening) FROM account").fetchone()[0]
    return lasted, acknowledged, acknowledged - keys, entries - keys, abs(moved - cents)


@contextmanager
def _half_sent_requests(server: Server) -> Iterator[None]:
    with ExitStack() as stack:
        for half in HALF_SENT * 5:
            stack.enter_context(create_connection(server.host_and_port)).sendall(half)
        yield
