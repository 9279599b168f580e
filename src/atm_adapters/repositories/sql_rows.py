"""Conversions between rows and values of the core, shared by SQLite and PostgreSQL. Rows hold sums in cents."""

from collections.abc import Iterable
from typing import Any, Final

from atm_core import Account, Entry, Transaction
from atm_core.money import MAX_MONEY, from_minor_units, to_minor_units

MAX_CENTS: Final = to_minor_units(MAX_MONEY)

JOURNAL_ROWS: Final = """
SELECT account_number, 0 AS entry, 'opening' AS kind, opening AS amount, balance FROM account
UNION ALL
SELECT account_number, entry, kind, amount, balance FROM journal
ORDER BY account_number, entry
"""
"""Selects the rows that :func:`~atm_core.audit.audit` reads."""


def account_from(account_number: str, balance: int) -> Account:
    """Return the account of a row."""
    return Account(account_number, from_minor_units(balance))


def recorded_from(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[str, str], Entry]:
    """Return recorded entries in the form that :func:`~atm_core.decide` takes.

    :param rows: of the journal: account number, key, kind, amount, balance.
    """
    return {
        (number, key): Entry(Transaction(number, kind, from_minor_units(amount), key), account_from(number, balance))
        for number, key, kind, amount, balance in rows
    }


def unsupported_version(version: object, supported: int) -> str:
    """Return why a store with this schema version cannot be used."""
    return f"its schema has version {version}, but this release of Mini-ATM supports version {supported}"
