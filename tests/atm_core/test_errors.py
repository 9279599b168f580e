"""Every error has a stable code, a sentence for people, and its facts as attributes."""

import pickle
from decimal import Decimal

import pytest

import atm_core
from atm_core import (
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    BalanceOutOfRange,
    IdempotencyKeyReused,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)

EXAMPLES = [
    (InvalidAmount("abc", "is wrong"), "invalid-amount", {"amount": "abc", "reason": "is wrong"}),
    (InvalidAccountNumber("a b", "is wrong"), "invalid-account-number", {"account_number": "a b"}),
    (InvalidIdempotencyKey("\n", "is wrong"), "invalid-key", {"key": "\n"}),
    (AccountNotFound("9"), "account-not-found", {"account_number": "9"}),
    (AccountAlreadyExists("0"), "account-already-exists", {"account_number": "0"}),
    (BalanceOutOfRange("0", Decimal(5)), "balance-out-of-range", {"account_number": "0", "limit": Decimal(5)}),
    (IdempotencyKeyReused("0", "k"), "key-reused", {"account_number": "0", "key": "k"}),
    (StoreUnavailable("/x", "it was deleted"), "store-unavailable", {"store": "/x", "reason": "it was deleted"}),
    (Overloaded(10_000), "overloaded", {"waiting": 10_000}),
    (OutcomeUnknown("/x", "disk I/O error"), "outcome-unknown", {"store": "/x", "reason": "disk I/O error"}),
]


@pytest.mark.parametrize(("error", "code", "facts"), EXAMPLES, ids=[code for _, code, _ in EXAMPLES])
def test_error_keeps_code_and_facts_when_pickled(error: AtmError, code: str, facts: dict[str, object]) -> None:
    for copy in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert copy.code == code
        assert {name: getattr(copy, name) for name in facts} == facts
        assert str(copy) == str(error)
        assert str(copy).endswith(".")
        assert "\n" not in str(copy)


def test_examples_cover_every_error_of_the_core() -> None:
    public = {value for value in vars(atm_core).values() if isinstance(value, type) and issubclass(value, AtmError)}
    assert public - {AtmError} == {type(error) for error, _, _ in EXAMPLES}
