"""A transaction: one deposit or withdrawal, as a value, and the rule that each key counts once."""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from atm_core.account import Account, valid_account_number
from atm_core.errors import AccountNotFound, AtmError, InvalidKey, KeyReused
from atm_core.money import Amount, to_amount

Kind: TypeAlias = Literal["deposit", "withdrawal"]

_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)


def valid_key(value: str) -> str:
    """Return the idempotency key that was given.

    :raises InvalidKey: unless it is 1 to 255 printable ASCII characters.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise InvalidKey(value)
    return value


@dataclass(frozen=True, slots=True, init=False)
class Transaction:
    """One deposit or withdrawal that somebody asks for: everything there is to say about it.

    ``amount`` is in the currency's major unit, with two decimals. ``key``, if there is one, is the
    idempotency key: on one account, the same key moves money at most once. Two transactions are
    equal if they say the same, so 100 and 100.00 under one key are one transaction.
    """

    account_number: str
    kind: Kind
    amount: Decimal
    key: str | None

    def __init__(self, account_number: str, kind: Kind, amount: Amount, key: str | None = None) -> None:
        """Check and keep all four.

        :raises InvalidAmount: unless the amount is exact, positive, in whole cents and not too large.
        :raises InvalidAccountNumber: if the account number is ill-formed.
        :raises InvalidKey: if there is a key and it is ill-formed.
        :raises ValueError: if the kind is neither "deposit" nor "withdrawal".
        """
        if kind not in ("deposit", "withdrawal"):
            raise ValueError(f'kind must be "deposit" or "withdrawal", not {kind!r}')
        object.__setattr__(self, "amount", to_amount(amount))
        object.__setattr__(self, "account_number", valid_account_number(account_number))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "key", None if key is None else valid_key(key))

    def apply(self, account: Account) -> Account:
        """Return the account as it stands after this transaction.

        :raises BalanceOutOfRange: if the balance would leave the range that can be held exactly.
        """
        return account.deposit(self.amount) if self.kind == "deposit" else account.withdraw(self.amount)


class Entry(NamedTuple):
    """A journal entry: a transaction that was applied, and the account as it then stood."""

    transaction: Transaction
    account: Account


def settle(
    transactions: Iterable[Transaction],
    accounts: MutableMapping[str, Account],
    answered: Mapping[tuple[str, str], Entry],
) -> tuple[list[Account | AtmError], list[Entry]]:
    """Decide what becomes of transactions, one after the other, in memory.

    A store calls this between loading what the transactions touch and writing what came of them.

    :param accounts: by account number, every account named that exists; brought up to date in place.
    :param answered: by account number and key, the entries made earlier under the keys named.
    :returns: what to answer, one outcome per transaction in their order (the account as it then
        stood, the first answer again under a known key, or the refusal), and the entries to write.
    """
    outcomes: list[Account | AtmError] = []
    entries: list[Entry] = []
    keyed: dict[tuple[str, str], Entry] = {}
    for transaction in transactions:
        number, key = transaction.account_number, transaction.key
        account = accounts.get(number)
        if account is None:
            outcomes.append(AccountNotFound(number))
            continue
        if key is not None and (first := keyed.get((number, key)) or answered.get((number, key))):
            outcomes.append(first.account if first.transaction == transaction else KeyReused(number, key))
            continue
        try:
            account = transaction.apply(account)
        except AtmError as refusal:
            outcomes.append(refusal)
            continue
        accounts[number] = account
        entry = Entry(transaction, account)
        entries.append(entry)
        if key is not None:
            keyed[number, key] = entry
        outcomes.append(account)
    return outcomes, entries
