"""Group commit: concurrent callers share a commit.

A commit costs an fsync or a network round trip, whether it holds one transaction or a thousand. While one
commit is under way, the transactions of concurrent callers queue up, and the next commit takes all of them.
There is no timer: a single caller is served at once.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Final, TypeAlias

from atm_adapters.repositories.bridges import (
    MAX_WAITING,
    BoundedThreadPool,
    EventLoopGuard,
    close_after,
    durability_of,
    store_closed,
)
from atm_adapters.repositories.ownership import ProcessGuard
from atm_core import Account, OutcomeUnknown, Overloaded, Page, Transaction
from atm_core.ports import GRACE_SECONDS, AsyncStore, BatchRepository, CommitObserver, Durability, Store

logger = logging.getLogger(__name__)

_MAX_BATCH: Final = 1_000
_READING_THREADS: Final = 4

_Batch: TypeAlias = list[tuple[Transaction, asyncio.Future[Account]]]


class GroupCommit(AsyncStore):
    """An ``AsyncStore`` whose callers share commits.

    All callers must be on one event loop. Calls from another one raise ``StoreUnavailable``.

    A caller that is cancelled while its transaction waits has not moved money. Once a transaction is part of
    a batch, it is finished, even if its caller is cancelled.

    :param repository: executes the batches, one at a time and in one thread. ``close`` closes it.
    :param max_waiting: the number of waiting transactions at which further ones are refused with
        ``Overloaded``. The same bound holds for other calls.
    :param max_batch: the largest number of transactions in one commit.
    :param observer: receives an event for every commit. Its exceptions are ignored, and the first one is logged.
    """

    def __init__(
        self,
        repository: BatchRepository,
        *,
        max_waiting: int = MAX_WAITING,
        max_batch: int = _MAX_BATCH,
        observer: CommitObserver | None = None,
    ) -> None:
        self._repository = repository
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._observer = observer
        self._observer_failed = False
        self._waiting: deque[tuple[Transaction, asyncio.Future[Account]]] = deque()
        self._may_hold_cancelled = True
        # Callbacks chain the commits, because asyncio.run() would cancel a task.
        self._is_committing = False
        self._batch: _Batch = []
        self._accepts = True
        self._owner = EventLoopGuard()
        self._readers = BoundedThreadPool(_READING_THREADS, max_waiting, self._owner)
        self._writer = BoundedThreadPool(1, max_waiting, self._owner)

    async def get(self, account_number: str, /) -> Account:
        return await self._readers.submit(self._repository.get, account_number)

    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        read = partial(self._repository.history, before=before, after=after, limit=limit)
        return await self._readers.submit(read, account_number)

    async def execute(self, transaction: Transaction, /) -> Account:
        loop = self._owner.running_loop()
        if not self._accepts:
            raise store_closed()
        if len(self._waiting) >= self._max_waiting:
            self._remove_cancelled()
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(len(self._waiting))
        outcome: asyncio.Future[Account] = loop.create_future()
        self._waiting.append((transaction, outcome))
        self._notify_waiting()
        if not self._is_committing:
            self._is_committing = True
            loop.call_soon(self._commit_next_batch)  # after the callers that are ready now
        return await outcome

    async def durability(self) -> Durability | None:
        # In the writing thread, because it waits for the connection that writes.
        return await self._writer.submit(durability_of, self._repository)

    async def close(self) -> None:
        """Finish the transactions that were accepted, for up to ``GRACE_SECONDS``, then close the repository."""
        self._owner.check()
        self._accepts = self._readers.accepts = self._writer.accepts = False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE_SECONDS
        callers = [caller for _, caller in (*self._batch, *self._waiting) if caller.get_loop() is loop]
        if callers:
            await asyncio.wait(callers, timeout=GRACE_SECONDS)
        await close_after(self._readers.calls | self._writer.calls, self._repository, deadline - loop.time())
        await self._readers.shutdown()
        await self._writer.shutdown()

    def _remove_cancelled(self) -> None:
        """Remove cancelled callers from the queue, at most once per batch, because it takes time for each caller."""
        if self._may_hold_cancelled:
            self._may_hold_cancelled = False
            self._waiting = deque((waiting, caller) for waiting, caller in self._waiting if not caller.done())

    def _commit_next_batch(self) -> None:
        """Start a commit for those that wait. Its end starts the next one."""
        while batch := self._next_batch():
            self._batch = batch
            try:
                commit = self._writer.run(self._commit, [transaction for transaction, _ in batch])
            except RuntimeError:  # the threads have ended, because the store was closed on another event loop
                _answer(batch, [store_closed() for _ in batch])
            else:
                commit.add_done_callback(self._finish_batch)
                return
        self._is_committing = False

    def _finish_batch(self, commit: asyncio.Future[Sequence[Account | Exception]]) -> None:
        if commit.cancelled() or commit.exception() is not None:
            _answer(self._batch, [OutcomeUnknown("of this call", "the commit was interrupted") for _ in self._batch])
        else:
            _answer(self._batch, commit.result())
        self._commit_next_batch()

    def _next_batch(self) -> _Batch:
        batch: _Batch = []
        while self._waiting and len(batch) < self._max_batch:
            transaction, caller = self._waiting.popleft()
            if not caller.done():  # a caller that was cancelled by now gets no transaction
                batch.append((transaction, caller))
        self._may_hold_cancelled = True
        self._notify_waiting()
        return batch

    def _commit(self, transactions: Sequence[Transaction]) -> Sequence[Account | Exception]:
        began = time.perf_counter()
        outcomes = _commit(self._repository, transactions)
        if self._observer is not None:
            self._notify(self._observer.committed, len(transactions), time.perf_counter() - began)
        return outcomes

    def _notify_waiting(self) -> None:
        if self._observer is not None:
            self._notify(self._observer.waiting, len(self._waiting))

    def _notify(self, event: Callable[..., None], *facts: float) -> None:
        try:
            event(*facts)
        except Exception:
            if not self._observer_failed:
                self._observer_failed = True
                logger.exception("The observer of commits failed. Its further errors are not logged.")


def _answer(batch: _Batch, outcomes: Sequence[Account | Exception]) -> None:
    for (_, caller), outcome in zip(batch, outcomes, strict=True):
        if caller.done():
            continue  # cancelled during the commit; the transaction stands
        if isinstance(outcome, Exception):
            caller.set_exception(outcome)
        else:
            caller.set_result(outcome)


class ThreadedGroupCommit(Store):
    """A ``Store`` whose calling threads share commits.

    It has no thread of its own. The first waiting thread leads: it commits for all that wait, then promotes
    the first thread of the next batch to leader. The others follow: they wait until the leader has finished
    their transaction or promotes them.

    :param repository: executes the batches, one at a time. ``close`` closes it.
    :param max_waiting: the number of waiting transactions at which further ones are refused with ``Overloaded``.
    :param max_batch: the largest number of transactions in one commit.
    """

    def __init__(
        self, repository: BatchRepository, *, max_waiting: int = MAX_WAITING, max_batch: int = _MAX_BATCH
    ) -> None:
        self._repository = repository
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._waiting: deque[_Call] = deque()
        self._has_leader = False
        self._closed = False
        self._process = ProcessGuard()
        # Guards the three fields above and each call's `leads`. Notified when there is no leader any more.
        self._state = threading.Condition()

    def get(self, account_number: str, /) -> Account:
        return self._repository.get(account_number)

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._repository.history(account_number, before=before, after=after, limit=limit)

    def execute(self, transaction: Transaction, /) -> Account:
        self._process.check()
        call = _Call(transaction)
        try:
            with self._state:
                if self._closed:
                    raise store_closed()
                if len(self._waiting) >= self._max_waiting:
                    raise Overloaded(len(self._waiting))
                self._waiting.append(call)
                # Decided under the lock: from here on, only a promotion changes it, and a promotion sets `ready`.
                call.leads = leads = not self._has_leader
                self._has_leader = True
            if not leads:
                call.ready.acquire()
                leads = call.leads
            if leads:
                self._commit_next_batch()
        except BaseException:  # such as Ctrl-C, which can interrupt the main thread anywhere
            self._abandon(call)
            raise
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    def close(self) -> None:
        """Finish the transactions that were accepted, for up to ``GRACE_SECONDS``, then close the repository."""
        self._process.check()
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: not self._has_leader, GRACE_SECONDS)
        self._repository.close()

    def _commit_next_batch(self) -> None:
        """Commit the first waiting transactions. The caller's own is the very first."""
        batch: list[_Call] = []
        try:
            with self._state:
                while self._waiting and len(batch) < self._max_batch:
                    batch.append(self._waiting.popleft())
            outcomes = _commit(self._repository, [call.transaction for call in batch])
            for call, outcome in zip(batch, outcomes, strict=True):
                call.outcome = outcome
        finally:  # even if this thread is interrupted, because the followers must not wait for ever
            with self._state:
                self._promote_next()
            for call in batch:
                call.ready.release()

    def _promote_next(self) -> None:
        """Make the first waiting thread the leader. The caller holds the state's lock."""
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].ready.release()
        else:
            self._has_leader = False
            self._state.notify_all()

    def _abandon(self, call: "_Call") -> None:
        """Remove a call whose thread was interrupted, unless it is part of a batch already."""
        with self._state:
            if call in self._waiting:
                self._waiting.remove(call)
                if call.leads:
                    self._promote_next()


class _Call:
    """A call to ``execute`` while its thread waits."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.outcome: Account | Exception = OutcomeUnknown(
            "of this call", "the thread that committed for this one was interrupted"
        )
        self.leads = False
        self.ready = threading.Lock()  # released once, by a promotion or by the outcome; the cheapest signal there is
        self.ready.acquire()


def _commit(repository: BatchRepository, transactions: Sequence[Transaction]) -> Sequence[Account | Exception]:
    """Execute a batch, and return one outcome for each transaction even if all of it failed."""
    try:
        outcomes = repository.execute_batch(transactions)
        if len(outcomes) != len(transactions):
            raise RuntimeError(f"{len(transactions)} transactions were answered with {len(outcomes)} outcomes")
    except Exception as error:
        return [_copy(error) for _ in transactions]
    return outcomes


def _copy(error: Exception) -> Exception:
    """Return a copy for one caller, because raising an exception adds that caller's frames to it."""
    with suppress(Exception):  # for an exception whose constructor does not accept its own ``args``
        if not isinstance(error, StopIteration):  # a future does not accept it
            return copy(error)
    return RuntimeError(f"{type(error).__name__}: {error}")
