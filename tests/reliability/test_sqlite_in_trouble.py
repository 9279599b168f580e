"""A store in trouble: the server says 503 or what is right, its log says why, and it goes on when the trouble ends."""

import os
import resource
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from support.evidence import Often, Record
from support.server import ATM, Server, running_server

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Transaction

BALANCE = 1020

# Permissions don't stop root, unless it gives up what lets it override them.
BOUND_BY_PERMISSIONS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


class Customer:
    """Deposits 1 at a time to account 0, and knows between which limits its balance is.

    :param secret: what no answer may contain: where the store is.
    """

    def __init__(self, http: httpx.Client, secret: str) -> None:
        self._http = http
        self._secret = secret
        self._sent = 0
        self._in_doubt: set[str] = set()
        self.refused: list[str] = []
        self.least = self.most = BALANCE
        self.wrong_balances = 0

    def reads(self) -> bool:
        """Say whether the balance is answered."""
        answer = self._http.get("/accounts/0/balance")
        if answer.status_code != 200:
            assert self._problem(answer) == "store-unavailable"
            return False
        self._look_at(answer)
        return True

    def deposits(self, key: str | None = None) -> bool:
        """Say whether a deposit is acknowledged, a new one unless a key names an earlier one."""
        if key is None:
            key = f"during {self._sent}"
            self._sent += 1
        answer = self._http.post("/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key})
        if answer.status_code == 200:
            self.least += 1
            if key not in self._in_doubt:
                self.most += 1
                self._look_at(answer)
            return True
        if self._problem(answer) == "outcome-unknown":
            self.most += key not in self._in_doubt
            self._in_doubt.add(key)
        else:
            assert self._problem(answer) == "store-unavailable"
        self.refused.append(key)
        return False

    def _look_at(self, answer: httpx.Response) -> None:
        self.wrong_balances += not self.least <= answer.json()["balance"] <= self.most

    def _problem(self, answer: httpx.Response) -> str:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert self._secret not in answer.text
        kind: str = answer.json()["type"]
        return kind.removeprefix("urn:mini-atm:error:")


@contextmanager
def files_may_not_grow(server: Server) -> Iterator[None]:
    """Let no file of the server's become larger than 16 KiB: for the store's log that is soon, for its own never."""
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (16 * 1024, unlimited[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)


@contextmanager
def overwritten(path: Path, damage: Callable[[bytes], bytes]) -> Iterator[None]:
    """Overwrite a file, and at the end restore it, in place."""
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    yield
    path.write_bytes(whole)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Write to a file without coming to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let nobody write to a file."""
    path.chmod(0o444)
    yield
    path.chmod(0o644)


@contextmanager
def replaced_by_its_log(path: Path) -> Iterator[None]:
    """Take a file away, and leave a log of it, as if it had been moved after a crash."""
    aside, log = path.with_name("aside"), Path(f"{path}-wal")
    path.rename(aside)
    log.write_bytes(b"what was answered")
    yield
    log.unlink()
    aside.rename(path)


def cut_in_half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def garbage(whole: bytes) -> bytes:
    return os.urandom(len(whole))


def garbage_after_the_first_page(whole: bytes) -> bytes:
    return whole[:1024] + os.urandom(len(whole) - 1024)


WHILE_IT_SERVES: dict[str, Callable[[Path, Server], AbstractContextManager[None]]] = {
    "no room to grow": lambda _, server: files_may_not_grow(server),
    "emptied": lambda path, _: overwritten(path, lambda _: b""),
    "cut in half": lambda path, _: overwritten(path, cut_in_half),
    "garbage": lambda path, _: overwritten(path, garbage),
    "garbage after the first page": lambda path, _: overwritten(path, garbage_after_the_first_page),
    "locked": lambda path, _: locked(path),  # the last, because it takes the ten seconds that one waits for a lock
}

AS_IT_STARTS: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], str]] = {
    "cut in half": (lambda path: overwritten(path, cut_in_half), "database disk image is malformed"),
    "garbage": (lambda path: overwritten(path, garbage), "file is not a database"),
    "read-only": (read_only, "it may not be written"),
    "only its log is left": (
        replaced_by_its_log,
        "it is missing or empty, but its log {path}-wal is not: restore it, or move the log away",
    ),
}


def make_store(folder: Path) -> Path:
    """Make a SQLite file with ``BALANCE`` on account 0."""
    folder.mkdir()
    path = folder / "accounts.sqlite3"
    deposits = [Transaction("0", "deposit", 1, f"before {number}") for number in range(20)]
    with closing(SqliteAccountRepository(path, [Account("0", BALANCE - len(deposits))])) as store:
        store.execute_batch(deposits)
    return path


def balance_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((cents,),) = connection.execute("SELECT balance FROM account WHERE account_number = '0'").fetchall()
    return int(cents) // 100


def test_trouble_with_a_sqlite_file_is_503_until_it_ends(tmp_path: Path, often: Often, record: Record) -> None:
    names = list(WHILE_IT_SERVES)[: often(-1, len(WHILE_IT_SERVES))]
    counts: Counter[str] = Counter()
    for name in names:
        path = make_store(tmp_path / name)
        with (
            running_server(str(path), path.parent, "--log-level", "error") as server,
            httpx.Client(base_url=server.address, timeout=60) as http,
        ):
            http.get("/docs")  # it has started by now, and has read nothing that it could answer from memory
            customer = Customer(http, secret=str(path))
            with WHILE_IT_SERVES[name](path, server):
                while customer.deposits():
                    assert customer.reads(), name
                customer.reads()
            assert customer.reads(), name
            refused = list(customer.refused)
            for key in refused:
                assert customer.deposits(key), name
            assert customer.reads(), name
            assert server.stop(signal.SIGINT) == 0
            log = server.log.read_text()
        assert f"The store {path} " in log
        assert "Traceback" not in log
        balance = balance_in(path)
        counts["refused"] += len(refused)
        counts["acknowledged"] += customer.least - BALANCE
        counts["wrong balances"] += customer.wrong_balances
        counts["lost"] += max(0, customer.least - balance)
        counts["doubled"] += max(0, balance - customer.most)
    record(
        "A store in trouble is 503, never a wrong balance, and back when it ends",
        "SQLite's file cut, overwritten, locked or out of room while a server runs",
        {"kinds of trouble": len(names), "deposits refused": counts["refused"], "acknowledged": counts["acknowledged"]},
        wrong_balances=counts["wrong balances"],
        lost=counts["lost"],
        doubled=counts["doubled"],
    )


@pytest.mark.parametrize("name", AS_IT_STARTS)
def test_a_server_does_not_start_on_a_sqlite_file_in_trouble_and_says_why(tmp_path: Path, name: str) -> None:
    trouble, reason = AS_IT_STARTS[name]
    path = make_store(tmp_path / "store")
    with trouble(path):
        done = subprocess.run(  # noqa: S603 - our own command
            [*BOUND_BY_PERMISSIONS, ATM, "serve", "--port", "0", "--store", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (4, "")
    assert " ".join(done.stderr.split()) == f"atm: The store {path} is unavailable: {reason.format(path=path)}."
    with running_server(str(path), tmp_path) as server:
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == BALANCE
