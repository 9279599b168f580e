"""Many callers, one commit.

A commit costs an fsync or a network round trip, whether it holds one transaction or a thousand. So
while one commit is under way, what concurrent callers ask for is collected, and handed over whole as
the next. Nobody waits for a timer: a caller who is alone is served at once.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any, Protocol, TypeVar, runtime_checkable

from atm_adapters.capabilities import Durability, Store, TellsDurability
from atm_core import (
    Account,
    AccountRepository,
    AtmError,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    Transaction,
)

T = TypeVar("T")
R = TypeVar("R")

_MAX_WAITING = 10_000
_MAX_BATCH = 1_000
_CALLING_THREADS = 32
_READING_THREADS = 4
_GRACE_SECONDS = 5.0


@runtime_checkable
class BatchRepository(Store, Protocol):
    """A repository that can carry out many transactions with one commit."""

    def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
        """Carry out transactions in their order; a refusal is an outcome and leaves the others alone."""
        ...


class InThreads:
    """An ``AccountRepository[Awaitable[Account]]`` over a repository that waits: each call has a thread of a few.

    A caller who is cancelled may have moved money.

    :param repository: where the calls are carried out; it is safe to share between threads.
    :param threads: how many calls are carried out at once.
    :param max_waiting: how many calls may wait before further ones are refused as ``Overloaded``.
    """

    def __init__(self, repository: Store, *, threads: int = _CALLING_THREADS, max_waiting: int = _MAX_WAITING) -> None:
        self._repository = repository
        self._max_waiting = max_waiting
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="calls")
        self._calls: set[asyncio.Future[Any]] = set()
        self._closed = False

    def get(self, account_number: str, /) -> asyncio.Future[Account]:
        return self._call(self._repository.get, account_number)

    def add(self, account: Account, /) -> asyncio.Future[Account]:
        return self._call(self._repository.add, account)

    def execute(self, transaction: Transaction, /) -> asyncio.Future[Account]:
        return self._call(self._repository.execute, transaction)

    def durability(self) -> asyncio.Future[Durability | None]:
        """Ask the repository; None if it can't tell."""
        return self._call(_durability, self._repository)

    async def close(self) -> None:
        """Finish what was taken on, within bounds, then close the repository. Anything further is refused.

        What hangs for five seconds is cut off by the repository as it closes, and its callers learn what
        can be said of it.
        """
        self._closed = True
        begun = self._begun()
        if begun:
            await asyncio.wait(begun, timeout=_GRACE_SECONDS)
        await asyncio.to_thread(self._repository.close)
        if begun:
            await asyncio.wait(begun)
        await asyncio.to_thread(self._threads.shutdown)  # it may wait, and the loop has other things to do

    def _begun(self) -> set[asyncio.Future[Any]]:
        """What is under way, and has to be finished."""
        return {*self._calls}

    def _call(
        self, call: Callable[[T], R], argument: T, threads: ThreadPoolExecutor | None = None
    ) -> asyncio.Future[R]:
        self._refuse_if_closed()
        if len(self._calls) >= self._max_waiting:
            raise Overloaded(len(self._calls))
        outcome = asyncio.get_running_loop().run_in_executor(threads or self._threads, call, argument)
        self._calls.add(outcome)
        outcome.add_done_callback(self._calls.discard)
        return outcome

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise _closed()


class CommitObserver(Protocol):
    """Is told what group commit does, in whichever thread does it; it must not wait."""

    def waiting(self, transactions: int, /) -> None:
        """So many transactions now wait for the next commit."""
        ...

    def committed(self, transactions: int, seconds: float, /) -> None:
        """A commit of so many transactions took so long, whether it went well or not."""
        ...


