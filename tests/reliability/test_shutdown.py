"""Stop a server under load: it keeps every acknowledged deposit, and ends within its grace period."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import create_connection

from support.clients import deposits_while_a_server_is_ended
from support.evidence import Record, Rounds
from support.server import Server
from support.stores import demo_store

from atm_core.ports import GRACE_SECONDS

HALF_SENT = [
    b"",
    b"POST /accounts/1/deposit HTTP/1.1\r\nHost: local",
    b"POST /accounts/1/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n",
    b'POST /accounts/1/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"amou',
]


def test_stopped_server_loses_nothing_and_ends_in_time(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    at_once, stops = rounds(1, 4), rounds(1, 5)
    with ThreadPoolExecutor(at_once) as threads:
        servers = list(threads.map(lambda n: _stopped_under_load(tmp_path / str(n), stops), range(at_once)))
    durations, acknowledged, lost, doubled, unexplained_cents = zip(*servers, strict=True)
    seconds = [duration for server in durations for duration in server]
    record(
        "A stopped server keeps acknowledged deposits",
        "SIGTERM to atm serve on SQLite, under 8 clients that retry, with half-sent requests open",
        {"stops": len(seconds), "acknowledged": sum(acknowledged)},
        lost=sum(lost),
        doubled=sum(doubled),
        unexplained_cents=sum(unexplained_cents),
        late=sum(duration > GRACE_SECONDS + 2 for duration in seconds),  # 2 s of tolerance for a busy machine
    )


def _stopped_under_load(folder: Path, times: int) -> tuple[list[float], int, int, int, int]:
    """Return the seconds that each stop took, and the numbers of deposits acknowledged, lost and doubled.

    The last value is the difference between the balances and the journal, in cents.
    """
    folder.mkdir()
    store = demo_store(folder / "accounts.sqlite3")
    durations: list[float] = []

    def stop(server: Server) -> None:
        with _half_sent_requests(server):
            began = time.monotonic()
            assert server.stop(signal.SIGTERM) == -signal.SIGTERM
            durations.append(time.monotonic() - began)

    clients = deposits_while_a_server_is_ended(stop, times, store, folder)
    acknowledged = sum(client.acknowledged for client in clients)
    with closing(sqlite3.connect(store)) as database:
        entries, keys, cents = database.execute(
            "SELECT count(*), count(DISTINCT key), sum(amount) FROM entry WHERE kind = 'deposit'"
        ).fetchone()
        moved = database.execute(
            "SELECT sum(account.balance - entry.balance) FROM account JOIN entry USING (account_number) WHERE entry = 1"
        ).fetchone()[0]
    return durations, acknowledged, acknowledged - keys, entries - keys, abs(moved - cents)


@contextmanager
def _half_sent_requests(server: Server) -> Iterator[None]:
    with ExitStack() as stack:
        for half in HALF_SENT * 5:
            stack.enter_context(create_connection(server.host_and_port)).sendall(half)
        yield
