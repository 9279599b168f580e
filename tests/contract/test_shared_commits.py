"""Openings share commits like every other transaction."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from support.repositories import new_sqlite

from atm_adapters.repositories.group_commit import GroupCommit
from atm_core import Account, deposit, open_account

CALLERS = 32
CALLS = 1_000


class CountedCommits:
    """Counts commits and their transactions."""

    def __init__(self) -> None:
        self.commits = 0
        self.transactions = 0

    def waiting(self, transactions: int, /) -> None:
        """Do nothing."""

    def committed(self, transactions: int, seconds: float, /) -> None:  # noqa: ARG002 - the observer's port
        self.commits += 1
        self.transactions += transactions


async def _commits_of(commits: CountedCommits, calls: Iterator[Coroutine[Any, Any, Account]]) -> int:
    """Let the callers make all calls, each one after the other, and return the number of commits."""
    before = commits.commits

    async def caller() -> None:
        for call in calls:
            await call

    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    return commits.commits - before


def test_openings_take_no_more_commits_than_deposits() -> None:
    commits = CountedCommits()

    async def run() -> tuple[int, int]:
        with new_sqlite() as store:
            async with GroupCommit(store, observer=commits) as accounts:
                numbers = [f"account-{number}" for number in range(CALLS)]
                openings = await _commits_of(commits, (open_account(accounts, number) for number in numbers))
                deposits = await _commits_of(commits, (deposit(accounts, number, 1) for number in numbers))
        return openings, deposits

    openings, deposits = asyncio.run(run())
    assert commits.transactions == 2 * CALLS
    assert openings <= deposits <= 2 * CALLS / CALLERS