class GroupCommit(InThreads):
    """An ``AccountRepository[Awaitable[Account]]`` that shares commits among the callers on one event loop.

    A caller who is cancelled before the transaction was handed over has not moved money and never
    will; once it was handed over, it is finished, whoever still listens.

    :param repository: where the transactions are carried out, by one thread, a batch at a time.
    :param max_waiting: how many transactions, and how many other calls, may wait before further ones are
        refused as ``Overloaded``.
    :param max_batch: how many transactions at the most share a commit.
    :param observer: is told of every commit.
    """

    def __init__(
        self,
        repository: BatchRepository,
        *,
        max_waiting: int = _MAX_WAITING,
        max_batch: int = _MAX_BATCH,
        observer: CommitObserver | None = None,
    ) -> None:
        super().__init__(repository, threads=_READING_THREADS, max_waiting=max_waiting)
        self._batches = repository
        self._max_batch = max_batch
        self._observer = observer
        self._waiting: deque[tuple[Transaction, asyncio.Future[Account]]] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="group-commit")

    def execute(self, transaction: Transaction, /) -> asyncio.Future[Account]:
        self._refuse_if_closed()
        if len(self._waiting) >= self._max_waiting:
            self._waiting = deque((asked, caller) for asked, caller in self._waiting if not caller.done())
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(len(self._waiting))
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Account] = loop.create_future()
        self._waiting.append((transaction, outcome))
        if self._observer is not None:
            self._observer.waiting(len(self._waiting))
        if self._committing is None:
            self._committing = loop.create_task(self._commit_until_none_waits())
        return outcome

    # Both wait for whoever writes, and must not keep a thread from reading meanwhile.
    def add(self, account: Account, /) -> asyncio.Future[Account]:
        return self._call(self._repository.add, account, self._writer)

    def durability(self) -> asyncio.Future[Durability | None]:
        """Ask the repository; None if it can't tell."""
        return self._call(_durability, self._repository, self._writer)

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._writer.shutdown)

    def _begun(self) -> set[asyncio.Future[Any]]:
        return super()._begun() | ({self._committing} if self._committing is not None else set())

    async def _commit_until_none_waits(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            transactions = [transaction for transaction, _ in batch]
            outcomes = await loop.run_in_executor(self._writer, self._commit, transactions)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue  # the caller was cancelled meanwhile; the transaction stands
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._committing = None

    def _next_batch(self) -> list[tuple[Transaction, asyncio.Future[Account]]]:
        batch: list[tuple[Transaction, asyncio.Future[Account]]] = []
        while self._waiting and len(batch) < self._max_batch:
            transaction, future = self._waiting.popleft()
            if not future.done():  # a caller who was cancelled by now has asked for nothing
                batch.append((transaction, future))
        if self._observer is not None:
            self._observer.waiting(len(self._waiting))
        return batch

    def _commit(self, transactions: Sequence[Transaction]) -> Sequence[Account | Exception]:
        began = time.perf_counter()
        outcomes = _commit(self._batches, transactions)
        if self._observer is not None:
            self._observer.committed(len(transactions), time.perf_counter() - began)
        return outcomes


class ThreadedGroupCommit:
    """An ``AccountRepository[Account]`` that shares commits among the threads that call it.

    There is no thread of its own: of those who wait, the first commits for all of them, and then
    hands that duty to the first of those who came meanwhile.

    :param repository: where the transactions are carried out, a batch at a time.
    :param max_waiting: how many transactions may wait before further ones are refused as ``Overloaded``.
    :param max_batch: how many transactions at the most share a commit.
    """

    def __init__(
        self, repository: BatchRepository, *, max_waiting: int = _MAX_WAITING, max_batch: int = _MAX_BATCH
    ) -> None:
        self._repository = repository
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._waiting: deque[_Call] = deque()
        self._somebody_commits = False
        self._closed = False
        self._state = threading.Condition()  # guards the three above; told when nobody commits any more

    def get(self, account_number: str, /) -> Account:
        return self._repository.get(account_number)

    def add(self, account: Account, /) -> Account:
        return self._repository.add(account)

    def execute(self, transaction: Transaction, /) -> Account:
        call = _Call(transaction)
        try:
            with self._state:
                if self._closed:
                    raise _closed()
                if len(self._waiting) >= self._max_waiting:
                    raise Overloaded(len(self._waiting))
                self._waiting.append(call)
                call.commits = not self._somebody_commits
                self._somebody_commits = True
            if not call.commits:
                call.woken.acquire()
            if call.commits:
                self._commit_next_batch()
        except BaseException:  # such as Ctrl-C, which interrupts the main thread anywhere
            self._withdraw(call)
            raise
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    def close(self) -> None:
        """Finish what was taken on, within bounds, then close the repository. Anything further is refused.

        What hangs for five seconds is cut off by the repository as it closes, and its callers learn what
        can be said of it.
        """
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: not self._somebody_commits, _GRACE_SECONDS)
        self._repository.close()

    def _commit_next_batch(self) -> None:
        """Commit for the first of those who wait; the caller is the very first of them."""
        batch: list[_Call] = []
        try:
            with self._state:
                while self._waiting and len(batch) < self._max_batch:
                    batch.append(self._waiting.popleft())
            outcomes = _commit(self._repository, [call.transaction for call in batch])
            for call, outcome in zip(batch, outcomes, strict=True):
                call.outcome = outcome
        finally:  # also if this thread is interrupted: the others must not wait for ever
            with self._state:
                self._hand_on()
            for call in batch:
                call.woken.release()

    def _hand_on(self) -> None:
        """Let the first of those who wait commit next. The caller holds the state's lock."""
        if self._waiting:
            self._waiting[0].commits = True
            self._waiting[0].woken.release()
        else:
            self._somebody_commits = False
            self._state.notify_all()

    def _withdraw(self, call: "_Call") -> None:
        """Take back a call whose thread no longer waits for it, unless it was begun."""
        with self._state:
            if call in self._waiting:
                self._waiting.remove(call)
                if call.commits:
                    self._hand_on()


