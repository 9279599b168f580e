"""The load on the library without HTTP, and on the programs that it is compared with."""

import asyncio
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from reference import sqlite_loop
from support.postgres import Postgres

from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_core import Deposit, deposit, get_account
from atm_core.ports import BatchRepository

HERE = Path(__file__).parent
SECONDS = 1.0
CENT = Decimal("0.01")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Accounts:
    """A store, the numbers of its accounts, and the cents that should be in each."""

    def __init__(self, store: BatchRepository, numbers: Iterable[str], cents_in_each: int = 0) -> None:
        self.store = store
        self.cents = dict.fromkeys(numbers, cents_in_each)
        self.numbers = list(self.cents)

    def check(self, touched: Iterable[str]) -> None:
        """Exit unless the store's balances match its answers."""
        for number in set(touched):
            if get_account(self.store, number).balance != self.cents[number] * CENT:
                raise SystemExit(f"account {number} lacks a deposit that was answered")


def on_an_event_loop(accounts: Accounts, callers: int) -> float:
    """Return the deposits a second of concurrent tasks that call ``GroupCommit``, each on a random account."""
    touched: list[str] = []

    async def run_callers() -> None:
        group_commit = GroupCommit(accounts.store)

        async def caller() -> None:
            while time.perf_counter() < end:
                number = random.choice(accounts.numbers)
                await deposit(group_commit, number, CENT)
                touched.append(number)

        await asyncio.gather(*[caller() for _ in range(callers)])

    end = time.perf_counter() + SECONDS
    asyncio.run(run_callers())
    return _rate(accounts, touched, time.perf_counter() - end + SECONDS)


def in_threads(accounts: Accounts, callers: int) -> float:
    """Return the deposits a second of threads that call ``ThreadedGroupCommit``."""
    touched: list[str] = []
    group_commit = ThreadedGroupCommit(accounts.store)

    def caller() -> None:
        while time.perf_counter() < end:
            number = random.choice(accounts.numbers)
            deposit(group_commit, number, CENT)
            touched.append(number)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    end = time.perf_counter() + SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _rate(accounts, touched, time.perf_counter() - end + SECONDS)


def in_batches(accounts: Accounts, size: int) -> float:
    """Return the deposits a second of one caller of ``execute_batch``, which also creates the transactions."""
    touched: list[str] = []
    (number,) = accounts.numbers
    began = time.perf_counter()
    while time.perf_counter() < began + SECONDS:
        accounts.store.execute_batch([Deposit(number, CENT) for _ in range(size)])
        touched.extend([number] * size)
    return _rate(accounts, touched, time.perf_counter() - began)


def bare_sqlite(path: Path, account_number: str, per_commit: int = 1) -> float:
    """Return the deposits a second of the bare ``sqlite3`` loop."""
    made = 0
    began = time.perf_counter()
    while time.perf_counter() < began + SECONDS:
        count = max(per_commit, 256)
        sqlite_loop.deposits(path, account_number, count, per_commit=per_commit)
        made += count
    return made / (time.perf_counter() - began)


def pgbench(server: Postgres, accounts: int, clients: int) -> float:
    """Return the deposits a second of PostgreSQL's ``pgbench``, with one statement for each."""
    program = server.programs / "pgbench"
    if not program.exists():
        raise SystemExit("pgbench is not installed; it comes with PostgreSQL: on Debian, apt install postgresql")
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [
            *(program, "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=2", "--time=2"),
            *(f"--file={HERE / 'reference/deposit.pgbench.sql'}", f"--define=accounts={accounts}", server.url),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def bytes_an_account(count: int) -> float:
    """Return the bytes of memory for each account of the in-memory repository, measured in a new process."""
    program = f"""
from pathlib import Path

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import open_account

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * {PAGE_BYTES}

accounts = InMemoryAccountRepository()
before = resident()
for number in range({count}):
    open_account(accounts, f"{{number:07}}", "1000.00")
print((resident() - before) / {count})
"""
    return float(subprocess.check_output([sys.executable, "-c", program], text=True))  # noqa: S603 - the program above


def command_seconds(*command: str) -> float:
    """Return the seconds that a command takes: the minimum of five runs."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - fixed commands
        return time.perf_counter() - began

    return min(once() for _ in range(5))


def _rate(accounts: Accounts, touched: list[str], seconds: float) -> float:
    for number in touched:
        accounts.cents[number] += 1
    accounts.check(touched)
    return len(touched) / seconds
