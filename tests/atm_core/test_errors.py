"""Every error has a stable code, a sentence for people, and its facts as attributes."""

import copy
import decimal
import pickle
from decimal import Decimal

import pytest

import atm_core
from atm_core import (
    AccountAlreadyExists,
    AccountClosed,
    AccountNotClosed,
    AccountNotFound,
    AtmError,
    BalanceNotZero,
    BalanceOutOfRange,
    IdempotencyKeyReused,
    InconsistentJournal,
    InsufficientFunds,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    InvalidNote,
    InvalidPage,
    OutcomeUnknown,
    Overloaded,
    StoreNotEmpty,
    StoreNotInitialized,
    StoreUnavailable,
    WithdrawalLimitExceeded,
)

# Each error, its code, its facts in order, and what its text says.
EXAMPLES: list[tuple[AtmError, str, dict[str, object], str]] = [
    (
        InvalidAmount("abc", "is wrong", "overdraft_limit"),
        "invalid-amount",
        {"amount": "abc", "reason": "is wrong", "parameter": "overdraft_limit"},
        "The overdraft limit 'abc' is wrong.",
    ),
    (
        InvalidAccountNumber("a b", "is wrong"),
        "invalid-account-number",
        {"account_number": "a b", "reason": "is wrong"},
        "The account number 'a b' is wrong.",
    ),
    (
        InvalidIdempotencyKey("\n", "is wrong"),
        "invalid-key",
        {"key": "\n", "reason": "is wrong"},
        r"The idempotency key '\n' is wrong.",
    ),
    (InvalidNote("\n", "is wrong"), "invalid-note", {"note": "\n", "reason": "is wrong"}, r"The note '\n' is wrong."),
    (
        InvalidPage("limit", 0, "is wrong"),
        "invalid-page",
        {"parameter": "limit", "value": 0, "reason": "is wrong"},
        "The argument limit (0) is wrong.",
    ),
    (AccountNotFound("9"), "account-not-found", {"account_number": "9"}, "There is no account 9."),
    (AccountAlreadyExists("0"), "account-already-exists", {"account_number": "0"}, "Account 0 exists already."),
    (AccountClosed("0"), "account-closed", {"account_number": "0"}, "Account 0 is closed."),
    (AccountNotClosed("0"), "account-not-closed", {"account_number": "0"}, "Account 0 is not closed."),
    (
        BalanceNotZero("0", Decimal("1234.50")),
        "balance-not-zero",
        {"account_number": "0", "balance": Decimal("1234.50")},
        "Account 0 has a balance of 1234.50.",
    ),
    (
        InsufficientFunds("0", Decimal("1234.50")),
        "insufficient-funds",
        {"account_number": "0", "available": Decimal("1234.50")},
        "At most 1234.50 can be withdrawn from account 0 now.",
    ),
    (
        WithdrawalLimitExceeded("0", Decimal("1234.50")),
        "withdrawal-limit-exceeded",
        {"account_number": "0", "limit": Decimal("1234.50")},
        "One withdrawal from account 0 can take at most 1234.50.",
    ),
    (
        BalanceOutOfRange("0", Decimal("1234.50")),
        "balance-out-of-range",
        {"account_number": "0", "limit": Decimal("1234.50")},
        "from -1,234.50 to 1,234.50.",
    ),
    (
        IdempotencyKeyReused("0", "k"),
        "key-reused",
        {"account_number": "0", "key": "k"},
        "The idempotency key 'k' was used on account 0 for another transaction.",
    ),
    (
        InconsistentJournal("0", 2),
        "inconsistent-journal",
        {"account_number": "0", "entry": 2},
        "Entry 2 of account 0 does not follow from the entries before it.",
    ),
    (StoreNotEmpty("/x"), "store-not-empty", {"store": "/x"}, "The store /x has accounts."),
    (
        StoreNotInitialized("/x", "it does not exist", 0),
        "store-not-initialized",
        {"store": "/x", "reason": "it does not exist", "schema_version": 0},
        "The store /x is unavailable: it does not exist.",
    ),
    (
        StoreUnavailable("/x", "it was deleted"),
        "store-unavailable",
        {"store": "/x", "reason": "it was deleted"},
        "The store /x is unavailable: it was deleted.",
    ),
    (Overloaded(10_000), "overloaded", {"waiting": 10_000}, "10,000 requests are waiting already"),
    (
        OutcomeUnknown("/x", "disk I/O error", "Read it."),
        "outcome-unknown",
        {"store": "/x", "reason": "disk I/O error", "advice": "Read it."},
        "The store /x failed while it committed (disk I/O error). Read it.",
    ),
]
REFUSED_CHANGES = [
    AccountClosed, AccountNotClosed, BalanceNotZero, InsufficientFunds, WithdrawalLimitExceeded, BalanceOutOfRange,
    IdempotencyKeyReused,
]  # fmt: skip
IDS = [code for _, code, _, _ in EXAMPLES]
every_error = pytest.mark.parametrize("error", [error for error, *_ in EXAMPLES], ids=IDS)


@pytest.mark.parametrize(("error", "code", "facts", "text"), EXAMPLES, ids=IDS)
def test_error_has_code_facts_and_a_sentence(error: AtmError, code: str, facts: dict[str, object], text: str) -> None:
    assert error.code == code
    assert {name: getattr(error, name) for name in facts} == facts
    assert error.args == tuple(facts.values())
    assert text in str(error)
    assert str(error).endswith(".")
    assert "\n" not in str(error)
    assert ("Nothing was changed." in str(error)) == (type(error) in REFUSED_CHANGES)


@every_error
def test_copied_error_is_the_same(error: AtmError) -> None:
    for copied in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert type(copied) is type(error)
        assert (copied.args, str(copied)) == (error.args, str(error))


@every_error
def test_decimal_context_does_not_change_a_message(error: AtmError) -> None:
    message = str(error)
    with decimal.localcontext(decimal.Context(prec=1, traps=[decimal.Inexact, decimal.Rounded], Emax=1, Emin=0)):
        assert str(error) == message


def test_examples_cover_every_error_of_the_core() -> None:
    public = {value for value in vars(atm_core).values() if isinstance(value, type) and issubclass(value, AtmError)}
    assert public - {AtmError} == {type(error) for error, *_ in EXAMPLES}


def test_codes_are_distinct() -> None:
    assert len(set(IDS)) == len(EXAMPLES)