class _Call:
    """A thread's call to ``execute``, for as long as it waits."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.outcome: Account | Exception = OutcomeUnknown(
            "that was asked", "the thread that committed for this one was interrupted"
        )
        self.commits = False
        self.woken = threading.Lock()  # released to wake the one who waits: the cheapest signal there is
        self.woken.acquire()


class Immediate:
    """An ``AccountRepository[Awaitable[Account]]`` over a repository that never waits, such as the one in memory."""

    def __init__(self, repository: AccountRepository[Account]) -> None:
        self._repository = repository

    async def get(self, account_number: str, /) -> Account:
        return self._repository.get(account_number)

    async def add(self, account: Account, /) -> Account:
        return self._repository.add(account)

    async def execute(self, transaction: Transaction, /) -> Account:
        return self._repository.execute(transaction)

    async def durability(self) -> Durability | None:
        """Ask the repository; None if it can't tell."""
        return _durability(self._repository)

    async def close(self) -> None:
        """Nothing to finish: every call was carried out before it returned."""


def _durability(repository: AccountRepository[Account]) -> Durability | None:
    return repository.durability() if isinstance(repository, TellsDurability) else None


def _commit(repository: BatchRepository, transactions: Sequence[Transaction]) -> Sequence[Account | Exception]:
    """Carry out a batch, and say for each transaction what came of it, whatever happens."""
    try:
        outcomes = repository.execute_batch(transactions)
        if len(outcomes) != len(transactions):
            raise RuntimeError(f"{len(transactions)} transactions were answered with {len(outcomes)} outcomes")
    except Exception as error:
        return [_copy(error) for _ in transactions]
    return outcomes


def _copy(error: Exception) -> Exception:
    """An exception for one caller alone: raising it will add that caller's frames to it."""
    try:
        return copy(error)
    except Exception:  # its constructor takes other arguments than it passed on
        return RuntimeError(f"{type(error).__name__}: {error}")


def _closed() -> StoreUnavailable:
    return StoreUnavailable("that was asked", "it was closed")
