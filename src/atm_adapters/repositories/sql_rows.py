"""Conversions between rows and values of the core, shared by SQLite and PostgreSQL. Rows hold sums in cents."""

# ruff: noqa: S608 - all texts that are put into statements are constants

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from atm_core import Account, AtmError, Entry
from atm_core.audit import JournalRow
from atm_core.money import MAX_MONEY, from_minor_units, to_minor_units
from atm_core.transaction import transaction_of

MAX_CENTS: Final = to_minor_units(MAX_MONEY)

ACCOUNT_COLUMNS: Final = "account_number, balance, overdraft_limit, withdrawal_limit, closed, last_entry"
"""The columns of the table ``account`` that :func:`account_from` takes, in its order."""

ENTRY_COLUMNS: Final = (
    "account_number, entry, kind, amount, key, note, balance, overdraft_limit, withdrawal_limit, closed, recorded_at"
)
"""The columns of the table ``entry`` that :func:`entry_from` takes, in its order.

``balance``, both limits and ``closed`` are those of the account after the entry.
"""

AUDIT_ROWS: Final = f"""
SELECT account_number, 0 AS entry, NULL AS kind, NULL AS amount, NULL AS key, NULL AS note,
       balance, overdraft_limit, withdrawal_limit, closed, NULL AS recorded_at, last_entry
FROM account
UNION ALL
SELECT {ENTRY_COLUMNS}, NULL FROM entry
ORDER BY account_number, entry
"""
"""Selects the rows that :func:`journal_row_from` takes, in the order that the audit needs."""

_NOT_VALID: Final = (ValueError, TypeError, ArithmeticError, AtmError)


class DamagedRow(Exception):
    """A row holds no valid account or entry."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it is damaged: {what} is not valid. See atm verify")


def account_from(row: tuple[Any, ...]) -> Account:
    """Return the account of a row of :data:`ACCOUNT_COLUMNS`.

    :raises DamagedRow: if it holds no valid account.
    """
    number, balance, overdraft_limit, withdrawal_limit, closed, last_entry = row
    try:
        if closed not in (0, 1):
            raise ValueError(f"{closed!a} is no truth value")
        return Account(
            number,
            from_minor_units(balance),
            _money(overdraft_limit),
            _money(withdrawal_limit),
            closed=bool(closed),
            last_entry=last_entry,
        )
    except _NOT_VALID as error:
        raise DamagedRow(f"account {number!a}") from error


def entry_from(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of :data:`ENTRY_COLUMNS`, whose ``recorded_at`` is a datetime, its text, or None.

    :raises DamagedRow: if it holds no valid entry.
    """
    number, entry, kind, amount, key, note, balance, overdraft_limit, withdrawal_limit, closed, recorded_at = row
    try:
        account = account_from((number, balance, overdraft_limit, withdrawal_limit, closed, entry))
        limits = account.overdraft_limit, account.withdrawal_limit
        transaction = transaction_of(kind, number, _money(amount), *limits, key, note)
        if recorded_at is not None:
            recorded_at = _time_of(recorded_at)
    except (*_NOT_VALID, DamagedRow) as error:
        raise DamagedRow(f"entry {entry} of account {number!a}") from error
    return Entry(transaction, account, recorded_at)


def entry_row(entry: Entry, recorded_at: str | None = None, absent: str | None = None) -> tuple[Any, ...]:
    """Return the row of an entry, in the order of :data:`ENTRY_COLUMNS`.

    :param absent: stands for the facts that the entry does not have.
    """
    transaction, account, _ = entry
    return (
        account.account_number,
        account.last_entry,
        transaction.kind,
        _cents(entry.amount, absent),
        transaction.key or absent,
        transaction.note or absent,
        to_minor_units(account.balance),
        _cents(account.overdraft_limit, absent),
        _cents(account.withdrawal_limit, absent),
        int(account.closed),
        recorded_at,
    )


def recorded_from(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[str, str], Entry]:
    """Return recorded entries, all with a key, in the form that :func:`~atm_core.decide` takes."""
    entries = map(entry_from, rows)
    return {(entry.transaction.account_number, str(entry.transaction.key)): entry for entry in entries}


def journal_row_from(row: tuple[Any, ...]) -> JournalRow:
    """Return a row of :data:`AUDIT_ROWS` as the audit takes it, also if what it holds is damaged."""
    number, entry, *facts, last_entry = row
    try:
        if last_entry is not None:  # of the table account
            return number, entry, account_from((number, *facts[4:8], last_entry))
        return number, entry, entry_from((number, entry, *facts))
    except DamagedRow:
        return number, entry, None


def unsupported_version(version: object, supported: int) -> str:
    """Return why a store with this schema version cannot be used."""
    return f"its schema has version {version}, but this release of Mini-ATM supports version {supported}"


def _money(cents: int | None) -> Decimal | None:
    return None if cents is None else from_minor_units(cents)


def _time_of(recorded_at: datetime | str) -> datetime:
    time = recorded_at if isinstance(recorded_at, datetime) else datetime.fromisoformat(recorded_at)
    if time.tzinfo is None:
        raise ValueError(f"the time {recorded_at!a} has no offset from UTC")
    return time


def _cents(money: Decimal | None, absent: str | None) -> int | str | None:
    return absent if money is None else to_minor_units(money)
