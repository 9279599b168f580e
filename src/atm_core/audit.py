"""The audit: whether each balance is its opening balance plus its journal, entry by entry."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias

from atm_core.money import from_minor_units
from atm_core.transaction import Kind

BookEntry: TypeAlias = tuple[str, int, Literal["opening"] | Kind, int, int]
"""A line of the books: account number, entry number, kind, amount, balance.

Sums are whole numbers of cents, as stores keep them: in damaged books they may be no sums of money any
more. The line that opens an account has the account's present balance; a journal entry has the balance
that it left.
"""


class AuditedAccount(NamedTuple):
    """What an audit finds of one account. Sums are in the currency's major unit, with two decimals.

    ``balance`` is what the store says; None if the journal has entries of an account that doesn't exist.
    ``expected`` is the opening balance plus all deposits minus all withdrawals of the journal, and
    ``entries`` how many these are. ``first_wrong_entry`` is the number of the first journal entry that
    records another balance than it left, if there is one.
    """

    account_number: str
    balance: Decimal | None
    expected: Decimal
    entries: int
    first_wrong_entry: int | None

    @property
    def is_right(self) -> bool:
        """Whether the balance, and the one that each entry records, is what the journal makes it."""
        return self.balance == self.expected and self.first_wrong_entry is None


def audit(books: Iterable[BookEntry]) -> Iterator[AuditedAccount]:
    """Add up the books again, and say of each account what was found.

    :param books: one account after the other; of each, the line that opens it, and its journal in order.
    """
    for account_number, lines in groupby(books, itemgetter(0)):
        balance = first_wrong_entry = None
        expected = entries = 0
        for _, entry, kind, amount, recorded in lines:
            if kind == "opening":
                expected, balance = amount, recorded
                continue
            entries += 1
            expected += amount if kind == "deposit" else -amount
            if recorded != expected and first_wrong_entry is None:
                first_wrong_entry = entry
        yield AuditedAccount(
            account_number,
            None if balance is None else from_minor_units(balance),
            from_minor_units(expected),
            entries,
            first_wrong_entry,
        )
