"""For any input, each parser of the core returns a value or raises its own error within 10 ms."""

import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atm_core import MAX_MONEY, AtmError, InvalidAccountNumber, InvalidAmount, InvalidIdempotencyKey, InvalidNote
from atm_core.account import parse_account_number
from atm_core.money import parse_amount, parse_limit, parse_money
from atm_core.transaction import parse_key, parse_note

ANYTHING = st.one_of(
    st.text(),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,70}", fullmatch=True),
    st.integers(),
    st.decimals(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.lists(st.integers()),
)


@pytest.mark.parametrize(
    ("parse", "refusal"),
    [
        (parse_amount, InvalidAmount),
        (parse_money, InvalidAmount),
        (partial(parse_limit, parameter="overdraft_limit"), InvalidAmount),
        (parse_account_number, InvalidAccountNumber),
        (parse_key, InvalidIdempotencyKey),
        (parse_note, InvalidNote),
    ],
)
@given(value=ANYTHING)
@example(value=10**100_000)
@example(value="9" * 60_000)
@example(value="x" * 10_000_000)
@example(value="\U00010000" * 64)
@example(value=Decimal("9" * 60_000))
@example(value=Decimal((0, (1,), 10**17)))
@example(value=Decimal((1, (1,), -(10**17))))
@example(value=Decimal("sNaN"))
@example(value=float("nan"))
def test_parser_returns_or_refuses_within_10_ms(
    parse: Callable[[object], object], refusal: type[AtmError], value: object
) -> None:
    parsed, message = None, ""
    began = time.thread_time()
    try:
        parsed = parse(value)
    except refusal as error:
        message = str(error)
    seconds = time.thread_time() - began

    assert seconds < 0.010
    assert len(message) < 300
    if isinstance(parsed, Decimal):
        assert parsed == Decimal(value)  # type: ignore[arg-type]
        assert abs(parsed) <= MAX_MONEY
        assert parsed.as_tuple().exponent == -2
    else:
        assert parsed == (None if message else value)
