"""Group commit on an event loop and among threads: which callers share a commit, and what each receives."""

import asyncio
import signal
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
from support.group_commit_stress import unanswered_calls
from support.waiting import until

from atm_adapters.repositories import group_commit
from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    OutcomeUnknown,
    Overloaded,
    Page,
    StoreUnavailable,
    Transaction,
    deposit,
    get_account,
    open_account,
    read_history,
)
from atm_core.ports import BatchRepository

Task: TypeAlias = asyncio.Task[Account]


class Gated(BatchRepository):
    """A repository in memory that records its batches and executes each when ``gate`` is released."""

    def __init__(self) -> None:
        self._accounts = InMemoryAccountRepository([Account("0", 1000)])
        self.gate = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.batches: list[list[str]] = []
        self.failures: list[Exception] = []
        self.outcomes: list[Sequence[Account | AtmError]] = []
        self.is_closed = False

    def get(self, account_number: str, /) -> Account:
        return self._accounts.get(account_number)

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._accounts.history(account_number, before=before, after=after, limit=limit)

    def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
        self.batches.append([str(getattr(transaction, "amount", "")) for transaction in transactions])
        self.began.release()
        assert self.gate.acquire(timeout=30)
        if self.failures:
            raise self.failures.pop()
        self.outcomes.append(self._accounts.execute_batch(transactions))
        return self.outcomes[-1]

    def close(self) -> None:
        self.is_closed = True

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.began.acquire, timeout=30)


class Uncopyable(Exception):
    """An exception whose constructor does not accept its own ``args``, as those of many drivers."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@pytest.fixture
def store() -> Gated:
    return Gated()


async def _started(*calls: Coroutine[Any, Any, Account]) -> list[Task]:
    """Start calls, and return their tasks when all wait for their outcomes."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def _first(store: Gated, accounts: GroupCommit) -> Task:
    """Start a deposit of 1, and return its task when its commit waits at the gate."""
    (task,) = await _started(deposit(accounts, "0", 1))
    await store.has_begun()
    return task


async def _outcomes(*calls: Task | Coroutine[Any, Any, Account]) -> list[Account | BaseException]:
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)


