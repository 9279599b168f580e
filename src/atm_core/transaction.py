"""The kinds of transaction as values, the entries of the journal, and the function that decides about transactions."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple

from atm_core.account import Account, parse_account_number
from atm_core.errors import (
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidNote,
)
from atm_core.money import MoneyLike, parse_amount, parse_limit, parse_money

MAX_KEY_LENGTH: Final = 255
KEY_RULE: Final = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"

MAX_NOTE_LENGTH: Final = 140
NOTE_RULE: Final = f"1 to {MAX_NOTE_LENGTH} characters, without control characters, line breaks and direction marks"

# Also without the line separators of Unicode, the characters that turn the direction of text, which can make a note
# look like another one, and surrogates, which UTF-8 cannot encode.
NOTE_PATTERN: Final = (
    rf"[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{{1,{MAX_NOTE_LENGTH}}}"
)

_KEY = re.compile(f"[ -~]{{1,{MAX_KEY_LENGTH}}}", re.ASCII)
_NOTE = re.compile(NOTE_PATTERN)
_set = object.__setattr__  # how frozen dataclasses set their fields


def parse_key(value: str) -> str:
    """Return the idempotency key unchanged if it is well-formed.

    :raises InvalidIdempotencyKey: unless it follows :data:`KEY_RULE`.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise InvalidIdempotencyKey(value, f"must be a string of {KEY_RULE}")
    return value


def parse_note(value: str) -> str:
    """Return the note unchanged if it is well-formed.

    :raises InvalidNote: unless it follows :data:`NOTE_RULE`.
    """
    if not isinstance(value, str) or _NOTE.fullmatch(value) is None:
        raise InvalidNote(value, f"must be a string of {NOTE_RULE}")
    return value


@dataclass(frozen=True, slots=True, init=False)
class Transaction(ABC):
    """A request to change one account. Each kind of transaction is a subclass.

    ``key`` is the idempotency key or None: an account applies at most one transaction per key. ``note`` is a text for
    people or None. Transactions of one kind with equal fields are equal, so 100 and 100.00 under one key are the same
    transaction, and another note makes another transaction.
    """

    kind: ClassVar[str]
    is_debit: ClassVar[bool] = False  # whether the amount is taken from the balance

    account_number: str
    key: str | None
    note: str | None

    def __init__(self, account_number: str, key: str | None = None, note: str | None = None) -> None:
        """Validate and store what all kinds have.

        :raises InvalidAccountNumber: if the account number is malformed.
        :raises InvalidIdempotencyKey: if there is a key and it is malformed.
        :raises InvalidNote: if there is a note and it is malformed.
        """
        _set(self, "account_number", parse_account_number(account_number))
        _set(self, "key", None if key is None else parse_key(key))
        _set(self, "note", None if note is None else parse_note(note))

    @abstractmethod
    def apply(self, account: Account | None) -> Account:
        """Return the account after this transaction.

        :param account: the account before it, or None if there is none.
        :raises AtmError: the refusal, if a rule forbids the transaction.
        """


@dataclass(frozen=True, slots=True, init=False)
class Opening(Transaction):
    """Opens an account. ``balance`` is the opening balance, which may be negative. Limits are those of ``Account``."""

    kind = "opening"

    balance: Decimal
    overdraft_limit: Decimal | None
    withdrawal_limit: Decimal | None

    def __init__(
        self,
        account_number: str,
        balance: MoneyLike,
        overdraft_limit: MoneyLike | None = None,
        withdrawal_limit: MoneyLike | None = None,
        key: str | None = None,
        note: str | None = None,
    ) -> None:
        """Validate and store the values.

        :raises InvalidAmount: if the balance or a limit is not acceptable. For the others see ``Transaction``.
        """
        _set(self, "balance", parse_money(balance))
        _set(self, "overdraft_limit", parse_limit(overdraft_limit, "overdraft_limit"))
        _set(self, "withdrawal_limit", parse_limit(withdrawal_limit, "withdrawal_limit"))
        Transaction.__init__(self, account_number, key, note)

    @staticmethod
    def of(account: Account) -> "Opening":
        """Return the transaction that opens an account with the number, balance and limits of this one."""
        return Opening(account.account_number, account.balance, account.overdraft_limit, account.withdrawal_limit)

    @property
    def amount(self) -> Decimal:
        """The opening balance, which is what the entry adds to the account."""
        return self.balance

    def apply(self, account: Account | None) -> Account:
        if account is not None:
            raise AccountAlreadyExists(self.account_number)
        return Account(
            self.account_number, self.balance, self.overdraft_limit, self.withdrawal_limit, closed=False, last_entry=1
        )


@dataclass(frozen=True, slots=True, init=False)
class Deposit(Transaction):
    """Adds ``amount``, which is positive and in the currency's major unit, with two decimals."""

    kind = "deposit"

    amount: Decimal

    def __init__(self, account_number: str, amount: MoneyLike, key: str | None = None, note: str | None = None) -> None:
        """Validate and store the values.

        :raises InvalidAmount: unless the amount is exact, positive, in whole cents and not too large. For the others
            see ``Transaction``.
        """
        _set(self, "amount", parse_amount(amount))
        Transaction.__init__(self, account_number, key, note)

    def apply(self, account: Account | None) -> Account:
        return _existing(account, self).deposit(self.amount)


