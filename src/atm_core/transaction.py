"""A transaction: a deposit or a withdrawal as a value, and the function that decides about transactions."""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from atm_core.account import Account, parse_account_number
from atm_core.errors import AccountNotFound, AtmError, IdempotencyKeyReused, InvalidIdempotencyKey
from atm_core.money import MoneyLike, parse_amount

TransactionKind: TypeAlias = Literal["deposit", "withdrawal"]

MAX_KEY_LENGTH: Final = 255
KEY_RULE: Final = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"

_KEY = re.compile(f"[ -~]{{1,{MAX_KEY_LENGTH}}}", re.ASCII)


def parse_key(value: str) -> str:
    """Return the idempotency key unchanged if it is well-formed.

    :raises InvalidIdempotencyKey: unless it follows :data:`KEY_RULE`.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise InvalidIdempotencyKey(value, f"must be a string of {KEY_RULE}")
    return value


@dataclass(frozen=True, slots=True, init=False)
class Transaction:
    """A request for one deposit or withdrawal.

    ``amount`` is in the currency's major unit, with two decimals. ``key`` is the idempotency key or None: an
    account applies at most one transaction per key. Transactions with equal fields are equal, so 100 and
    100.00 under one key are the same transaction.
    """

    account_number: str
    kind: TransactionKind
    amount: Decimal
    key: str | None

    def __init__(self, account_number: str, kind: TransactionKind, amount: MoneyLike, key: str | None = None) -> None:
        """Validate and store all four values.

        :raises InvalidAmount: unless the amount is exact, positive, in whole cents and not too large.
        :raises InvalidAccountNumber: if the account number is malformed.
        :raises InvalidIdempotencyKey: if there is a key and it is malformed.
        :raises ValueError: if the kind is neither "deposit" nor "withdrawal".
        """
        if kind not in ("deposit", "withdrawal"):
            raise ValueError(f'kind must be "deposit" or "withdrawal", not {kind!r}')
        object.__setattr__(self, "amount", parse_amount(amount))
        object.__setattr__(self, "account_number", parse_account_number(account_number))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "key", None if key is None else parse_key(key))

    def apply(self, account: Account) -> Account:
        """Return the account after this transaction.

        :raises BalanceOutOfRange: if the balance would leave the range that can be held exactly.
        """
        return account.deposit(self.amount) if self.kind == "deposit" else account.withdraw(self.amount)


class Entry(NamedTuple):
    """A journal entry: a transaction that was applied, and the account after it."""

    transaction: Transaction
    account: Account


def decide(
    transactions: Iterable[Transaction],
    accounts: MutableMapping[str, Account],
    recorded: Mapping[tuple[str, str], Entry],
) -> tuple[list[Account | AtmError], list[Entry]]:
    """Decide about transactions in their order, each on the accounts as the one before left them.

    A repository calls this between loading and writing. The refusal of one transaction does not affect the others.

    :param accounts: the existing accounts that the transactions name, by account number. Updated in place.
    :param recorded: the journal's entries under the transactions' keys, by account number and key.
    :returns: one outcome for each transaction (the account after it, or the refusal), and the entries to write.
    """
    outcomes: list[Account | AtmError] = []
    entries: list[Entry] = []
    keyed: dict[tuple[str, str], Entry] = {}
    for transaction in transactions:
        number, key = transaction.account_number, transaction.key
        earlier = None if key is None else keyed.get((number, key)) or recorded.get((number, key))
        try:
            account = _decide_one(transaction, accounts.get(number), earlier)
        except AtmError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(account)
        if earlier is None:
            entry = Entry(transaction, account)
            entries.append(entry)
            accounts[number] = account
            if key is not None:
                keyed[number, key] = entry
    return outcomes, entries


def _decide_one(transaction: Transaction, account: Account | None, earlier: Entry | None) -> Account:
    """Return the account after the transaction, or after the earlier entry under its key. Raise the refusal."""
    if account is None:
        raise AccountNotFound(transaction.account_number)
    if earlier is None:
        return transaction.apply(account)
    if earlier.transaction != transaction:
        raise IdempotencyKeyReused(earlier.account.account_number, earlier.transaction.key or "")
    return earlier.account
