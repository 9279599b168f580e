"""Calls behave alike on every store: awaited, gathered, as tasks, cancelled and abandoned, and from threads."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.server import serving
from support.stores import demo_store

from atm_adapters import open_async_store, open_threaded_store
from atm_adapters.repositories.bridges import ThreadPoolBridge
from atm_adapters.repositories.group_commit import GroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AccountNotFound,
    InsufficientFunds,
    InvalidAmount,
    InvalidPage,
    Overloaded,
    StoreUnavailable,
    deposit,
    get_account,
    open_account,
    read_history,
    set_limits,
    withdraw,
)


@pytest.fixture(params=["memory", "sqlite", "postgres", "remote"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store with the accounts "0" and "1"."""
    if request.param == "remote":
        with serving(InMemoryAccountRepository([Account("0", 1000), Account("1", 1000)])) as (host, port):
            yield f"http://{host}:{port}"
    elif request.param == "postgres":
        yield demo_store(request.getfixturevalue("url"))
    else:
        yield "memory:" if request.param == "memory" else demo_store(tmp_path / "accounts.sqlite3")


def test_awaited_gathered_and_task_calls_are_alike(store_url: str) -> None:
    async def run() -> None:
        async with open_async_store(store_url) as accounts:
            assert await deposit(accounts, "0", 1) == Account("0", 1001)
            gathered = await asyncio.gather(
                deposit(accounts, "0", 2), deposit(accounts, "9", 2), open_account(accounts, "2", 5),
                return_exceptions=True,
            )  # fmt: skip
            assert gathered[0] == Account("0", 1003)
            assert gathered[2] == Account("2", 5)
            assert isinstance(gathered[1], AccountNotFound)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(call) for call in (withdraw(accounts, "0", 4), get_account(accounts, "2"))]
                reading = group.create_task(read_history(accounts, "2"))
            assert [task.result() for task in tasks] == [Account("0", 999), Account("2", 5)]
            assert [entry.amount for entry in reading.result().entries] == [5]

    asyncio.run(run())


def test_malformed_arguments_are_refused_by_the_call_itself(store_url: str) -> None:
    async def run() -> None:
        async with open_async_store(store_url) as accounts:
            with pytest.raises(InvalidAmount):
                deposit(accounts, "0", 0)  # type: ignore[unused-coroutine]
            with pytest.raises(InvalidPage):
                read_history(accounts, "0", limit=0)  # type: ignore[unused-coroutine]

    asyncio.run(run())


def test_cancelled_calls_leave_the_store_usable(store_url: str) -> None:
    async def run() -> None:
        async with open_async_store(store_url) as accounts:
            for steps in range(10):
                calls = [asyncio.create_task(deposit(accounts, "0", 1, f"{steps}-{each}")) for each in range(10)]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                await asyncio.wait(calls)
            # Repeating a cancelled call with its key completes it, whether or not it was applied.
            repeated = [deposit(accounts, "0", 1, f"{steps}-{each}") for steps in range(10) for each in range(10)]
            await asyncio.wait_for(asyncio.gather(*repeated), 30)
            assert await get_account(accounts, "0") == Account("0", 1100)

    asyncio.run(run())


@pytest.mark.parametrize("store_url", ["sqlite", "postgres", "remote"], indirect=True)
def test_store_whose_event_loop_ended_says_to_open_another(store_url: str) -> None:
    accounts = open_async_store(store_url)

    async def leave_deposits() -> None:
        tasks = [asyncio.create_task(deposit(accounts, "0", 1, f"{each}")) for each in range(100)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def use_again() -> None:
        calls = [deposit(accounts, "0", 1), get_account(accounts, "0")]
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        for error in outcomes:
            assert isinstance(error, StoreUnavailable)
            assert error.reason == "it belongs to another event loop; open a store in each event loop"
        await accounts.close()

    async def use_another() -> None:
        async with open_async_store(store_url) as another:
            await asyncio.gather(*(deposit(another, "0", 1, f"{each}") for each in range(100)))
            assert await get_account(another, "0") == Account("0", 1100)

    asyncio.run(leave_deposits())
    asyncio.run(use_again())
    asyncio.run(use_another())


@pytest.mark.parametrize("wrapper", [GroupCommit, ThreadPoolBridge])
def test_surplus_of_gathered_calls_is_overloaded(wrapper: type[GroupCommit | ThreadPoolBridge]) -> None:
    async def run() -> None:
        async with wrapper(InMemoryAccountRepository([Account("0", 0)])) as accounts:
            calls = (deposit(accounts, "0", 1) for _ in range(15_000))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert Counter(type(outcome) for outcome in outcomes) == {Account: 10_000, Overloaded: 5_000}
            assert await get_account(accounts, "0") == Account("0", 10_000)

    asyncio.run(run())


BOUGHT_ONCE = {Account: 1, InsufficientFunds: 19}


def test_20_buyers_on_an_event_loop_cannot_overdraw(store_url: str) -> None:
    async def run() -> None:
        async with open_async_store(store_url) as accounts:
            await withdraw(accounts, "0", 990)
            await set_limits(accounts, "0", 0, None)
            buying = (withdraw(accounts, "0", 6) for _ in range(20))
            outcomes = await asyncio.gather(*buying, return_exceptions=True)
            assert Counter(type(outcome) for outcome in outcomes) == BOUGHT_ONCE
            assert (await get_account(accounts, "0")).balance == 4

    asyncio.run(run())


def test_20_buyers_in_threads_cannot_overdraw(store_url: str) -> None:
    with open_threaded_store(store_url) as accounts, ThreadPoolExecutor(20) as threads:
        withdraw(accounts, "0", 990)
        set_limits(accounts, "0", 0, None)
        buying = [threads.submit(withdraw, accounts, "0", 6) for _ in range(20)]
        assert Counter(type(buyer.exception(30) or buyer.result()) for buyer in buying) == BOUGHT_ONCE
        assert get_account(accounts, "0").balance == 4
