"""Everything the core refuses or cannot do: one class each, with a stable code and its facts as attributes."""

from decimal import Decimal
from typing import ClassVar

SEND_AGAIN_UNDER_THE_KEY = (
    "It is not known whether the money moved. Send the transaction again under the same idempotency key: "
    "it counts at most once. If it had no key, read the balance first."
)
READ_WHETHER_IT_EXISTS = (
    "It is not known whether the account was opened. Read its balance: if there is no such account, open it again."
)


class AtmError(Exception):
    """What every refusal and failure has in common.

    ``code`` is stable and meant for programs; ``str(error)`` is a sentence meant for people.
    """

    code: ClassVar[str]


class InvalidAmount(AtmError):
    """A sum of money is not exact, not positive, not in whole cents, or too large.

    ``amount`` is what was given, ``reason`` says what is wrong with it and what would be right.
    """

    code = "invalid-amount"

    def __init__(self, amount: object, reason: str) -> None:
        super().__init__(amount, reason)
        self.amount = amount
        self.reason = reason

    def __str__(self) -> str:
        return f"The amount{_quoted(self.amount)} {self.reason}."


class InvalidAccountNumber(AtmError):
    """An account number is not 1 to 64 characters of ``A-Z a-z 0-9 _ -``."""

    code = "invalid-account-number"

    def __init__(self, account_number: object) -> None:
        super().__init__(account_number)
        self.account_number = account_number

    def __str__(self) -> str:
        return (
            f"The account number{_quoted(self.account_number)} must be a string of 1 to 64 characters, "
            "each a letter A-Z or a-z, a digit 0-9, an underscore or a hyphen."
        )


class InvalidKey(AtmError):
    """An idempotency key is ill-formed. ``key`` is what was given, ``reason`` says what would be right."""

    code = "invalid-key"

    def __init__(self, key: object, reason: str = "must be a string of 1 to 255 printable ASCII characters") -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"The idempotency key{_quoted(self.key)} {self.reason}."


class AccountNotFound(AtmError):
    """There is no account with this number."""

    code = "account-not-found"

    def __init__(self, account_number: str) -> None:
        super().__init__(account_number)
        self.account_number = account_number

    def __str__(self) -> str:
        return f"There is no account {self.account_number}."


class AccountAlreadyExists(AtmError):
    """An account was to be opened under a number that is taken."""

    code = "account-already-exists"

    def __init__(self, account_number: str) -> None:
        super().__init__(account_number)
        self.account_number = account_number

    def __str__(self) -> str:
        return f"Account {self.account_number} exists already."


class BalanceOutOfRange(AtmError):
    """A balance would leave the range that every store and every client can hold exactly.

    ``limit`` is the largest distance from zero, in the currency's major unit.
    """

    code = "balance-out-of-range"

    def __init__(self, account_number: str, limit: Decimal) -> None:
        super().__init__(account_number, limit)
        self.account_number = account_number
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"The balance of account {self.account_number} would leave the range from "
            f"-{self.limit:,} to {self.limit:,}; nothing was changed."
        )


class KeyReused(AtmError):
    """An idempotency key was used on this account before, for another transaction."""

    code = "key-reused"

    def __init__(self, account_number: str, key: str) -> None:
        super().__init__(account_number, key)
        self.account_number = account_number
        self.key = key

    def __str__(self) -> str:
        return (
            f"The idempotency key {self.key!r} was used on account {self.account_number} for another "
            "transaction; nothing was changed. Use a new key for a new transaction."
        )


class StoreUnavailable(AtmError):
    """The store can't be opened or can't answer now; no money was moved.

    ``store`` says which store (its path or address), ``reason`` why.
    """

    code = "store-unavailable"

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return f"The store {self.store} is unavailable: {self.reason}."


class Overloaded(AtmError):
    """So many requests are waiting already that this one was not taken on; no money was moved.

    ``waiting`` is how many there are.
    """

    code = "overloaded"

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting:,} requests are waiting already, so this one was not taken on. Try again shortly."


class OutcomeUnknown(AtmError):
    """It could not be learnt whether a commit went through: money may have moved, or an account been opened, or not.

    ``store`` and ``reason`` as for :class:`StoreUnavailable`; ``advice`` says how to find out.
    """

    code = "outcome-unknown"

    def __init__(self, store: str, reason: str, advice: str = SEND_AGAIN_UNDER_THE_KEY) -> None:
        super().__init__(store, reason, advice)
        self.store = store
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"The store {self.store} failed while it committed ({self.reason}). {self.advice}"


def _quoted(value: object) -> str:
    """What was given, short enough for a message; nothing for what has no short form."""
    if isinstance(value, str) and len(value) <= 64 and len(ascii(value)) <= 128:
        return f" {value!a}"
    if isinstance(value, Decimal) and len(value.as_tuple().digits) <= 32:
        return f" {value}"
    if isinstance(value, int) and value.bit_length() <= 64:
        return f" {value}"
    return ""
