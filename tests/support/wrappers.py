"""A blocking wrapper around an async store, so that the same contract tests both."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from atm_core import Account, Page, Transaction
from atm_core.ports import AsyncStore, Store

T = TypeVar("T")


class Blocking(Store):
    """A ``Store`` that calls an async store on its event loop, from any thread."""

    def __init__(self, accounts: AsyncStore, loop: asyncio.AbstractEventLoop) -> None:
        self._accounts = accounts
        self._loop = loop

    def get(self, account_number: str, /) -> Account:
        return self._wait(self._accounts.get(account_number))

    def execute(self, transaction: Transaction, /) -> Account:
        return self._wait(self._accounts.execute(transaction))

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._wait(self._accounts.history(account_number, before=before, after=after, limit=limit))

    def close(self) -> None:
        self._wait(self._accounts.close())

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout=60)


@contextmanager
def blocking(make_store: Callable[[], AsyncStore]) -> Iterator[Blocking]:
    """Run an event loop in another thread, and yield a wrapper around a store that is closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with Blocking(make_store(), loop) as accounts:
            yield accounts
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
