"""A store that is not available when a worker starts, and is opened as soon as it is."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

from atm_core import Account, Page, StoreUnavailable, Transaction
from atm_core.ports import AsyncStore, Durability, ReportsDurability

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0


class LateStore(AsyncStore):
    """An ``AsyncStore`` whose calls raise ``StoreUnavailable`` until the store is open.

    :param open_: opens the store. It may block, and it is called from a thread.
    :param error: the error of the first attempt.
    """

    def __init__(self, open_: Callable[[], AsyncStore], error: StoreUnavailable) -> None:
        self._open = open_
        self._error = error
        self._store: AsyncStore | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to try, once a second. The event loop of the caller owns the store."""
        logger.error("%s", self._error)
        self._opening = asyncio.create_task(self._open_soon())

    async def get(self, account_number: str, /) -> Account:
        return await self._opened().get(account_number)

    async def execute(self, transaction: Transaction, /) -> Account:
        return await self._opened().execute(transaction)

    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return await self._opened().history(account_number, before=before, after=after, limit=limit)

    async def durability(self) -> Durability | None:
        store = self._opened()
        return await store.durability() if isinstance(store, ReportsDurability) else None

    async def close(self) -> None:
        """Stop trying, or close the store."""
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        if self._store is not None:
            await self._store.close()

    def _opened(self) -> AsyncStore:
        if self._store is None:
            raise StoreUnavailable(self._error.store, self._error.reason)
        return self._store

    async def _open_soon(self) -> None:
        while self._store is None:
            await asyncio.sleep(_RETRY_SECONDS)
            self._store = await self._try_to_open()
        logger.info("the store is available now")

    async def _try_to_open(self) -> AsyncStore | None:
        """Open the store in a daemon thread, because an attempt that hangs must not delay a shutdown."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[AsyncStore | None] = loop.create_future()

        def answer(store: AsyncStore | None) -> None:
            if not outcome.done():
                outcome.set_result(store)

        def attempt() -> None:
            try:
                store = self._open()
            except StoreUnavailable as error:
                self._error, store = error, None
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(answer, store)

        Thread(target=attempt, daemon=True).start()
        return await outcome
