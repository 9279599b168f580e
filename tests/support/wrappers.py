"""A blocking wrapper around an async store, so that the same contract tests both."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from atm_core import Account, AccountRepository, Transaction
from atm_core.ports import AsyncStore


class Blocking:
    """An ``AccountRepository[Account]`` that calls an async repository on its event loop, from any thread."""

    def __init__(self, accounts: AccountRepository[Awaitable[Account]], loop: asyncio.AbstractEventLoop) -> None:
        self._accounts = accounts
        self._loop = loop

    def get(self, account_number: str, /) -> Account:
        return self._wait(lambda: self._accounts.get(account_number))

    def add(self, account: Account, /) -> Account:
        return self._wait(lambda: self._accounts.add(account))

    def execute(self, transaction: Transaction, /) -> Account:
        return self._wait(lambda: self._accounts.execute(transaction))

    def _wait(self, call: Callable[[], Awaitable[Account]]) -> Account:
        async def run() -> Account:
            return await call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=60)


@contextmanager
def blocking(make_store: Callable[[], AsyncStore]) -> Iterator[Blocking]:
    """Run an event loop in another thread, and yield a wrapper around a store that is closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        store = make_store()
        yield Blocking(store, loop)
        asyncio.run_coroutine_threadsafe(store.close(), loop).result(timeout=60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
