"""SQLite files in trouble: the server answers 503 or correctly, logs the reason, and recovers when the trouble ends."""

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
from support.atm_process import ATM
from support.evidence import Record, Rounds
from support.server import Server, running_server
from support.waiting import until

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Deposit

BALANCE = 1020

# File permissions bind root only without these capabilities.
BOUND_BY_PERMISSIONS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


class Client:
    """Deposits 1.00 at a time to account 0, and tracks the range in which its balance must be.

    :param secret: the store's location, which no answer may contain.
    """

    def __init__(self, http: httpx.Client, secret: str) -> None:
        self._http = http
        self._secret = secret
        self._sent = 0
        self._unknown: set[str] = set()
        self.unacknowledged: list[str] = []
        self.min_balance = self.max_balance = BALANCE
        self.wrong_balances = 0

    def read(self) -> bool:
        """Read the balance, and return whether the server answered it."""
        answer = self._http.get("/accounts/0/balance")
        if answer.status_code != 200:
            assert self._problem(answer) == "store-unavailable"
            return False
        self._check_balance_in(answer)
        return True

    def is_not_ready(self) -> bool:
        """Return whether the server says that it is not ready."""
        answer = self._http.get("/health/ready")
        if answer.status_code != 200:
            assert self._problem(answer) == "store-unavailable"
        return answer.status_code != 200

    def deposit(self, key: str | None = None) -> bool:
        """Make a new deposit, or retry the one with this key, and return whether it is acknowledged."""
        if key is None:
            key = f"during {self._sent}"
            self._sent += 1
        answer = self._http.post("/accounts/0/deposit", json={"amount": 1}, headers={"Idempotency-Key": key})
        if answer.status_code == 200:
            self.min_balance += 1
            if key not in self._unknown:
                self.max_balance += 1
                self._check_balance_in(answer)
            return True
        if self._problem(answer) == "outcome-unknown":
            self.max_balance += key not in self._unknown
            self._unknown.add(key)
        else:
            assert self._problem(answer) == "store-unavailable"
        self.unacknowledged.append(key)
        return False

    def _check_balance_in(self, answer: httpx.Response) -> None:
        self.wrong_balances += not self.min_balance <= answer.json()["balance"] <= self.max_balance

    def _problem(self, answer: httpx.Response) -> str:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert self._secret not in answer.text
        kind: str = answer.json()["type"]
        return kind.removeprefix("urn:mini-atm:error:")


