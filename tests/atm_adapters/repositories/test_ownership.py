"""A store is refused in a forked child and in a second event loop, instead of losing transactions or hanging."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from support import forked_child
from support.server import serving
from support.stores import demo_store

from atm_adapters.repositories.bridges import ThreadPoolBridge
from atm_adapters.repositories.group_commit import GroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, StoreUnavailable, deposit, get_account, read_history


def _assert_refused_in_forked_child(wrapper: str, url: str, harmless: tuple[str, ...] = ()) -> None:
    done = subprocess.run(  # noqa: S603 - a program of the tests
        [sys.executable, forked_child.__file__, wrapper, url], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    refusals = [line for line in done.stdout.splitlines() if line not in harmless]
    assert len(refusals) >= 3
    for refusal in refusals:
        assert refusal.endswith("is unavailable: it was opened in another process; open it in each process.")


@pytest.mark.parametrize("wrapper", ["none", "GroupCommit", "InlineBridge", "ThreadPoolBridge"])
def test_memory_is_refused_in_a_forked_child(wrapper: str) -> None:
    _assert_refused_in_forked_child(
        wrapper, "memory:", harmless=("None", str(InMemoryAccountRepository().durability()))
    )


@pytest.mark.parametrize("wrapper", ["none", "GroupCommit", "ThreadedGroupCommit"])
def test_sqlite_is_refused_in_a_forked_child(wrapper: str, tmp_path: Path) -> None:
    _assert_refused_in_forked_child(wrapper, demo_store(tmp_path / "accounts.sqlite3"))


@pytest.mark.parametrize("wrapper", ["none", "GroupCommit", "ThreadedGroupCommit"])
def test_postgres_is_refused_in_a_forked_child(wrapper: str, url: str) -> None:
    _assert_refused_in_forked_child(wrapper, demo_store(url))


@pytest.mark.parametrize("wrapper", ["none", "ThreadPoolBridge"])
def test_remote_is_refused_in_a_forked_child(wrapper: str) -> None:
    with serving(InMemoryAccountRepository([Account("0", 1000)])) as (host, port):
        _assert_refused_in_forked_child(wrapper, f"http://{host}:{port}")


@pytest.mark.parametrize("wrapper", [GroupCommit, ThreadPoolBridge])
def test_second_event_loop_is_refused_at_once(wrapper: type[GroupCommit | ThreadPoolBridge]) -> None:
    accounts = wrapper(InMemoryAccountRepository([Account("0", 1000)]))

    async def leave_a_deposit() -> None:
        asyncio.create_task(deposit(accounts, "0", 1))  # noqa: RUF006 - asyncio.run() ends before its commit
        await asyncio.sleep(0)

    async def call() -> None:
        calls = [deposit(accounts, "0", 1), get_account(accounts, "0"), read_history(accounts, "0")]
        for attempt in (*calls, accounts.durability()):
            with pytest.raises(StoreUnavailable, match="open a store in each event loop"):
                await asyncio.wait_for(attempt, 10)

    asyncio.run(leave_a_deposit())
    asyncio.run(call())
    asyncio.run(accounts.close())  # closing is not refused, because the first event loop has ended
