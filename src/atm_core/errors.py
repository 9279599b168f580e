"""Every refusal and failure of the core: one class each, with a stable code and its facts as attributes."""

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar, dataclass_transform


@dataclass_transform(eq_default=False)
class AtmError(Exception):
    """The base class of all refusals and failures. Each subclass becomes a dataclass whose fields are the facts.

    ``code`` is stable and meant for programs. ``str(error)`` is a sentence for people. A field of type
    ``object`` holds input that was not accepted.
    """

    code: ClassVar[str]

    def __init_subclass__(cls) -> None:
        dataclass(eq=False)(cls)

    def __post_init__(self) -> None:
        """Pass the facts to ``Exception``, so that errors can be copied and pickled."""
        super().__init__(*(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]


class InvalidAmount(AtmError):
    """A sum of money is not exact, not positive, not in whole cents, or too large.

    ``amount`` is the value as given. ``reason`` says what is wrong and what would be right. ``parameter`` names the
    sum: ``amount``, ``balance``, ``overdraft_limit`` or ``withdrawal_limit``.
    """

    code = "invalid-amount"
    amount: object
    reason: str
    parameter: str = "amount"

    def __str__(self) -> str:
        return f"The {self.parameter.replace('_', ' ')}{_quoted(self.amount)} {self.reason}."


class InvalidAccountNumber(AtmError):
    """An account number is malformed. ``account_number`` is the value as given, ``reason`` says what would be right."""

    code = "invalid-account-number"
    account_number: object
    reason: str

    def __str__(self) -> str:
        return f"The account number{_quoted(self.account_number)} {self.reason}."


class InvalidIdempotencyKey(AtmError):
    """An idempotency key is malformed. ``key`` is the value as given, ``reason`` says what would be right."""

    code = "invalid-key"
    key: object
    reason: str

    def __str__(self) -> str:
        return f"The idempotency key{_quoted(self.key)} {self.reason}."


class InvalidNote(AtmError):
    """A note is malformed. ``note`` is the value as given, ``reason`` says what would be right."""

    code = "invalid-note"
    note: object
    reason: str

    def __str__(self) -> str:
        return f"The note{_quoted(self.note)} {self.reason}."


class InvalidPage(AtmError):
    """A page of a history does not exist. ``parameter`` names what is wrong with its ``value``."""

    code = "invalid-page"
    parameter: str
    value: object
    reason: str

    def __str__(self) -> str:
        value = _quoted(self.value).strip()
        return f"The argument {self.parameter}{f' ({value})' if value else ''} {self.reason}."


class AccountNotFound(AtmError):
    """There is no account with this number."""

    code = "account-not-found"
    account_number: str

    def __str__(self) -> str:
        return f"There is no account {self.account_number}."


class AccountAlreadyExists(AtmError):
    """An account cannot be opened because its number is taken."""

    code = "account-already-exists"
    account_number: str

    def __str__(self) -> str:
        return f"Account {self.account_number} exists already."


class AccountClosed(AtmError):
    """A closed account takes no deposits and withdrawals, and cannot be closed again."""

    code = "account-closed"
    account_number: str

    def __str__(self) -> str:
        return f"Account {self.account_number} is closed. Nothing was changed."


class AccountNotClosed(AtmError):
    """An account cannot be reopened because it is not closed."""

    code = "account-not-closed"
    account_number: str

    def __str__(self) -> str:
        return f"Account {self.account_number} is not closed. Nothing was changed."


class BalanceNotZero(AtmError):
    """An account cannot be closed because its balance is not zero. ``balance`` is in the currency's major unit."""

    code = "balance-not-zero"
    account_number: str
    balance: Decimal

    def __str__(self) -> str:
        return (
            f"Account {self.account_number} has a balance of {self.balance}. "
            "Only an account with a balance of zero can be closed. Nothing was changed."
        )


class InsufficientFunds(AtmError):
    """A withdrawal would bring the balance below the overdraft limit.

    ``available`` is what can be withdrawn, in the currency's major unit.
    """

    code = "insufficient-funds"
    account_number: str
    available: Decimal

    def __str__(self) -> str:
        return f"At most {self.available} can be withdrawn from account {self.account_number} now. Nothing was changed."


class WithdrawalLimitExceeded(AtmError):
    """A withdrawal is larger than the account's withdrawal limit, ``limit``, in the currency's major unit."""

    code = "withdrawal-limit-exceeded"
    account_number: str
    limit: Decimal

    def __str__(self) -> str:
        return f"One withdrawal from account {self.account_number} can take at most {self.limit}. Nothing was changed."


class BalanceOutOfRange(AtmError):
    """A balance would leave the range that every store and every client can hold exactly.

    ``limit`` is the largest distance from zero, in the currency's major unit.
    """

    code = "balance-out-of-range"
    account_number: str
    limit: Decimal

    def __str__(self) -> str:
        return (
            f"The balance of account {self.account_number} would leave the range from "
            f"-{self.limit:,} to {self.limit:,}. Nothing was changed."
        )


class IdempotencyKeyReused(AtmError):
    """The account has an entry with this idempotency key that belongs to another transaction."""

    code = "key-reused"
    account_number: str
    key: str

    def __str__(self) -> str:
        return (
            f"The idempotency key {self.key!r} was used on account {self.account_number} for another "
            "transaction. Nothing was changed. Use a new key for a new transaction."
        )


class InconsistentJournal(AtmError):
    """An entry of a journal does not follow from the ones before it. Entries are ordered by account and number."""

    code = "inconsistent-journal"
    account_number: str
    entry: int

    def __str__(self) -> str:
        return f"Entry {self.entry} of account {self.account_number} does not follow from the entries before it."


class StoreNotEmpty(AtmError):
    """The store has accounts, and only an empty one can be filled with a journal."""

    code = "store-not-empty"
    store: str

    def __str__(self) -> str:
        return f"The store {self.store} has accounts. A journal can be imported into an empty store only."


class StoreUnavailable(AtmError):
    """The store cannot be opened or does not answer. Nothing was changed.

    ``store`` names the store by path or address. ``reason`` says why it is unavailable.
    """

    code = "store-unavailable"
    store: str
    reason: str

    def __str__(self) -> str:
        return f"The store {self.store} is unavailable: {self.reason}."


class StoreNotInitialized(StoreUnavailable):
    """The store must be created or upgraded first.

    ``schema_version`` is what it has, older than that of this release, or 0 if the store does not exist.
    """

    code = "store-not-initialized"
    schema_version: int


class Overloaded(AtmError):
    """Too many requests are waiting, so this one was not accepted. Nothing was changed.

    ``waiting`` is the number of requests that were waiting.
    """

    code = "overloaded"
    waiting: int

    def __str__(self) -> str:
        return f"{self.waiting:,} requests are waiting already, so this one was not accepted. Try again shortly."


class OutcomeUnknown(AtmError):
    """It is not known whether a transaction was committed, so money may have moved.

    ``store`` and ``reason`` are those of :class:`StoreUnavailable`. ``advice`` says how to find out.
    """

    code = "outcome-unknown"
    store: str
    reason: str
    advice: str = (
        "It is not known whether the transaction was applied. Repeat it with the same idempotency key: "
        "it is applied at most once. If it had no key, read the account first."
    )

    @staticmethod
    def repeat_with(key: str) -> str:
        """Return the advice for a transaction with this idempotency key."""
        return (
            "It is not known whether the transaction was applied. Repeat it with the idempotency key "
            f"{key!r}: it is applied at most once."
        )

    def __str__(self) -> str:
        return f"The store {self.store} failed while it committed ({self.reason}). {self.advice}"


def _quoted(value: object) -> str:
    """Return a rejected value as text for a message, or nothing if its text would be long."""
    if isinstance(value, str) and len(value) <= 64 and len(ascii(value)) <= 128:
        return f" {value!a}"
    if isinstance(value, Decimal) and len(value.as_tuple().digits) <= 32:
        return f" {value}"
    if isinstance(value, int) and value.bit_length() <= 64:
        return f" {value}"
    return ""
