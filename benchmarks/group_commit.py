"""How many deposits a second the stores take, on one account, by the number of concurrent callers.

What it needs: Mini-ATM; for PostgreSQL, the extra ``mini-atm[postgres]`` and the URL of a database.

How to run it: ``python benchmarks/group_commit.py [postgresql://...]``

What you should see: a table. Every figure is a median of several rounds, in which the rows take turns,
so that they can be compared with each other; at the end of each round the balance has to be right.
Every deposit is on disk before it is answered.
"""

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from atm_adapters.group_commit import BatchRepository, GroupCommit, ThreadedGroupCommit
from atm_adapters.stores import open_store
from atm_core import check_balance, deposit, open_account

CALLERS = (1, 32, 128)
ROUNDS = 5
SECONDS = 1.0
CENT = Decimal("0.01")


async def on_an_event_loop(store: BatchRepository, account_number: str, callers: int) -> int:
    """Deposit cents from concurrent tasks through ``GroupCommit``, and give how many."""
    accounts = GroupCommit(store)
    end = time.perf_counter() + SECONDS

    async def caller() -> int:
        made = 0
        while time.perf_counter() < end:
            await deposit(accounts, account_number, CENT)
            made += 1
        return made

    return sum(await asyncio.gather(*[caller() for _ in range(callers)]))


def in_threads(store: BatchRepository, account_number: str, callers: int) -> int:
    """Deposit cents from threads through ``ThreadedGroupCommit``, and give how many."""
    accounts = ThreadedGroupCommit(store)
    end = time.perf_counter() + SECONDS
    made: list[int] = []

    def caller() -> None:
        count = 0
        while time.perf_counter() < end:
            deposit(accounts, account_number, CENT)
            count += 1
        made.append(count)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made)


FACES: dict[str, Callable[[BatchRepository, str, int], int]] = {
    "event loop": lambda store, number, callers: asyncio.run(on_an_event_loop(store, number, callers)),
    "threads": in_threads,
}


def measure(store: BatchRepository, face: str, callers: int) -> float:
    """Deposits a second on a new account, in one round."""
    account_number = uuid4().hex
    open_account(store, account_number)
    began = time.perf_counter()
    made = FACES[face](store, account_number, callers)
    seconds = time.perf_counter() - began
    if check_balance(store, account_number).balance != made * CENT:
        raise SystemExit(f"{made} deposits were answered, and the balance does not show them all")
    return made / seconds


def main(url: str | None) -> None:
    """Measure a SQLite file, and the database if one is named, and print a table."""
    with TemporaryDirectory(dir=Path.cwd()) as folder:  # not in a temporary file system, which may be memory
        stores = {"SQLite": open_store(f"{folder}/accounts.sqlite3")}
        if url is not None:
            stores["PostgreSQL"] = open_store(url)
        rows: dict[tuple[str, str, int], list[float]] = {
            (name, face, callers): [] for name in stores for face in FACES for callers in CALLERS
        }
        for _ in range(ROUNDS):
            for (name, face, callers), figures in rows.items():
                store = stores[name]
                assert isinstance(store, BatchRepository)
                figures.append(measure(store, face, callers))
        for store in stores.values():
            store.close()

    print(f"| deposits a second, one account | {' | '.join(f'{callers} callers' for callers in CALLERS)} |")
    print(f"|---|{'---|' * len(CALLERS)}")
    for name in stores:
        for face in FACES:
            medians = [f"{statistics.median(rows[name, face, callers]):,.0f}" for callers in CALLERS]
            print(f"| {name}, {face} | {' | '.join(medians)} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
