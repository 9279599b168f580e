"""The audit replays the journal, and compares each account with what its entries make of it."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from atm_core.account import Account
from atm_core.errors import AtmError
from atm_core.transaction import Entry

JournalRow: TypeAlias = tuple[str, int, Account | Entry | None]
"""A row of the store: account number, entry number, and what the row holds.

The row of the account itself has the entry number 0 and holds the ``Account``. None means that the row holds no valid
account or entry.
"""


class AuditedAccount(NamedTuple):
    """The audit's finding for one account.

    ``account`` is what the store has for it, or None if the journal has entries for an account that does not exist, or
    if the account's row is damaged. ``expected`` is what its entries make of it, or None if it has no opening.
    ``entries`` is the number of its entries. ``first_mismatch`` is the number of the first entry that does not follow
    from the ones before it (a wrong balance or limit, a gap in the numbers, a key that occurs twice, a transaction
    that the rules forbid), or None.
    """

    account_number: str
    account: Account | None
    expected: Account | None
    entries: int
    first_mismatch: int | None

    @property
    def is_consistent(self) -> bool:
        """Whether the account and every entry follow from the journal."""
        return self.first_mismatch is None and self.account is not None and _are_same(self.account, self.expected)


def audit(rows: Iterable[JournalRow]) -> Iterator[AuditedAccount]:
    """Apply all transactions of the journal again, and yield one finding for each account.

    :param rows: grouped by account, each group in the order of its entry numbers.
    """
    for account_number, group in groupby(rows, itemgetter(0)):
        account = expected = first_mismatch = None
        entries = 0
        keys: set[str] = set()
        for _, number, value in group:
            if number == 0:
                account = value if isinstance(value, Account) else None
                continue
            entries += 1
            computed = _next(expected, value, keys)
            if first_mismatch is None and (computed is None or computed.last_entry != number):
                first_mismatch = number
            expected = computed or expected
        yield AuditedAccount(account_number, account, expected, entries, first_mismatch)


def _next(account: Account | None, entry: Account | Entry | None, keys: set[str]) -> Account | None:
    """Return the account after an entry, or None if the entry does not follow from those before it."""
    if not isinstance(entry, Entry):
        return None
    key = entry.transaction.key
    if key is not None:
        if key in keys:
            return None
        keys.add(key)
    try:
        after = entry.transaction.apply(account)
    except AtmError:
        return None
    return after if _are_same(after, entry.account) else None


def _are_same(account: Account, other: Account | None) -> bool:
    return account == other and other is not None and account.last_entry == other.last_entry
