"""Transactions as values: each kind validates its facts, and applies them to an account."""

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import atm_core
from atm_core import (
    MAX_MONEY,
    Account,
    AccountAlreadyExists,
    AccountClosed,
    AccountNotClosed,
    AccountNotFound,
    AtmError,
    BalanceNotZero,
    BalanceOutOfRange,
    Closing,
    Deposit,
    Entry,
    InsufficientFunds,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    InvalidNote,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    WithdrawalLimitExceeded,
)
from atm_core.transaction import transaction_of

EVERY_KIND: list[Transaction] = [
    Opening("0", -5, 500, 20, "key", "note"),
    Deposit("0", 1, "key", "note"),
    Withdrawal("0", 1, "key", "note"),
    LimitChange("0", 500, None, "key", "note"),
    Closing("0", "key", "note"),
    Reopening("0", "key", "note"),
]
every_kind = pytest.mark.parametrize("transaction", EVERY_KIND, ids=lambda transaction: transaction.kind)


@every_kind
def test_examples_have_a_key_and_a_note(transaction: Transaction) -> None:
    assert (transaction.account_number, transaction.key, transaction.note) == ("0", "key", "note")


def test_examples_cover_every_kind() -> None:
    public = {value for value in vars(atm_core).values() if isinstance(value, type) and issubclass(value, Transaction)}
    assert public - {Transaction} == {type(each) for each in EVERY_KIND}
    assert [each.kind for each in EVERY_KIND] == [
        "opening",
        "deposit",
        "withdrawal",
        "limit-change",
        "closing",
        "reopening",
    ]


def test_transaction_of_no_kind_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Transaction("0", "deposit", "1")  # type: ignore[abstract]


def test_equal_amounts_make_equal_transactions() -> None:
    assert Deposit("0", 100, "key") == Deposit("0", "100.00", "key")
    assert hash(Deposit("0", 100, "key")) == hash(Deposit("0", Decimal("100.000"), "key"))
    assert Opening("0", "1.0", 0) == Opening("0", 1, "0.00", None)
    assert LimitChange("0", 5, "7.00") == LimitChange("0", "5.0", 7)


def test_every_fact_makes_another_transaction() -> None:
    different: list[Transaction] = [
        Opening("0", 5),
        Opening("0", 5, 0),
        Opening("0", 5, None, 0),
        Opening("0", 5, key="key"),
        Deposit("0", 5),
        Deposit("1", 5),
        Deposit("0", 6),
        Deposit("0", 5, "key"),
        Deposit("0", 5, "key", "note"),
        Deposit("0", 5, "key", "Note"),
        Withdrawal("0", 5),
        LimitChange("0", 5, None),
        LimitChange("0", None, 5),
        Closing("0"),
        Closing("0", note="note"),
        Reopening("0"),
    ]
    assert len(set(different)) == len(different)


@every_kind
def test_copied_transaction_is_equal(transaction: Transaction) -> None:
    for copied in (copy.deepcopy(transaction), pickle.loads(pickle.dumps(transaction))):  # noqa: S301 - our own bytes
        assert copied == transaction
        assert repr(copied) == repr(transaction)


