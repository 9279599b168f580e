"""The linearizability checker accepts exactly the histories that one account can produce."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.linearizability import Operation, is_linearizable

OPENING = 1000

FIRST = Operation(100, 0, 10, 1100)
POSSIBLE = {
    "no operations": [],
    "one after the other": [FIRST, Operation(0, 20, 30, 1100), Operation(-1200, 40, 50, -100)],
    "a read during a deposit sees the balance before it": [FIRST, Operation(0, 5, 6, 1000)],
    "a read during a deposit sees the balance after it": [FIRST, Operation(0, 5, 6, 1100)],
    "two at once, in either order": [Operation(100, 0, 10, 1107), Operation(7, 0, 10, 1007)],
    "an unknown outcome that never happened": [Operation(7, 0), Operation(100, 5, 10, 1100)],
    "an unknown outcome that happened": [Operation(7, 0), Operation(100, 5, 10, 1107)],
    "an unknown outcome that happened late": [Operation(7, 0), FIRST, Operation(0, 20, 30, 1107)],
    "only unknown outcomes": [Operation(7, 0), Operation(-100, 5)],
}
IMPOSSIBLE = {
    "a stale read": [FIRST, Operation(0, 20, 30, 1000)],
    "a lost deposit": [FIRST, Operation(7, 20, 30, 1107), Operation(0, 40, 50, 1007)],
    "a lost withdrawal": [FIRST, Operation(-7, 0, 10, 1093), Operation(0, 40, 50, 1100)],
    "a deposit that counts twice": [FIRST, Operation(0, 20, 30, 1200)],
    "the same balance for two deposits": [FIRST, Operation(100, 0, 10, 1100)],
    "an answer from the future": [Operation(0, 0, 10, 1100), Operation(100, 20, 30, 1100)],
    "a read that contradicts the order of two deposits": [
        Operation(100, 0, 50, 1100),
        Operation(7, 0, 50, 1107),
        Operation(0, 10, 20, 1007),
    ],
    "an unknown outcome that is visible before its call": [Operation(0, 0, 10, 1007), Operation(7, 20)],
    "an unknown outcome that is undone": [Operation(7, 0), Operation(0, 10, 20, 1007), Operation(0, 30, 40, 1000)],
}


@pytest.mark.parametrize("history", POSSIBLE.values(), ids=POSSIBLE)
def test_possible_history_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history, OPENING)


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_history_is_rejected(history: list[Operation]) -> None:
    assert not is_linearizable(history, OPENING)


_even = st.integers(-500, 500).map(lambda half: 2 * half)
_fates = st.sampled_from(["answered", "answered", "unknown, applied", "unknown, not applied"])
_steps = st.lists(st.tuples(_even, st.floats(0, 5), st.floats(0, 5), _fates), min_size=1, max_size=30)


@given(steps=_steps, position=st.integers(0, 29))
def test_real_history_is_accepted_unless_one_answer_is_a_cent_off(
    steps: list[tuple[int, float, float, str]], position: int
) -> None:
    balance = OPENING
    history = []
    for moment, (change, before, after, fate) in enumerate(steps):
        balance += change if fate != "unknown, not applied" else 0
        operation = Operation(change, moment - before)
        history.append(
            operation._replace(answered=moment + after, balance=balance) if fate == "answered" else operation
        )
    assert is_linearizable(history, OPENING)

    answered = history[position % len(history)]
    history[position % len(history)] = answered._replace(balance=OPENING + 1, answered=answered.called)
    assert not is_linearizable(history, OPENING)  # all changes are even, so no balance is odd
