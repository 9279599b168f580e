"""The audit replays the journal, and compares each account with what its entries make of it.

It keeps nothing of earlier entries, so it cannot find a key that occurs twice. Stores do that.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from atm_core.account import Account
from atm_core.errors import AtmError, InconsistentJournal
from atm_core.transaction import Entry, Opening

JournalRow: TypeAlias = tuple[str, int, Account | Entry | None]
"""A row of the store: account number, entry number, and what the row holds.

The row of the account itself has the entry number 0 and holds the ``Account``. None means that the row holds no valid
account or entry.
"""


class AuditedAccount(NamedTuple):
    """The audit's finding for one account.

    ``account`` is what the store has for it, or None if the journal has entries for an account that does not exist, or
    if the account's row is damaged. ``expected`` is what its transactions make of it, without those that cannot be
    applied. It is None if there is no opening. ``entries`` is the number of its entries. ``first_mismatch`` is the
    number of the first entry that does not follow from the ones before it (a wrong balance or limit, a gap in the
    numbers, a transaction that the rules forbid, a missing time, a damaged row), or None.
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
        for _, number, value in group:
            if isinstance(value, Account):
                account = value
            elif value is not None or number != 0:
                entries += 1
                after = _apply(value, expected)
                if first_mismatch is None and not _follows(value, after):
                    first_mismatch = number
                expected = after or expected
        yield AuditedAccount(account_number, account, expected, entries, first_mismatch)


def replayed(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries unchanged, after checking that each follows from the ones before it.

    :param entries: a journal, ordered by account number and entry number.
    :raises InconsistentJournal: at the first entry that does not follow or is not in that order.
    """
    account = None
    for entry in entries:
        number = entry.account.account_number
        if account is not None and number > account.account_number:
            account = None
        after = _apply(entry, account)
        if not _follows(entry, after):  # also if its account number is out of order
            raise InconsistentJournal(number, entry.account.last_entry)
        account = after
        yield entry


def _apply(entry: Entry | None, account: Account | None) -> Account | None:
    """Return the account after an entry, or None if its row is damaged or the rules forbid its transaction."""
    try:
        return None if entry is None else entry.transaction.apply(account)
    except AtmError:
        return None


def _follows(entry: Entry | None, after: Account | None) -> bool:
    """Return whether an entry holds the account as it must be after it, and a time unless it is an opening."""
    return (
        entry is not None
        and _are_same(entry.account, after)
        and (entry.recorded_at is not None or isinstance(entry.transaction, Opening))
    )


def _are_same(account: Account, other: Account | None) -> bool:
    return other is not None and account == other and account.last_entry == other.last_entry
