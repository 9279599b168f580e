"""A stress test of ThreadedGroupCommit: threads switch at random lines of its code."""

import faulthandler
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from atm_adapters.repositories import group_commit
from atm_core import Account, Deposit, Page, Transaction
from atm_core.ports import BatchRepository

CALLS_PER_ROUND = 2_000

_THREADS = 8
_SWITCH_PROBABILITY = 0.02  # at each line; a missing lock is then found in 9 of 10 rounds
_ROUND_TIMEOUT = 20.0  # seconds; a round takes less than one


class _Idle(BatchRepository):
    """A repository that does nothing."""

    def get(self, account_number: str, /) -> Account:
        return Account(account_number, 0)

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        raise NotImplementedError

    def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account]:
        return [Account("0", 0) for _ in transactions]

    def close(self) -> None:
        """Do nothing."""


def unanswered_calls(rounds: int) -> int:
    """Run rounds of concurrent calls, and return the number of calls that were not answered.

    The rounds end with the first in which a call fails or hangs. If a call hangs, the tracebacks of all threads
    are written to standard error.
    """
    with _frequent_thread_switches():
        unanswered = (CALLS_PER_ROUND - _answered_calls() for _ in range(rounds))
        return next((count for count in unanswered if count), 0)


def _answered_calls() -> int:
    """Run one round, and return the number of calls that were answered."""
    accounts = group_commit.ThreadedGroupCommit(_Idle())
    transaction = Deposit("0", 1)
    answers: list[Account] = []

    def client() -> None:
        sys.settrace(_switch_threads)  # for this thread only
        for _ in range(CALLS_PER_ROUND // _THREADS):
            account = accounts.execute(transaction)
            answers.append(account)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(_THREADS)]
    deadline = time.monotonic() + _ROUND_TIMEOUT + 1
    faulthandler.dump_traceback_later(_ROUND_TIMEOUT, file=sys.stderr)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        faulthandler.cancel_dump_traceback_later()
    return answers.count(Account("0", 0))


def _switch_threads(frame: FrameType, _event: str, _argument: Any) -> Any:
    """Trace the lines of group commit, and let another thread run at some of them."""
    if frame.f_code.co_filename != group_commit.__file__:
        return None
    if random.random() < _SWITCH_PROBABILITY:
        time.sleep(0)
    return _switch_threads


@contextmanager
def _frequent_thread_switches() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