@dataclass(frozen=True, slots=True, init=False)
class Withdrawal(Transaction):
    """Takes ``amount``, which is positive and in the currency's major unit, with two decimals."""

    kind = "withdrawal"
    is_debit = True

    amount: Decimal

    def __init__(self, account_number: str, amount: MoneyLike, key: str | None = None, note: str | None = None) -> None:
        """Validate and store the values, as ``Deposit`` does."""
        _set(self, "amount", parse_amount(amount))
        Transaction.__init__(self, account_number, key, note)

    def apply(self, account: Account | None) -> Account:
        return _existing(account, self).withdraw(self.amount)


@dataclass(frozen=True, slots=True, init=False)
class LimitChange(Transaction):
    """Replaces both limits, each of which may be None (unlimited) or lower than the overdraft that is already used."""

    kind = "limit-change"

    overdraft_limit: Decimal | None
    withdrawal_limit: Decimal | None

    def __init__(
        self,
        account_number: str,
        overdraft_limit: MoneyLike | None,
        withdrawal_limit: MoneyLike | None,
        key: str | None = None,
        note: str | None = None,
    ) -> None:
        """Validate and store the values.

        :raises InvalidAmount: if a limit is negative or no sum of money. For the others see ``Transaction``.
        """
        _set(self, "overdraft_limit", parse_limit(overdraft_limit, "overdraft_limit"))
        _set(self, "withdrawal_limit", parse_limit(withdrawal_limit, "withdrawal_limit"))
        Transaction.__init__(self, account_number, key, note)

    def apply(self, account: Account | None) -> Account:
        return _existing(account, self).with_limits(self.overdraft_limit, self.withdrawal_limit)


@dataclass(frozen=True, slots=True, init=False)
class Closing(Transaction):
    """Closes an account whose balance is zero. Its number is not free again."""

    kind = "closing"

    def apply(self, account: Account | None) -> Account:
        return _existing(account, self).close()


@dataclass(frozen=True, slots=True, init=False)
class Reopening(Transaction):
    """Opens a closed account again."""

    kind = "reopening"

    def apply(self, account: Account | None) -> Account:
        return _existing(account, self).reopen()


def _existing(account: Account | None, transaction: Transaction) -> Account:
    if account is None:
        raise AccountNotFound(transaction.account_number)
    return account


def transaction_of(
    kind: str,
    account_number: str,
    amount: MoneyLike | None,
    overdraft_limit: MoneyLike | None,
    withdrawal_limit: MoneyLike | None,
    key: str | None,
    note: str | None,
) -> Transaction:
    """Return the transaction with these facts, as a store or another server recorded them.

    :param amount: that of the entry. For an opening it is the opening balance.
    :param overdraft_limit: used for the kinds that set it, like ``withdrawal_limit``.
    :raises ValueError: if the kind is unknown, or if it needs an amount and there is none.
    :raises AtmError: if a value is malformed.
    """
    match kind, amount:
        case "opening", Decimal() | int() | str():
            return Opening(account_number, amount, overdraft_limit, withdrawal_limit, key, note)
        case "deposit", Decimal() | int() | str():
            return Deposit(account_number, amount, key, note)
        case "withdrawal", Decimal() | int() | str():
            return Withdrawal(account_number, amount, key, note)
        case "limit-change", None:
            return LimitChange(account_number, overdraft_limit, withdrawal_limit, key, note)
        case "closing", None:
            return Closing(account_number, key, note)
        case "reopening", None:
            return Reopening(account_number, key, note)
    raise ValueError(f"there is no transaction of the kind {kind!a} with the amount {amount!a}")


class Entry(NamedTuple):
    """A journal entry: a transaction that was applied, and the account after it.

    The entry's number is ``account.last_entry``: 1 for the opening, and one more for each that follows.
    ``recorded_at`` is None before a repository has recorded the entry, and for the openings of a store that did not
    record their time.
    """

    transaction: Transaction
    account: Account
    recorded_at: datetime | None = None

    @property
    def amount(self) -> Decimal | None:
        """The opening balance, or what was deposited or withdrawn. None for the kinds that move no money."""
        amount: Decimal | None = getattr(self.transaction, "amount", None)
        return amount


def decide(
    transactions: Iterable[Transaction],
    accounts: MutableMapping[str, Account],
    recorded: Mapping[tuple[str, str], Entry],
    recorded_at: datetime | None = None,
) -> tuple[list[Account | AtmError], list[Entry]]:
    """Decide about transactions in their order, each on the accounts as the one before left them.

    A repository calls this between loading and writing. The refusal of one transaction does not affect the others.

    :param accounts: the existing accounts that the transactions name, by account number. Updated in place.
    :param recorded: the journal's entries under the transactions' keys, by account number and key.
    :param recorded_at: the time in the new entries.
    :returns: one outcome for each transaction (the account after it, or the refusal), and the entries to write.
        They are numbered without gaps within each account.
    """
    outcomes: list[Account | AtmError] = []
    entries: list[Entry] = []
    keyed: dict[tuple[str, str], Entry] = {}
    for transaction in transactions:
        number, key = transaction.account_number, transaction.key
        earlier = None if key is None else keyed.get((number, key)) or recorded.get((number, key))
        try:
            account = transaction.apply(accounts.get(number)) if earlier is None else _replay(transaction, earlier)
        except AtmError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(account)
        if earlier is None:
            entry = Entry(transaction, account, recorded_at)
            entries.append(entry)
            accounts[number] = account
            if key is not None:
                keyed[number, key] = entry
    return outcomes, entries


def _replay(transaction: Transaction, earlier: Entry) -> Account:
    """Return the account after the earlier entry under the transaction's key, if it is of the same transaction."""
    if earlier.transaction != transaction:
        raise IdempotencyKeyReused(transaction.account_number, transaction.key or "")
    return earlier.account