@contextmanager
def files_may_not_grow(server: Server) -> Iterator[None]:
    """Limit the server's files to 16 KiB. The store's write-ahead log soon reaches that, the server's log never."""
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (16 * 1024, unlimited[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)


@contextmanager
def overwritten(path: Path, damage: Callable[[bytes], bytes]) -> Iterator[None]:
    """Overwrite a file in place, and restore it at the end."""
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    yield
    path.write_bytes(whole)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of a SQLite file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make a file read-only."""
    path.chmod(0o444)
    yield
    path.chmod(0o644)


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """Move a file or folder away, and back at the end."""
    aside = path.with_name("aside")
    path.rename(aside)
    yield
    assert not path.exists()
    aside.rename(path)


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    """Replace a file by a copy, and put the original back at the end."""
    with moved(path):
        path.write_bytes(path.with_name("aside").read_bytes())
        yield
        path.unlink()


@contextmanager
def replaced_by_its_log(path: Path) -> Iterator[None]:
    """Move a file away, but leave its log, as if only the file had been moved after a crash."""
    aside, log = path.with_name("aside"), Path(f"{path}-wal")
    path.rename(aside)
    log.write_bytes(b"acknowledged transactions")
    yield
    log.unlink()
    aside.rename(path)


@contextmanager
def upgraded(path: Path) -> Iterator[None]:
    """Give the schema a newer version, and the present one at the end."""
    with closing(sqlite3.connect(path)) as other:
        ((version,),) = other.execute("PRAGMA user_version").fetchall()
        other.execute(f"PRAGMA user_version = {version + 1}")
        yield
        other.execute(f"PRAGMA user_version = {version}")


def cut_in_half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def garbage(whole: bytes) -> bytes:
    return os.urandom(len(whole))


def garbage_after_the_first_page(whole: bytes) -> bytes:
    return whole[:1024] + os.urandom(len(whole) - 1024)


TROUBLE_WHILE_SERVING: dict[str, Callable[[Path, Server], AbstractContextManager[None]]] = {
    "no space": lambda _, server: files_may_not_grow(server),
    "emptied": lambda path, _: overwritten(path, lambda _: b""),
    "cut in half": lambda path, _: overwritten(path, cut_in_half),
    "garbage": lambda path, _: overwritten(path, garbage),
    "garbage after the first page": lambda path, _: overwritten(path, garbage_after_the_first_page),
    "replaced": lambda path, _: replaced(path),
    "file moved": lambda path, _: moved(path),
    "log moved": lambda path, _: moved(Path(f"{path}-wal")),
    "folder moved": lambda path, _: moved(path.parent),
    "schema upgraded": lambda path, _: upgraded(path),
    "locked": lambda path, _: locked(path),  # the last, because waiting for the lock takes 10 s
}

TROUBLE_AT_START: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], str]] = {
    "cut in half": (lambda path: overwritten(path, cut_in_half), "database disk image is malformed"),
    "garbage": (lambda path: overwritten(path, garbage), "file is not a database"),
    "read-only": (read_only, "the file is not writable: use a user who may write to it"),
    "only its log is left": (
        replaced_by_its_log,
        "the file is missing or empty, but its log {path}-wal is not: restore the file, or move the log away",
    ),
}


def make_store(folder: Path) -> Path:
    """Create a SQLite file with ``BALANCE`` in account 0."""
    folder.mkdir()
    path = folder / "accounts.sqlite3"
    deposits = [Deposit("0", 1, f"before {number}") for number in range(20)]
    with closing(SqliteAccountRepository(path, [Account("0", BALANCE - len(deposits))])) as store:
        store.execute_batch(deposits)
    return path


def balance_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((cents,),) = connection.execute("SELECT balance FROM account WHERE account_number = '0'").fetchall()
    return int(cents) // 100


def test_damaged_or_locked_file_means_503_until_it_is_restored(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    names = list(TROUBLE_WHILE_SERVING)[: rounds(-1, len(TROUBLE_WHILE_SERVING))]
    counts: Counter[str] = Counter()
    for name in names:
        path = make_store(tmp_path / name)
        with (
            running_server(str(path), path.parent, "--log-level", "error") as server,
            httpx.Client(base_url=server.address, timeout=60) as http,
        ):
            http.get("/docs")  # waits until the server is ready, and leaves no page of the store in its cache
            client = Client(http, secret=str(path))
            with TROUBLE_WHILE_SERVING[name](path, server):
                while client.deposit():
                    assert client.read(), name
                client.read()
                client.deposit()  # a second failure must not prevent recovery
                until(client.is_not_ready, why=name)
            assert client.read(), name
            unacknowledged = list(client.unacknowledged)
            for key in unacknowledged:
                assert client.deposit(key), name
            assert client.read(), name
            assert not client.is_not_ready(), name
            assert server.stop(signal.SIGINT) == 0
            log = server.log.read_text()
        assert f"The store {path} " in log
        assert "Traceback" not in log
        balance = balance_in(path)
        counts["unacknowledged"] += len(unacknowledged)
        counts["acknowledged"] += client.min_balance - BALANCE
        counts["wrong balances"] += client.wrong_balances
        counts["lost"] += max(0, client.min_balance - balance)
        counts["doubled"] += max(0, balance - client.max_balance)
    record(
        "A failing store means 503, never a wrong balance, and recovery",
        "SQLite's file cut, overwritten, moved, replaced, locked or out of space while a server runs",
        {
            "kinds of trouble": len(names),
            "unacknowledged": counts["unacknowledged"],
            "acknowledged": counts["acknowledged"],
        },
        wrong_balances=counts["wrong balances"],
        lost=counts["lost"],
        doubled=counts["doubled"],
    )


@pytest.mark.parametrize("name", TROUBLE_AT_START)
def test_server_does_not_start_on_damaged_file_and_says_why(tmp_path: Path, name: str) -> None:
    trouble, reason = TROUBLE_AT_START[name]
    path = make_store(tmp_path / "store")
    with trouble(path):
        done = subprocess.run(  # noqa: S603 - the project's own command
            [*BOUND_BY_PERMISSIONS, ATM, "serve", "--port", "0", "--store", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (4, "")
    assert " ".join(done.stderr.split()) == f"atm: The store {path} is unavailable: {reason.format(path=path)}."
    with running_server(str(path), tmp_path) as server:
        assert httpx.get(f"{server.address}/accounts/0/balance").json()["balance"] == BALANCE
