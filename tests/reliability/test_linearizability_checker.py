"""The linearizability checker accepts exactly the histories that one account can produce."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.linearizability import Answer, Operation, State, is_linearizable

OPENED = State(1000)


def deposit(cents: int, called: float, answered: float = inf, balance: int | None = None) -> Operation:
    return Operation("deposit", called, answered, None if balance is None else State(balance), cents)


def withdrawal(cents: int, called: float, answered: float, answer: Answer) -> Operation:
    return Operation("withdrawal", called, answered, answer, cents)


def read(called: float, answered: float, answer: Answer) -> Operation:
    return Operation("read", called, answered, answer)


FIRST = deposit(100, 0, 10, 1100)
NO_OVERDRAFT = Operation("limit-change", 0, 10, State(1000, 0), overdraft_limit=0)
EMPTIED = withdrawal(1000, 0, 10, State(0))
CLOSED = Operation("closing", 20, 30, State(0, closed=True))
REFUSED = withdrawal(1001, 0, 10, "insufficient-funds")
POSSIBLE = {
    "no operations": [],
    "one after the other": [FIRST, read(20, 30, State(1100)), withdrawal(1200, 40, 50, State(-100))],
    "a read during a deposit sees the balance before it": [FIRST, read(5, 6, State(1000))],
    "a read during a deposit sees the balance after it": [FIRST, read(5, 6, State(1100))],
    "two at once, in either order": [deposit(100, 0, 10, 1107), deposit(7, 0, 10, 1007)],
    "an unknown outcome that never happened": [deposit(7, 0), deposit(100, 5, 10, 1100)],
    "an unknown outcome that happened": [deposit(7, 0), deposit(100, 5, 10, 1107)],
    "an unknown outcome that happened late": [deposit(7, 0), FIRST, read(20, 30, State(1107))],
    "only unknown outcomes": [deposit(7, 0), deposit(-100, 5)],
    "a withdrawal refused by the new limit": [NO_OVERDRAFT, REFUSED],
    "a withdrawal before the new limit": [
        Operation("limit-change", 0, 10, State(-1, 0), overdraft_limit=0),
        withdrawal(1001, 0, 10, State(-1)),
    ],
    "a deposit that makes a withdrawal possible": [
        NO_OVERDRAFT,
        withdrawal(1001, 20, 50, State(0, 0)),
        Operation("deposit", 20, 50, State(1001, 0), 1),
    ],
    "a closing and a reopening": [EMPTIED, CLOSED, Operation("reopening", 40, 50, State(0))],
    "refusals by a closed account": [
        EMPTIED,
        CLOSED,
        Operation("deposit", 40, 50, "account-closed", 5),
        Operation("closing", 40, 50, "account-closed"),
        Operation("opening", 40, 50, "account-already-exists"),
        read(40, 50, State(0, closed=True)),
    ],
    "a closing that is refused": [Operation("closing", 0, 10, "balance-not-zero")],
}
IMPOSSIBLE = {
    "a stale read": [FIRST, read(20, 30, State(1000))],
    "a lost deposit": [FIRST, deposit(7, 20, 30, 1107), read(40, 50, State(1007))],
    "a lost withdrawal": [FIRST, withdrawal(7, 0, 10, State(1093)), read(40, 50, State(1100))],
    "a deposit that counts twice": [FIRST, read(20, 30, State(1200))],
    "the same balance for two deposits": [FIRST, deposit(100, 0, 10, 1100)],
    "an answer from the future": [read(0, 10, State(1100)), deposit(100, 20, 30, 1100)],
    "a read that contradicts the order of two deposits": [
        deposit(100, 0, 50, 1100),
        deposit(7, 0, 50, 1107),
        read(10, 20, State(1007)),
    ],
    "an unknown outcome that is visible before its call": [read(0, 10, State(1007)), deposit(7, 20)],
    "an unknown outcome that is undone": [deposit(7, 0), read(10, 20, State(1007)), read(30, 40, State(1000))],
    "a withdrawal refused without a reason": [REFUSED],
    "a withdrawal below the limit": [NO_OVERDRAFT, withdrawal(1001, 20, 30, State(-1, 0))],
    "a lost limit change": [NO_OVERDRAFT, read(20, 30, State(1000))],
    "a closing with a balance": [Operation("closing", 0, 10, State(1000, closed=True))],
    "a deposit to a closed account": [EMPTIED, CLOSED, deposit(5, 40, 50, 5)],
    "a lost closing": [EMPTIED, CLOSED, read(40, 50, State(0))],
    "a second opening": [Operation("opening", 0, 10, State(5), 5)],
}


def test_openings_have_one_winner() -> None:
    openings = [
        Operation("opening", 0, 10, State(5, 7), 5, 7),
        Operation("opening", 0, 10, "account-already-exists", 9),
    ]
    assert is_linearizable([*openings, read(0, 5, "account-not-found"), read(20, 30, State(5, 7))], None)
    assert not is_linearizable([*openings, read(20, 30, State(9))], None)
    assert not is_linearizable([*openings, read(20, 30, "account-not-found")], None)
    assert not is_linearizable([openings[0], openings[1]._replace(answer=State(9))], None)


@pytest.mark.parametrize("history", POSSIBLE.values(), ids=POSSIBLE)
def test_possible_history_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history, OPENED)


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_history_is_rejected(history: list[Operation]) -> None:
    assert not is_linearizable(history, OPENED)


_even = st.integers(-500, 500).map(lambda half: 2 * half)
_fates = st.sampled_from(["answered", "answered", "unknown, applied", "unknown, not applied"])
_steps = st.lists(st.tuples(_even, st.floats(0, 5), st.floats(0, 5), _fates), min_size=1, max_size=30)


@given(steps=_steps, position=st.integers(0, 29))
def test_real_history_is_accepted_unless_one_answer_is_a_cent_off(
    steps: list[tuple[int, float, float, str]], position: int
) -> None:
    state = OPENED
    history = []
    for moment, (change, before, after, fate) in enumerate(steps):
        if fate != "unknown, not applied":
            state = State(state.balance + change)
        operation = Operation("deposit" if change > 0 else "withdrawal", moment - before, cents=abs(change))
        history.append(operation._replace(answered=moment + after, answer=state) if fate == "answered" else operation)
    assert is_linearizable(history, OPENED)

    answered = history[position % len(history)]
    history[position % len(history)] = answered._replace(answer=State(1001), answered=answered.called)
    assert not is_linearizable(history, OPENED)  # all changes are even, so no balance is odd
