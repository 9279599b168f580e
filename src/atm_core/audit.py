"""The audit compares each balance with its journal."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias

from atm_core.money import from_minor_units
from atm_core.transaction import TransactionKind

JournalRow: TypeAlias = tuple[str, int, Literal["opening"] | TransactionKind, int, int]
"""A row of the journal: account number, entry number, kind, amount, balance.

Sums are integers in cents, as stores keep them, because a damaged journal may hold values that are no longer
valid sums of money. The row of an opening carries the account's present balance. Every other row carries the
balance after the entry.
"""


class AuditedAccount(NamedTuple):
    """The audit's finding for one account. Sums are in the currency's major unit, with two decimals.

    ``balance`` is the balance in the store, or None if the journal has entries for an account that does not
    exist. ``expected`` is the opening balance plus all deposits minus all withdrawals. ``entries`` is the
    number of journal entries. ``first_mismatch`` is the number of the first entry whose recorded balance
    differs from the computed one, or None.
    """

    account_number: str
    balance: Decimal | None
    expected: Decimal
    entries: int
    first_mismatch: int | None

    @property
    def is_consistent(self) -> bool:
        """Whether the balance and every recorded balance match the journal."""
        return self.balance == self.expected and self.first_mismatch is None


def audit(journal: Iterable[JournalRow]) -> Iterator[AuditedAccount]:
    """Recompute every balance from the journal, and yield one finding for each account.

    :param journal: rows grouped by account, each group in the order of its entries and with its opening first.
    """
    for account_number, rows in groupby(journal, itemgetter(0)):
        balance = first_mismatch = None
        expected = entries = 0
        for _, entry, kind, amount, recorded in rows:
            if kind == "opening":
                expected, balance = amount, recorded
                continue
            entries += 1
            expected += amount if kind == "deposit" else -amount
            if recorded != expected and first_mismatch is None:
                first_mismatch = entry
        yield AuditedAccount(
            account_number,
            None if balance is None else from_minor_units(balance),
            from_minor_units(expected),
            entries,
            first_mismatch,
        )
