"""A caller who pages through a long history sees each entry once, also while deposits go on, on every store."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Semaphore

import pytest
from support.postgres import fresh_schema
from support.server import serving
from support.stores import demo_store

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, Deposit, Entry, deposit, read_history
from atm_core.ports import BatchRepository, Store

ENTRIES = 10_000
PAGE = 250
DEPOSITS_PER_PAGE = 50
DEPOSITS = [Deposit("0", "0.01", f"key-{number}") for number in range(2, ENTRIES + 1)]


@pytest.fixture(params=["memory", "sqlite", "postgres", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store whose account 0 has 10,000 entries."""
    with ExitStack() as stack:
        if request.param == "remote":
            served = InMemoryAccountRepository([Account("0", 1000)])
            served.execute_batch(DEPOSITS)
            host, port = stack.enter_context(serving(served))
            yield stack.enter_context(open_store(f"http://{host}:{port}"))
            return
        url = "memory:" if request.param == "memory" else str(tmp_path / "accounts.sqlite3")
        if request.param == "postgres":
            url = stack.enter_context(fresh_schema(request.getfixturevalue("postgres")))
        opened = stack.enter_context(open_store(demo_store(url)))
        assert isinstance(opened, BatchRepository)
        for first in range(0, len(DEPOSITS), 1000):
            opened.execute_batch(DEPOSITS[first : first + 1000])
        yield opened


def test_newest_first_shows_each_entry_once(store: Store) -> None:
    with deposits_to(store) as more_deposits:
        page = read_history(store, "0", limit=PAGE)
        entries = list(page.entries)
        while page.has_more:
            more_deposits()
            page = read_history(store, "0", before=number_of(entries[-1]), limit=PAGE)
            entries += page.entries
    check_each_once(entries[::-1])


def test_feed_shows_each_entry_once_and_follows_deposits(store: Store) -> None:
    entries: list[Entry] = []
    with deposits_to(store) as more_deposits:
        while len(entries) < ENTRIES + DEPOSITS_PER_PAGE:
            more_deposits()
            entries += read_history(store, "0", after=len(entries), limit=PAGE).entries
    while page := read_history(store, "0", after=len(entries), limit=PAGE).entries:
        entries += page
    check_each_once(entries)
    assert number_of(entries[-1]) == store.get("0").last_entry


def number_of(entry: Entry) -> int:
    return entry.account.last_entry


def check_each_once(entries: Sequence[Entry]) -> None:
    """Check that the entries, oldest first, are all there are, and that each follows from the one before."""
    assert list(map(number_of, entries)) == list(range(1, len(entries) + 1))
    assert len(entries) >= ENTRIES
    cents = [int(entry.account.balance * 100) for entry in entries]
    assert cents == list(range(100_000, 100_000 + len(entries)))


@contextmanager
def deposits_to(store: Store) -> Iterator[Callable[[], None]]:
    """Let another thread deposit while the block runs.

    The block gets a function that allows more deposits, and returns when the first of them is made.
    """
    allowed, deposited, enough = Semaphore(0), Event(), Event()

    def deposits() -> None:
        while allowed.acquire(timeout=60) and not enough.is_set():
            deposit(store, "0", "0.01")
            deposited.set()

    def more_deposits() -> None:
        deposited.clear()
        allowed.release(DEPOSITS_PER_PAGE)
        assert deposited.wait(30)

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(deposits)
        try:
            yield more_deposits
        finally:
            enough.set()
            allowed.release()
            writing.result(timeout=60)
