"""The statements that read and write the accounts and entries of a SQLite store."""

# ruff: noqa: S608 - all texts that are put into statements are constants

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from atm_adapters.repositories.sql_rows import ACCOUNT_COLUMNS, ENTRY_COLUMNS, account_from, entry_row, recorded_from
from atm_adapters.repositories.sqlite_schema import IS_MILESTONE
from atm_core import Account, AtmError, Entry, Transaction, decide

SELECT_ACCOUNT: Final = f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE account_number = ?"

SELECT_ACCOUNTS_AFTER: Final = (
    f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE account_number > ? ORDER BY account_number LIMIT ?"
)

SELECT_LAST_ENTRY: Final = "SELECT last_entry, last_id FROM account WHERE account_number = ?"

# Walks back from the first milestone that is not below the newest entry of the page, or else from the last entry. The
# numbers must match the links, so that the walk also ends in a damaged file.
SELECT_ENTRIES: Final = f"""
WITH RECURSIVE walk (id, entry) AS (
    SELECT * FROM (
        SELECT id, entry FROM entry WHERE account_number = :account_number AND entry >= :newest AND {IS_MILESTONE}
        UNION ALL
        SELECT :last_id, :last_entry
        ORDER BY entry LIMIT 1
    )
    UNION ALL
    SELECT previous, entry - 1 FROM walk JOIN entry USING (id, entry) WHERE entry > :oldest
)
SELECT {ENTRY_COLUMNS} FROM walk JOIN entry USING (id, entry)
WHERE account_number = :account_number AND entry BETWEEN :oldest AND :newest
ORDER BY entry DESC
"""

_SELECT_ACCOUNTS = f"SELECT {ACCOUNT_COLUMNS}, last_id FROM json_each(?) JOIN account ON account_number = value"

_SELECT_RECORDED = f"""
SELECT {ENTRY_COLUMNS} FROM (SELECT value ->> 0 AS number, value ->> 1 AS used_key FROM json_each(?))
JOIN entry ON account_number = number AND key = used_key
"""

_SELECT_LAST_ID = "SELECT coalesce(max(id), 0) FROM entry"

# The driver takes 0.3 us to bind a None, ten times as long as text. An entry without key, note and limits has four.
INSERT_ENTRY: Final = f"""
INSERT INTO entry (id, previous, {ENTRY_COLUMNS})
VALUES (?, nullif(?, ''), ?, ?, ?, nullif(?, ''), nullif(?, ''), nullif(?, ''), ?, nullif(?, ''), nullif(?, ''), ?, ?)
"""

# An account is what its last entry holds. In the order of ids, the last one remains.
REPLACE_ACCOUNTS: Final = f"""
REPLACE INTO account ({ACCOUNT_COLUMNS}, last_id)
SELECT account_number, balance, overdraft_limit, withdrawal_limit, closed, entry, id FROM entry WHERE id > ? ORDER BY id
"""


def execute_batch(connection: sqlite3.Connection, transactions: Sequence[Transaction]) -> list[Account | AtmError]:
    """Decide about transactions and write their entries. The caller begins a write transaction, and commits it.

    :returns: for each transaction, the account after it or the refusal.
    """
    numbers = {transaction.account_number for transaction in transactions}
    rows = connection.execute(_SELECT_ACCOUNTS, (json.dumps(list(numbers)),)).fetchall()
    accounts = {row[0]: account_from(row[:-1]) for row in rows}
    last_ids = {row[0]: row[-1] for row in rows}
    outcomes, entries = decide(transactions, accounts, _load_recorded(connection, transactions))
    if entries:
        _write(connection, entries, last_ids)
    return outcomes


def _load_recorded(
    connection: sqlite3.Connection, transactions: Iterable[Transaction]
) -> Mapping[tuple[str, str], Entry]:
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    return recorded_from(connection.execute(_SELECT_RECORDED, (json.dumps(keys),))) if keys else {}


def _write(connection: sqlite3.Connection, entries: Iterable[Entry], last_ids: dict[str, int]) -> None:
    """Append entries, each with a link to its account's previous one, and update their accounts.

    :param last_ids: the id of each account's last entry, by account number. Updated in place.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    (last_id,) = connection.execute(_SELECT_LAST_ID).fetchone()
    rows = []
    for entry_id, entry in enumerate(entries, last_id + 1):
        number = entry.account.account_number
        rows.append((entry_id, last_ids.get(number, ""), *entry_row(entry, now, absent="")))
        last_ids[number] = entry_id
    connection.executemany(INSERT_ENTRY, rows)
    connection.execute(REPLACE_ACCOUNTS, (last_id,))
