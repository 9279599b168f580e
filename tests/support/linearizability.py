"""A linearizability checker for the history of one account.

A history is linearizable if every operation can have taken effect at one moment between its call and its
answer. The search for such moments is from Wing and Gong, "Testing and Verifying Concurrent Objects" (1993).
Remembering the sets of operations that were tried, and the states after them, is from Lowe, "Testing for
linearizability" (2017).
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple, TypeAlias


class State(NamedTuple):
    """An account. Sums are in cents."""

    balance: int
    overdraft_limit: int | None = None
    closed: bool = False


Answer: TypeAlias = State | str
"""The state after an operation, or the code of its refusal."""


class Operation(NamedTuple):
    """A request as its client saw it. Times are from one clock, sums are in cents.

    ``kind`` is ``read`` or a kind of transaction. An operation without an answer has an unknown outcome: it takes
    effect at any moment after the call, or never.
    """

    kind: str
    called: float
    answered: float = inf
    answer: Answer | None = None
    cents: int = 0  # of a deposit, a withdrawal or an opening
    overdraft_limit: int | None = None  # of an opening or a limit change


def answer_to(operation: Operation, state: State | None) -> Answer:
    """Return what an operation must be answered in a state, by the rules of accounts."""
    if operation.kind == "opening":
        return "account-already-exists" if state else State(operation.cents, operation.overdraft_limit)
    if state is None:
        return "account-not-found"
    if operation.kind == "read":
        return state
    if operation.kind == "limit-change":
        return state._replace(overdraft_limit=operation.overdraft_limit)
    if operation.kind == "reopening":
        return state._replace(closed=False) if state.closed else "account-not-closed"
    if state.closed:
        return "account-closed"
    if operation.kind == "closing":
        return "balance-not-zero" if state.balance else state._replace(closed=True)
    if operation.kind == "deposit":
        return state._replace(balance=state.balance + operation.cents)
    balance = state.balance - operation.cents
    if state.overdraft_limit is not None and balance < -state.overdraft_limit:
        return "insufficient-funds"
    return state._replace(balance=balance)


def is_linearizable(history: Sequence[Operation], first_state: State | None) -> bool:
    """Return whether the operations can be put in an order that explains every answer.

    :param first_state: the account before the first operation, or None if there is none.
    """
    in_order_of_calls = sorted(history, key=lambda operation: operation.called)
    bits = [(1 << position, operation) for position, operation in enumerate(in_order_of_calls)]
    answered = sum(bit for bit, operation in bits if operation.answer is not None)
    to_try = [(0, first_state)]
    seen = {(0, first_state)}
    while to_try:
        done, state = to_try.pop()
        if done & answered == answered:
            return True
        # An operation that was called after another was answered cannot precede it.
        first_answer = min(operation.answered for bit, operation in bits if not done & bit)
        for bit, operation in bits:
            if operation.called > first_answer:
                break
            if done & bit:
                continue
            answer = answer_to(operation, state)
            if operation.answer not in (None, answer):
                continue
            after = (done | bit, state if isinstance(answer, str) else answer)
            if after not in seen:
                seen.add(after)
                to_try.append(after)
    return False
