"""What the repositories over SQL have in common: between the core's values and rows, whose sums are whole cents."""

from collections.abc import Iterable
from typing import Any

from atm_core import Account, Entry, Transaction
from atm_core.money import from_minor_units

BOOKS = """
SELECT account_number, 0 AS entry, 'opening' AS kind, opening AS amount, balance FROM account
UNION ALL
SELECT account_number, entry, kind, amount, balance FROM journal
ORDER BY account_number, entry
"""
"""The books as :func:`~atm_core.audit.audit` reads them."""


def account_from(account_number: str, balance: int) -> Account:
    """The account that a row holds."""
    return Account(account_number, from_minor_units(balance))


def answered_from(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[str, str], Entry]:
    """Earlier answers, as :func:`~atm_core.settle` takes them.

    :param rows: of the journal: account number, key, kind, amount, balance.
    """
    return {
        (number, key): Entry(Transaction(number, kind, from_minor_units(amount), key), account_from(number, balance))
        for number, key, kind, amount, balance in rows
    }
