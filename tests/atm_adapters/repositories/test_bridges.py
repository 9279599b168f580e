"""The bridges beyond the contract: bounds, cancellation, closing and durability."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.waiting import until

from atm_adapters.repositories import bridges
from atm_adapters.repositories.bridges import InlineBridge, ThreadPoolBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_core import Account, Overloaded, StoreUnavailable, Transaction, deposit, get_account, read_history
from atm_core.ports import Durability, Store


class Gated(InMemoryAccountRepository):
    """A repository whose transactions wait until ``gate`` is set or the repository is closed."""

    def __init__(self) -> None:
        super().__init__([Account("0", 1000)])
        self.gate = threading.Event()
        self.began = 0
        self.is_closed = False

    def execute(self, transaction: Transaction, /) -> Account:
        self.began += 1
        assert self.gate.wait(30)
        if self.is_closed:
            raise StoreUnavailable("x", "it was closed")
        return super().execute(transaction)

    def close(self) -> None:
        self.is_closed = True
        self.gate.set()


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


async def _started(*calls: Coroutine[Any, Any, Account]) -> "list[asyncio.Task[Account]]":
    """Start calls, and return their tasks when all wait for their outcomes."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


def test_calls_over_the_bound_are_refused_when_awaited() -> None:
    async def run() -> None:
        store = Gated()
        accounts = ThreadPoolBridge(store, threads=1, max_waiting=2)
        calls = await _started(deposit(accounts, "0", 1), deposit(accounts, "0", 2))
        surplus = [deposit(accounts, "0", 4), get_account(accounts, "0")]
        for call in surplus:
            with pytest.raises(Overloaded) as refusal:
                await call
            assert refusal.value.waiting == 2
        with pytest.raises(Overloaded):
            await read_history(accounts, "0")
        store.gate.set()
        assert await asyncio.gather(*calls) == [Account("0", 1001), Account("0", 1003)]
        assert await deposit(accounts, "0", 8) == Account("0", 1011)
        await accounts.close()

    asyncio.run(run())


def test_call_of_a_cancelled_caller_is_finished_and_counts_until_then() -> None:
    async def run() -> None:
        store = Gated()
        accounts = ThreadPoolBridge(store, threads=1, max_waiting=1)
        (call,) = await _started(deposit(accounts, "0", 1))
        await _until(lambda: store.began == 1)
        call.cancel()
        await asyncio.wait([call])
        with pytest.raises(Overloaded):
            await get_account(accounts, "0")
        store.gate.set()
        await accounts.close()
        assert store.get("0") == Account("0", 1001)

    asyncio.run(run())


def test_call_that_was_cancelled_before_its_thread_is_not_made() -> None:
    async def run() -> None:
        store = Gated()
        accounts = ThreadPoolBridge(store, threads=1)
        first, second = await _started(deposit(accounts, "0", 1), deposit(accounts, "0", 2))
        await _until(lambda: store.began == 1)
        second.cancel()
        await asyncio.wait([second])
        store.gate.set()
        assert await first == Account("0", 1001)
        await accounts.close()
        assert (store.began, store.get("0")) == (1, Account("0", 1001))

    asyncio.run(run())


def test_close_after_the_event_loop_ended_finishes_its_calls() -> None:
    store = Gated()
    accounts = ThreadPoolBridge(store)

    async def leave_a_call() -> None:
        await _started(deposit(accounts, "0", 1))
        await _until(lambda: store.began == 1)

    async def close() -> None:
        closing = asyncio.create_task(accounts.close())
        await asyncio.sleep(0)
        assert not store.is_closed
        store.gate.set()
        await closing

    asyncio.run(leave_a_call())
    asyncio.run(close())
    assert store.get("0") == Account("0", 1001)


def test_close_finishes_calls_under_way_and_refuses_others() -> None:
    async def run() -> None:
        store = Gated()
        accounts = ThreadPoolBridge(store, threads=1)
        calls = await _started(*(deposit(accounts, "0", 1) for _ in range(3)))
        closing = asyncio.ensure_future(accounts.close())
        await _until(lambda: store.began == 1)
        with pytest.raises(StoreUnavailable, match="it was closed"):
            await deposit(accounts, "0", 1)
        assert not store.is_closed
        store.gate.set()
        assert (await asyncio.gather(*calls))[-1] == Account("0", 1003)
        await closing
        assert store.is_closed

    asyncio.run(run())


def test_close_ends_calls_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(bridges, "GRACE_SECONDS", 0.01)
        accounts = ThreadPoolBridge(Gated())
        (call,) = await _started(deposit(accounts, "0", 1))
        await asyncio.wait_for(accounts.close(), 30)
        with pytest.raises(StoreUnavailable, match="it was closed"):
            await call

    asyncio.run(run())


def test_close_ends_all_threads() -> None:
    def threads() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("store")]

    async def run() -> None:
        accounts = ThreadPoolBridge(InMemoryAccountRepository([Account("0", 1000)]))
        await get_account(accounts, "0")
        assert len(threads()) == 1
        await accounts.close()
        assert threads() == []

    asyncio.run(run())


@pytest.mark.parametrize("bridge", [InlineBridge, ThreadPoolBridge])
def test_bridge_reports_durability_of_its_repository(bridge: type[InlineBridge | ThreadPoolBridge]) -> None:
    async def run() -> None:
        memory = InMemoryAccountRepository()
        remote = RemoteAccountRepository("http://127.0.0.1:1")  # does not know its durability
        stores: list[tuple[Store, Durability | None]] = [(memory, memory.durability()), (remote, None)]
        for store, expected in stores:
            accounts = bridge(store)
            assert await accounts.durability() == expected
            await accounts.close()

    asyncio.run(run())