def test_callers_during_a_commit_share_the_next_one(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        first = await _first(store, accounts)
        later = await _started(deposit(accounts, "0", 2), deposit(accounts, "unknown", 3), deposit(accounts, "0", 4))
        store.gate.release(2)
        outcomes = await _outcomes(first, *later)
        assert store.batches == [["1.00"], ["2.00", "3.00", "4.00"]]
        assert outcomes[:2] == [Account("0", 1001), Account("0", 1003)]
        assert isinstance(outcomes[2], AccountNotFound)
        assert outcomes[3] == Account("0", 1007)
        await accounts.close()

    asyncio.run(run())


def test_openings_share_commits(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        first = await _first(store, accounts)
        openings = await _started(*(open_account(accounts, number, 5) for number in ("1", "0", "2")))
        store.gate.release(2)
        outcomes = await _outcomes(first, *openings)
        assert store.batches == [["1.00"], ["5.00"] * 3]
        assert isinstance(outcomes[2], AccountAlreadyExists)
        assert outcomes[1::2] == [Account("1", 5), Account("2", 5)]
        await accounts.close()

    asyncio.run(run())


def test_batches_are_bounded(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store, max_batch=3)
        store.gate.release(10)
        await _outcomes(*[deposit(accounts, "0", 1) for _ in range(7)])
        assert [len(batch) for batch in store.batches] == [3, 3, 1]
        await accounts.close()

    asyncio.run(run())


def test_cancelled_caller_moves_money_only_if_its_commit_began(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        during = await _first(store, accounts)
        before, other = await _started(deposit(accounts, "0", 10), deposit(accounts, "0", 100))
        during.cancel()
        before.cancel()
        await asyncio.sleep(0)
        store.gate.release(2)
        assert await _outcomes(other) == [Account("0", 1101)]
        assert store.batches == [["1.00"], ["100.00"]]
        await accounts.close()

    asyncio.run(run())


def test_failed_commit_fails_each_of_its_callers(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        store.failures = [Uncopyable("a", "bug"), StoreUnavailable("x", "it failed")]
        store.gate.release(3)
        first = await _outcomes(deposit(accounts, "0", 1), deposit(accounts, "0", 2))
        assert [str(error) for error in first] == ["The store x is unavailable: it failed."] * 2
        assert first[0] is not first[1]
        (second,) = await _outcomes(deposit(accounts, "0", 4))
        assert str(second) == "Uncopyable: a bug"
        assert await _outcomes(deposit(accounts, "0", 8)) == [Account("0", 1008)]
        await accounts.close()

    asyncio.run(run())


def test_missing_outcomes_fail_all_callers() -> None:
    class Incomplete(Gated):
        def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
            return self._accounts.execute_batch(transactions)[1:]

    async def run() -> None:
        accounts = GroupCommit(Incomplete())
        outcomes = await _outcomes(deposit(accounts, "0", 1), deposit(accounts, "0", 2))
        assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]
        await accounts.close()

    asyncio.run(run())


def test_transactions_over_the_bound_are_refused_when_awaited(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store, max_waiting=2)
        first = await _first(store, accounts)
        waiting = await _started(deposit(accounts, "0", 2), deposit(accounts, "0", 4))
        surplus = deposit(accounts, "0", 8)
        with pytest.raises(Overloaded) as refusal:
            await surplus
        assert refusal.value.waiting == 2
        store.gate.release(3)
        assert (await _outcomes(first, *waiting))[-1] == Account("0", 1007)
        assert await _outcomes(deposit(accounts, "0", 8)) == [Account("0", 1015)]
        await accounts.close()

    asyncio.run(run())


def test_cancelled_callers_do_not_count_as_waiting(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store, max_waiting=2)
        first = await _first(store, accounts)
        for task in await _started(deposit(accounts, "0", 2), deposit(accounts, "0", 4)):
            task.cancel()
        await asyncio.sleep(0)
        (last,) = await _started(deposit(accounts, "0", 8))
        store.gate.release(2)
        assert await _outcomes(first, last) == [Account("0", 1001), Account("0", 1009)]
        await accounts.close()

    asyncio.run(run())


def test_reads_over_the_bound_are_refused(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store, max_waiting=2)
        outcomes = await _outcomes(*(get_account(accounts, "0") for _ in range(3)))
        assert outcomes[:2] == [Account("0", 1000)] * 2
        assert isinstance(outcomes[2], Overloaded)
        assert await get_account(accounts, "0") == Account("0", 1000)
        await accounts.close()

    asyncio.run(run())


def test_reads_do_not_wait_for_writes(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        write = await _first(store, accounts)
        assert await asyncio.wait_for(get_account(accounts, "0"), 30) == Account("0", 1000)
        page = await asyncio.wait_for(read_history(accounts, "0"), 30)
        assert [entry.amount for entry in page.entries] == [1000]
        store.gate.release()
        await _outcomes(write)
        assert await get_account(accounts, "0") == Account("0", 1001)
        await accounts.close()

    asyncio.run(run())


def test_close_finishes_accepted_transactions_and_refuses_others(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store, max_batch=2)
        accepted = await _started(*(deposit(accounts, "0", 1) for _ in range(5)))
        closing = asyncio.ensure_future(accounts.close())
        await store.has_begun()
        for call in (deposit(accounts, "0", 1), get_account(accounts, "0")):
            with pytest.raises(StoreUnavailable, match="it was closed"):
                await call
        with pytest.raises(StoreUnavailable, match="it was closed"):
            await read_history(accounts, "0")
        store.gate.release()
        await store.has_begun()
        await asyncio.wait([closing], timeout=0.1)
        assert not store.is_closed
        store.gate.release(2)
        assert (await _outcomes(*accepted))[-1] == Account("0", 1005)
        await asyncio.wait_for(closing, 30)
        assert store.is_closed

    asyncio.run(run())


def test_close_ends_all_threads(store: Gated) -> None:
    def threads() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("store")]

    async def run() -> None:
        accounts = GroupCommit(store)
        store.gate.release()
        await _outcomes(deposit(accounts, "0", 1), get_account(accounts, "0"))
        assert len(threads()) == 2
        await accounts.close()
        assert threads() == []

    asyncio.run(run())


def test_failing_observer_delays_no_caller(store: Gated, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def waiting(self, transactions: int, /) -> None:
            raise RuntimeError(transactions)

        def committed(self, transactions: int, seconds: float, /) -> None:
            raise RuntimeError(transactions, seconds)

    async def run() -> None:
        accounts = GroupCommit(store, observer=Failing())
        store.gate.release(2)
        assert await _outcomes(deposit(accounts, "0", 1)) == [Account("0", 1001)]
        assert await _outcomes(deposit(accounts, "0", 2)) == [Account("0", 1003)]
        await accounts.close()

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "The observer of commits failed. Its further errors are not logged."
    ]


def test_cancelling_all_tasks_cancels_no_commit(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        first = await _first(store, accounts)
        (second,) = await _started(deposit(accounts, "0", 2))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as asyncio.run() does when it ends
            task.cancel()
        store.gate.release(3)
        assert [type(one) for one in await _outcomes(first, second)] == [asyncio.CancelledError] * 2
        assert await _outcomes(deposit(accounts, "0", 4)) == [Account("0", 1005)]
        await accounts.close()

    asyncio.run(run())


def test_deposit_is_finished_when_its_event_loop_runs_again(store: Gated) -> None:
    accounts = GroupCommit(store)
    with asyncio.Runner() as runner:
        first = runner.run(_first(store, accounts))
        store.gate.release(2)
        assert runner.run(_outcomes(first)) == [Account("0", 1001)]
        runner.run(accounts.close())


def test_dropped_calls_do_not_disturb_the_others(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        first = await _first(store, accounts)
        with pytest.warns(RuntimeWarning, match="never awaited"):
            deposit(accounts, "0", 10)  # type: ignore[unused-coroutine]
        dropped = deposit(accounts, "0", 100)
        dropped.send(None)  # it waits now, and may be applied
        dropped.close()
        (later,) = await _started(deposit(accounts, "0", 1000))
        store.gate.release(2)
        assert await _outcomes(first, later) == [Account("0", 1001), Account("0", 2101)]
        await accounts.close()

    asyncio.run(run())


def test_store_of_an_event_loop_that_closed_says_so_at_once(store: Gated) -> None:
    accounts = GroupCommit(store)
    with asyncio.Runner() as runner:
        runner.run(_first(store, accounts))  # leaving the block cancels the deposit and closes the event loop

    async def run() -> None:
        for call in (deposit(accounts, "0", 1), get_account(accounts, "0")):
            with pytest.raises(StoreUnavailable, match="open a store in each event loop"):
                await asyncio.wait_for(call, 10)
        store.gate.release()
        await asyncio.wait_for(accounts.close(), 30)

    asyncio.run(run())
    assert store.outcomes == [[Account("0", 1001)]]


@pytest.mark.parametrize(
    ("failure", "outcome"), [(SystemExit("a bug"), OutcomeUnknown), (StopIteration("a bug"), RuntimeError)]
)
def test_interrupted_commit_answers_its_callers(failure: BaseException, outcome: type[Exception]) -> None:
    class Interrupted(Gated):
        def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
            if len(transactions) > 1:
                raise failure
            return self._accounts.execute_batch(transactions)

    async def run() -> None:
        accounts = GroupCommit(Interrupted())
        outcomes = await _outcomes(deposit(accounts, "0", 1), deposit(accounts, "0", 2))
        assert [type(one) for one in outcomes] == [outcome, outcome]
        assert await _outcomes(deposit(accounts, "0", 4)) == [Account("0", 1004)]
        await accounts.close()

    asyncio.run(run())


def test_close_on_another_event_loop_answers_all_callers(store: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(group_commit, "GRACE_SECONDS", 0.01)
        accounts = GroupCommit(store, max_batch=1)
        calls = await _started(*(deposit(accounts, "0", 1) for _ in range(3)))
        await store.has_begun()
        closing = asyncio.ensure_future(asyncio.to_thread(asyncio.run, accounts.close()))
        await asyncio.to_thread(until, lambda: accounts._writer._executor._shutdown)
        store.gate.release(3)
        outcomes = await _outcomes(*calls)
        assert outcomes[0] == Account("0", 1001)
        assert [type(outcome) for outcome in outcomes[1:]] == [StoreUnavailable] * 2
        await asyncio.wait_for(closing, 30)

    asyncio.run(run())


def test_close_finishes_the_commit_of_a_cancelled_caller(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        call = await _first(store, accounts)
        call.cancel()
        closing = asyncio.ensure_future(accounts.close())
        await asyncio.sleep(0)
        store.gate.release()
        await asyncio.wait_for(closing, 30)

    asyncio.run(run())
    assert store.outcomes == [[Account("0", 1001)]]


def test_refusals_take_no_time_for_each_waiting_caller(store: Gated) -> None:
    async def run() -> None:
        accounts = GroupCommit(store)
        await _first(store, accounts)
        tasks = await _started(*(deposit(accounts, "0", 1) for _ in range(10_000)))
        began = time.thread_time()
        for _ in range(1_000):
            with pytest.raises(Overloaded):
                await deposit(accounts, "0", 1)
        assert time.thread_time() - began < 0.5, "copying the queue for each took 6 s"
        store.gate.release(20)
        await _outcomes(*tasks)
        await accounts.close()

    asyncio.run(run())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def _first_and_waiting(
    store: Gated, accounts: ThreadedGroupCommit, pool: ThreadPoolExecutor, *calls: tuple[str, int]
) -> list["Future[Account]"]:
    """Start a deposit of 1 whose commit waits at the gate, then let a thread for each call wait behind it, in order."""
    futures = [pool.submit(deposit, accounts, "0", 1)]
    assert store.began.acquire(timeout=30)
    for number, amount in calls:
        waiting = len(accounts._waiting)
        futures.append(pool.submit(deposit, accounts, number, amount))
        until(lambda waiting=waiting: len(accounts._waiting) > waiting)  # type: ignore[misc]
    return futures


def test_threads_during_a_commit_share_the_next_one(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store)
    calls = _first_and_waiting(store, accounts, pool, ("0", 2), ("unknown", 3), ("0", 4))
    store.gate.release(2)
    assert [calls[n].result(30) for n in (0, 1, 3)] == [Account("0", 1001), Account("0", 1003), Account("0", 1007)]
    assert isinstance(calls[2].exception(30), AccountNotFound)
    assert store.batches == [["1.00"], ["2.00", "3.00", "4.00"]]


def test_batches_of_threads_are_bounded_and_a_follower_leads_the_next(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store, max_batch=2)
    calls = _first_and_waiting(store, accounts, pool, *[("0", 1)] * 5)
    store.gate.release(4)
    assert [call.result(30).balance for call in calls] == [1001, 1002, 1003, 1004, 1005, 1006]
    assert [len(batch) for batch in store.batches] == [1, 2, 2, 1]


def test_failed_commit_fails_each_of_its_threads(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store)
    calls = _first_and_waiting(store, accounts, pool, ("0", 2), ("0", 4))
    store.failures = [StoreUnavailable("x", "it failed")]
    store.gate.release(3)
    assert [type(call.exception(30)) for call in calls].count(StoreUnavailable) == 1
    assert sum(1 for call in calls if call.exception(30) is None) == 2
    assert deposit(accounts, "0", 8).balance == 1014


def test_interrupted_leader_leaves_followers_an_unknown_outcome(pool: ThreadPoolExecutor) -> None:
    class Interrupted(Gated):
        def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
            outcomes = super().execute_batch(transactions)
            if len(transactions) > 1:
                raise KeyboardInterrupt
            return outcomes

    interrupted = Interrupted()
    accounts = ThreadedGroupCommit(interrupted)
    calls = _first_and_waiting(interrupted, accounts, pool, ("0", 2), ("0", 4))
    interrupted.gate.release(3)
    assert calls[0].result(30) == Account("0", 1001)
    assert isinstance(calls[1].exception(30), KeyboardInterrupt)
    assert isinstance(calls[2].exception(30), OutcomeUnknown)
    assert deposit(accounts, "0", 8).balance == 1015


def test_interrupted_follower_moves_no_money(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store)
    calls = _first_and_waiting(store, accounts, pool)

    main_thread = threading.get_ident()

    def interrupt_the_main_thread() -> None:
        until(lambda: len(accounts._waiting) == 1)
        signal.pthread_kill(main_thread, signal.SIGINT)

    interrupter = pool.submit(interrupt_the_main_thread)
    with pytest.raises(KeyboardInterrupt):
        deposit(accounts, "0", 2)
    interrupter.result(30)
    store.gate.release(2)
    assert calls[0].result(30) == Account("0", 1001)
    assert pool.submit(deposit, accounts, "0", 4).result(30) == Account("0", 1005)


def test_threads_over_the_bound_are_refused(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store, max_waiting=2)
    calls = _first_and_waiting(store, accounts, pool, ("0", 2), ("0", 4))
    with pytest.raises(Overloaded):
        deposit(accounts, "0", 8)
    store.gate.release(2)
    assert calls[-1].result(30) == Account("0", 1007)


def test_close_waits_for_accepted_threads_and_refuses_others(store: Gated, pool: ThreadPoolExecutor) -> None:
    accounts = ThreadedGroupCommit(store)
    calls = _first_and_waiting(store, accounts, pool, ("0", 2))
    assert get_account(accounts, "0") == Account("0", 1000)
    assert len(read_history(accounts, "0").entries) == 1
    closing = pool.submit(accounts.close)
    until(lambda: accounts._closed)
    with pytest.raises(StoreUnavailable, match="it was closed"):
        deposit(accounts, "0", 4)
    store.gate.release(2)
    assert calls[-1].result(30) == Account("0", 1003)
    closing.result(30)


def test_threads_are_all_answered_under_stress() -> None:
    assert unanswered_calls(rounds=5) == 0
