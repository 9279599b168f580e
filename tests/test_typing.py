"""Calls that a strict type checker must accept or reject. mypy reads this file (``nox -s types``).

Each ignore below is an assertion: ``warn_unused_ignores`` reports it if mypy accepts the call.
"""

import asyncio

from atm_adapters import open_async_store, open_store, open_threaded_store
from atm_adapters.bootstrap import init_store
from atm_adapters.front_ends.http.app import create_app
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, Page, deposit, read_history
from atm_core.ports import AsyncStore, Store

BLOCKING = InMemoryAccountRepository([Account("0", 1000)])
AWAITABLE = InlineBridge(BLOCKING)


def test_use_case_returns_the_result_type_of_the_repository() -> None:
    account: Account = deposit(BLOCKING, "0", 1)
    page: Page = read_history(BLOCKING, "0")
    assert account.balance == 1001
    assert len(page.entries) == 2


async def accepted_and_rejected_calls() -> None:
    deposit(BLOCKING, "0", 1.5)  # type: ignore[arg-type]
    create_app(BLOCKING)  # type: ignore[arg-type]
    create_app(AWAITABLE)
    account: Account = await deposit(AWAITABLE, "0", 1)
    account = deposit(AWAITABLE, "0", 1)  # type: ignore[assignment]
    page: Page = await read_history(AWAITABLE, "0")
    page = read_history(AWAITABLE, "0")  # type: ignore[assignment]
    account = await deposit(BLOCKING, "0", 1)  # type: ignore[arg-type]
    page = await read_history(BLOCKING, "0")  # type: ignore[arg-type]
    assert account.balance == len(page.entries)


def accepted_and_rejected_stores() -> None:
    with open_store("memory:") as store:
        blocking: Store = store
        account: Account = deposit(store, "0", 1)
        GroupCommit(store)  # type: ignore[arg-type] # not every store can share commits
    open_store("memory:", True)  # type: ignore[call-arg] # what it means must be named
    open_store("memory:", create="yes")  # type: ignore[arg-type]
    with open_threaded_store("memory:", create=True) as store:
        account = deposit(store, "0", 1)
    changed: int | None = init_store("memory:")
    changed = init_store("memory:", create=True)  # type: ignore[call-arg]
    assert changed is None
    with ThreadedGroupCommit(BLOCKING) as threaded:
        account = deposit(threaded, "0", 1)
        InlineBridge(threaded)
    with open_async_store("memory:"):  # type: ignore[attr-defined]
        assert account.balance
    blocking = AWAITABLE  # type: ignore[assignment]
    asynchronous: AsyncStore = blocking  # type: ignore[assignment]
    asyncio.run(asynchronous.close())


async def accepted_and_rejected_tasks() -> None:
    async with open_async_store("memory:", create=False) as store, asyncio.TaskGroup() as group:
        task: asyncio.Task[Account] = group.create_task(deposit(store, "0", 1))
        group.create_task(read_history(store, "0"))
        group.create_task(deposit(BLOCKING, "0", 1))  # type: ignore[arg-type]
        deposit(store, "0", 1)  # type: ignore[unused-coroutine]
        (first, second) = await asyncio.gather(deposit(store, "0", 1), read_history(store, "0"))
        assert task.result() == first
        assert second.has_more
    async with open_store("memory:"):  # type: ignore[attr-defined]
        pass