@every_kind
def test_transaction_is_immutable(transaction: Transaction) -> None:
    with pytest.raises(AttributeError):
        transaction.key = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("transaction", "account", "after"),
    [
        (Opening("0", -5, 500, 20), None, Account("0", -5, 500, 20)),
        (Deposit("0", 1), Account("0", 1000, 500, 20), Account("0", 1001, 500, 20)),
        (Withdrawal("0", 1), Account("0", 1000, 500, 20), Account("0", 999, 500, 20)),
        (LimitChange("0", 0, None), Account("0", 1000, 500, 20), Account("0", 1000, 0)),
        (LimitChange("0", None, 1), Account("0", 0, closed=True), Account("0", 0, None, 1, closed=True)),
        (Closing("0"), Account("0", 0, 500), Account("0", 0, 500, closed=True)),
        (Reopening("0"), Account("0", 0, 500, closed=True), Account("0", 0, 500)),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_apply_returns_the_account_after_it(transaction: Transaction, account: Account | None, after: Account) -> None:
    applied = transaction.apply(account)
    assert applied == after
    assert applied.last_entry == 1


@pytest.mark.parametrize(
    ("transaction", "account", "refusal"),
    [
        (Opening("0", 5), Account("0", 5), AccountAlreadyExists),
        (Opening("0", 5), Account("0", 0, closed=True), AccountAlreadyExists),
        *[(each, None, AccountNotFound) for each in EVERY_KIND[1:]],
        (Deposit("0", 1), Account("0", MAX_MONEY), BalanceOutOfRange),
        (Deposit("0", MAX_MONEY), Account("0", 1, closed=True), AccountClosed),
        (Withdrawal("0", 1), Account("0", MAX_MONEY.copy_negate()), BalanceOutOfRange),
        (Withdrawal("0", 1), Account("0", MAX_MONEY.copy_negate(), 0), InsufficientFunds),
        (Withdrawal("0", 2), Account("0", 1, 0, 1), WithdrawalLimitExceeded),
        (Withdrawal("0", 2), Account("0", 1, 0, 1, closed=True), AccountClosed),
        (Closing("0"), Account("0", 1), BalanceNotZero),
        (Closing("0"), Account("0", 1, closed=True), AccountClosed),
        (Reopening("0"), Account("0", 0), AccountNotClosed),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_apply_raises_the_first_refusal(
    transaction: Transaction, account: Account | None, refusal: type[AtmError]
) -> None:
    with pytest.raises(refusal) as raised:
        transaction.apply(account)
    assert type(raised.value) is refusal
    assert raised.value.args[0] == "0"  # the account number


def test_opening_of_an_account_has_its_balance_and_limits() -> None:
    assert Opening.of(Account("0", -5, 500, 20, last_entry=7)) == Opening("0", -5, 500, 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Opening("a b", "0.001", key=""),
        lambda: Opening("a b", 0, -1, key=""),
        lambda: Opening("a b", 0, None, -1, key=""),
        lambda: Deposit("a b", 0, ""),
        lambda: Withdrawal("a b", "1e5", ""),
        lambda: LimitChange("a b", -1, None, ""),
        lambda: LimitChange("a b", None, "0.001", ""),
    ],
)
def test_invalid_amount_takes_precedence(make: Callable[[], Transaction]) -> None:
    with pytest.raises(InvalidAmount):
        make()


MAKE = [
    lambda number, key, note: Opening(number, 1, key=key, note=note),
    lambda number, key, note: Deposit(number, 1, key, note),
    lambda number, key, note: Withdrawal(number, 1, key, note),
    lambda number, key, note: LimitChange(number, 1, None, key, note),
    Closing,
    Reopening,
]


@pytest.mark.parametrize("make", MAKE)
def test_every_kind_refuses_malformed_text(make: Callable[[str, str | None, str | None], Transaction]) -> None:
    with pytest.raises(InvalidAccountNumber):
        make("a b", "", "")
    with pytest.raises(InvalidIdempotencyKey):
        make("0", "", "")
    with pytest.raises(InvalidNote):
        make("0", "key", "")
    assert make("0", None, None).key is None


@pytest.mark.parametrize("key", ["k", " ", "~", "a b", '"', "\\", "k" * 255])
def test_valid_key_is_accepted(key: str) -> None:
    assert Deposit("0", 1, key).key == key


@pytest.mark.parametrize("key", ["", "k" * 256, "\n", "a\n", "\0", "\x7f", "é", "\ud800", 1, b"k"])
def test_invalid_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidIdempotencyKey, match="1 to 255 printable ASCII characters") as refusal:
        Deposit("0", 1, key)  # type: ignore[arg-type]
    assert refusal.value.key == key


@pytest.mark.parametrize(
    "note",
    [
        " ",
        "order 1234",
        '"',
        "\\",
        "x" * 140,
        "😀" * 140,
        "Miete für März",
        "注文",
        "שכר",
        "👩\u200d👩\u200d👧",
        "\xa0",
    ],
)
def test_valid_note_is_accepted(note: str) -> None:
    assert Deposit("0", 1, note=note).note == note


@pytest.mark.parametrize(
    "note",
    [
        "", "x" * 141, "😀" * 141, "\n", "a\n", "a\tb", "\0", "\x1b[31m", "\x7f", "\x85", "\x9b", "\u2028", "\u2029",
        "\u202e", "\u2066", "\u200f", "\u061c", "\ud800", 1, b"note",
    ],
)  # fmt: skip
def test_invalid_note_is_refused(note: object) -> None:
    with pytest.raises(InvalidNote, match="1 to 140 characters, without control characters") as refusal:
        Deposit("0", 1, note=note)  # type: ignore[arg-type]
    assert refusal.value.note == note


@every_kind
def test_transaction_is_made_again_from_its_facts(transaction: Transaction) -> None:
    entry = Entry(transaction, Account("0", 0))
    limits = (getattr(transaction, "overdraft_limit", 1), getattr(transaction, "withdrawal_limit", 1))
    assert transaction_of(transaction.kind, "0", entry.amount, *limits, "key", "note") == transaction


@pytest.mark.parametrize("kind", ["Deposit", "", "transfer", None, 0])
def test_unknown_kind_raises_value_error(kind: str) -> None:
    with pytest.raises(ValueError, match="there is no transaction of the kind"):
        transaction_of(kind, "0", 1, None, None, None, None)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("opening", None), ("deposit", None), ("withdrawal", None), ("deposit", 1.5), ("closing", 1), ("limit-change", 0)],
)
def test_amount_that_does_not_fit_the_kind_raises_value_error(kind: str, amount: int | None) -> None:
    with pytest.raises(ValueError, match="there is no transaction of the kind"):
        transaction_of(kind, "0", amount, None, None, None, None)


def test_malformed_facts_are_refused() -> None:
    with pytest.raises(InvalidAmount):
        transaction_of("deposit", "0", -1, None, None, None, None)
    with pytest.raises(InvalidAmount):
        transaction_of("limit-change", "0", None, -1, None, None, None)
    with pytest.raises(InvalidNote):
        transaction_of("closing", "0", None, None, None, None, "")


@every_kind
def test_entry_amount_is_what_moved(transaction: Transaction) -> None:
    amounts = {"opening": -5, "deposit": 1, "withdrawal": 1}
    assert Entry(transaction, Account("0", 0), datetime.now(UTC)).amount == amounts.get(transaction.kind)
