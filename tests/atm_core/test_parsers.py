"""Whatever a parser of the core is given, it returns a value or raises the refusal it names, in under 10 ms."""

import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atm_core import LARGEST_SUM, AtmError, InvalidAccountNumber, InvalidAmount, InvalidKey
from atm_core.account import valid_account_number
from atm_core.money import to_amount, to_sum
from atm_core.transaction import valid_key

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
        (to_amount, InvalidAmount),
        (to_sum, InvalidAmount),
        (valid_account_number, InvalidAccountNumber),
        (valid_key, InvalidKey),
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
def test_a_value_or_the_named_refusal_comes_back_within_10_ms(
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
        assert abs(parsed) <= LARGEST_SUM
        assert parsed.as_tuple().exponent == -2
    else:
        assert parsed == (None if message else value)
