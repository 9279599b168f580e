"""Bridges: an async repository over a blocking one."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Lock
from typing import Any, Final, TypeVar

from atm_adapters.repositories.ownership import ProcessGuard
from atm_core import Account, AccountRepository, Overloaded, Page, StoreUnavailable, Transaction
from atm_core.ports import GRACE_SECONDS, AsyncStore, Durability, ReportsDurability, Store

T = TypeVar("T")
R = TypeVar("R")

MAX_WAITING: Final = 10_000


class InlineBridge(AsyncStore):
    """An ``AsyncStore`` that calls a repository that never blocks, such as memory."""

    def __init__(self, repository: Store) -> None:
        self._repository = repository

    async def get(self, account_number: str, /) -> Account:
        return self._repository.get(account_number)

    async def execute(self, transaction: Transaction, /) -> Account:
        return self._repository.execute(transaction)

    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._repository.history(account_number, before=before, after=after, limit=limit)

    async def durability(self) -> Durability | None:
        return durability_of(self._repository)

    async def close(self) -> None:
        """Close the repository. Every call has finished before it returned."""
        self._repository.close()


class ThreadPoolBridge(AsyncStore):
    """An ``AsyncStore`` that calls a blocking repository in a thread pool.

    If the caller is cancelled, the call is finished nevertheless and may have moved money. All callers must be on
    one event loop. Calls from another one raise ``StoreUnavailable``.

    :param repository: safe to share between threads. ``close`` closes it.
    :param threads: the number of calls that run at the same time.
    :param max_waiting: the number of calls under way at which further ones are refused with ``Overloaded``. Those of
        cancelled callers count until they are finished.
    """

    def __init__(self, repository: Store, *, threads: int = 32, max_waiting: int = MAX_WAITING) -> None:
        self._repository = repository
        self._pool = BoundedThreadPool(threads, max_waiting)

    async def get(self, account_number: str, /) -> Account:
        return await self._pool.submit(self._repository.get, account_number)

    async def execute(self, transaction: Transaction, /) -> Account:
        return await self._pool.submit(self._repository.execute, transaction)

    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        read = partial(self._repository.history, before=before, after=after, limit=limit)
        return await self._pool.submit(read, account_number)

    async def durability(self) -> Durability | None:
        return await self._pool.submit(durability_of, self._repository)

    async def close(self) -> None:
        """Finish the calls under way, for up to ``GRACE_SECONDS``, then close the repository."""
        self._pool.owner.check()
        self._pool.accepts = False
        await close_after(self._pool.calls, self._repository, GRACE_SECONDS)
        await self._pool.shutdown()


class EventLoopGuard(ProcessGuard):
    """Rejects calls from other event loops than the first one, where futures do not work, and from other processes."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = Lock()

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running event loop.

        :raises StoreUnavailable: if an earlier call came from another event loop, or if the caller is in another
            process.
        """
        self.check()
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with self._lock:
                self._loop = self._loop or loop
            if loop is not self._loop:
                raise StoreUnavailable(self._store, "it belongs to another event loop; open a store in each event loop")
        return loop


class BoundedThreadPool:
    """Runs calls of an event loop in threads, with a bound on the number of calls under way.

    :param threads: the number of calls that run at the same time.
    :param max_waiting: the number of calls under way at which further ones are refused with ``Overloaded``.
    :param owner: rejects calls from other event loops and processes. Pools of one store share it.
    """

    def __init__(self, threads: int, max_waiting: int, owner: EventLoopGuard | None = None) -> None:
        self.owner = owner or EventLoopGuard()
        self.calls: set[Future[Any]] = set()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._max_waiting = max_waiting
        self.accepts = True

    def submit(self, call: Callable[[T], R], argument: T) -> asyncio.Future[R]:
        """Run a call in a thread, and return a future of its result.

        :raises StoreUnavailable: if the pool does not accept calls any more, or belongs to another event loop.
        :raises Overloaded: if too many calls are under way.
        """
        self.owner.running_loop()
        if not self.accepts:
            raise store_closed()
        if len(self.calls) >= self._max_waiting:
            raise Overloaded(len(self.calls))
        return self.run(call, argument)

    def run(self, call: Callable[[T], R], argument: T) -> asyncio.Future[R]:
        """Run a call in a thread without regard to the bound, for work on behalf of calls that were accepted."""
        thread_call = self._executor.submit(call, argument)
        self.calls.add(thread_call)
        outcome = asyncio.wrap_future(thread_call)
        # The outcome of a cancelled caller is done before the call is.
        outcome.add_done_callback(lambda _: thread_call.add_done_callback(self.calls.discard))
        return outcome

    async def shutdown(self) -> None:
        """End the threads. Waiting for them happens in another thread, so that the event loop is not blocked."""
        await asyncio.to_thread(self._executor.shutdown)


async def close_after(calls: Iterable[Future[Any]], repository: Store, seconds: float) -> None:
    """Wait for these calls for up to some seconds, then close the repository, which lets calls that hang fail.

    Threads wait, because a store can be closed on another event loop after its own has ended.
    """
    await asyncio.to_thread(wait, set(calls), seconds)
    await asyncio.to_thread(repository.close)


def durability_of(repository: AccountRepository[Account]) -> Durability | None:
    """Return the durability of a repository, or None if it does not report it."""
    return repository.durability() if isinstance(repository, ReportsDurability) else None


def store_closed() -> StoreUnavailable:
    """Return the error for calls after ``close``."""
    return StoreUnavailable("of this call", "it was closed")
