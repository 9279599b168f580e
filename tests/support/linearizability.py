"""Linearizability: whether concurrent clients were answered as by an account that does one thing at a time.

More exactly: whether every operation can have taken effect at one moment between its call and its answer.
The search for such moments is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993); to
remember which sets of operations led nowhere is Lowe's ("Testing for linearizability", 2017).
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Operation(NamedTuple):
    """A request as its client saw it: times of one clock, and money in cents.

    Without an answer its outcome is unknown: it takes effect at any moment after the call, or never.
    """

    change: int  # zero for a read, below zero for a withdrawal
    called: float
    answered: float = inf
    balance: int | None = None


def is_linearizable(history: Sequence[Operation], opening: int) -> bool:
    """Say whether the operations can be put in an order that explains every answer.

    :param opening: what the account held before the first of them.
    """
    in_order_of_calls = sorted(history, key=lambda operation: operation.called)
    bits = [(1 << position, operation) for position, operation in enumerate(in_order_of_calls)]
    must_be_done = sum(bit for bit, operation in bits if operation.balance is not None)
    to_try = [(0, opening)]
    seen = {0}  # sets of operations; they tell the balance too, whatever their order was
    while to_try:
        done, balance = to_try.pop()
        if done & must_be_done == must_be_done:
            return True
        # What was called after something was answered can't have come before it.
        first_answer = min(operation.answered for bit, operation in bits if not done & bit)
        for bit, operation in bits:
            if operation.called > first_answer:
                break
            after = balance + operation.change
            if not done & bit and done | bit not in seen and operation.balance in (None, after):
                seen.add(done | bit)
                to_try.append((done | bit, after))
    return False
