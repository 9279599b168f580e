"""A linearizability checker for the history of one account.

A history is linearizable if every operation can have taken effect at one moment between its call and its
answer. The search for such moments is from Wing and Gong, "Testing and Verifying Concurrent Objects" (1993).
Remembering the sets of operations that were tried is from Lowe, "Testing for linearizability" (2017).
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Operation(NamedTuple):
    """A request as its client saw it. Times are from one clock, money is in cents.

    An operation without an answer has an unknown outcome: it takes effect at any moment after the call, or never.
    """

    change: int  # 0 for a read, negative for a withdrawal
    called: float
    answered: float = inf
    balance: int | None = None


def is_linearizable(history: Sequence[Operation], opening: int) -> bool:
    """Return whether the operations can be put in an order that explains every answer.

    :param opening: the balance before the first operation.
    """
    in_order_of_calls = sorted(history, key=lambda operation: operation.called)
    bits = [(1 << position, operation) for position, operation in enumerate(in_order_of_calls)]
    answered = sum(bit for bit, operation in bits if operation.balance is not None)
    to_try = [(0, opening)]
    seen = {0}  # sets of operations, each of which has one balance in every order
    while to_try:
        done, balance = to_try.pop()
        if done & answered == answered:
            return True
        # An operation that was called after another was answered cannot precede it.
        first_answer = min(operation.answered for bit, operation in bits if not done & bit)
        for bit, operation in bits:
            if operation.called > first_answer:
                break
            after = balance + operation.change
            if not done & bit and done | bit not in seen and operation.balance in (None, after):
                seen.add(done | bit)
                to_try.append((done | bit, after))
    return False
