"""The schema of a SQLite store: a list of migrations, all of which create a new store."""

# ruff: noqa: S608 - all texts that are put into statements are constants

import sqlite3
from typing import Final

from atm_adapters.repositories.sql_rows import MAX_CENTS, unsupported_version
from atm_core import StoreUnavailable

_APPLICATION_ID: Final = 0x41544D31  # "ATM1" in the file's header marks our files

IS_MILESTONE: Final = "entry % 64 = 0"
"""The condition of the index that leads into an account's entries. A query must state it alike to use the index."""

# Sums are in cents. STRICT, because in other tables an integer that overflows silently becomes a float.
_BALANCE_AND_JOURNAL = f"""
CREATE TABLE account (
    account_number TEXT PRIMARY KEY,
    opening        INTEGER NOT NULL,
    balance        INTEGER NOT NULL CHECK (balance BETWEEN -{MAX_CENTS} AND {MAX_CENTS})
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    entry          INTEGER PRIMARY KEY,
    account_number TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal')),
    amount         INTEGER NOT NULL CHECK (amount > 0),
    key            TEXT,
    balance        INTEGER NOT NULL,
    recorded_at    TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX journal_key ON journal (account_number, key) WHERE key IS NOT NULL;
"""

# Openings become entries. Entries are numbered within their account, and hold the account after them.
#
# An index of all entries by account and number would halve the rate of batches, so entries are a list: ``previous`` is
# the id of the account's previous entry, and ``last_id`` that of its last one. ``entry_milestone`` has every 64th.
_LINKED_ENTRIES = f"""
ALTER TABLE account RENAME TO old_account;

CREATE TABLE account (
    account_number   TEXT PRIMARY KEY,
    balance          INTEGER NOT NULL CHECK (balance BETWEEN -{MAX_CENTS} AND {MAX_CENTS}),
    overdraft_limit  INTEGER,
    withdrawal_limit INTEGER,
    closed           INTEGER NOT NULL,
    last_entry       INTEGER NOT NULL,
    last_id          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    id               INTEGER PRIMARY KEY,
    previous         INTEGER,
    account_number   TEXT NOT NULL,
    entry            INTEGER NOT NULL,
    kind             TEXT NOT NULL,
    amount           INTEGER,
    key              TEXT,
    note             TEXT,
    balance          INTEGER NOT NULL,
    overdraft_limit  INTEGER,
    withdrawal_limit INTEGER,
    closed           INTEGER NOT NULL,
    recorded_at      TEXT
) STRICT;

WITH line (id, account_number, kind, amount, key, balance, recorded_at) AS (
    SELECT row_number() OVER (ORDER BY account_number), account_number, 'opening', opening, NULL, opening, NULL
    FROM old_account
    UNION ALL
    SELECT (SELECT count(*) FROM old_account) + entry, account_number, kind, amount, key, balance, recorded_at
    FROM journal
)
INSERT INTO entry (id, previous, account_number, entry, kind, amount, key, balance, closed, recorded_at)
SELECT id, lag(id) OVER of_account, account_number, row_number() OVER of_account, kind, amount, key, balance, 0,
    recorded_at
FROM line
WINDOW of_account AS (PARTITION BY account_number ORDER BY id)
ORDER BY id;

INSERT INTO account (account_number, balance, closed, last_entry, last_id)
SELECT account_number, old_account.balance, 0, max(entry), max(id)
FROM old_account JOIN entry USING (account_number)
GROUP BY account_number;

DROP TABLE journal;
DROP TABLE old_account;

CREATE UNIQUE INDEX entry_key ON entry (account_number, key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX entry_milestone ON entry (account_number, entry) WHERE {IS_MILESTONE};
"""

MIGRATIONS: Final = (_BALANCE_AND_JOURNAL, _LINKED_ENTRIES)
"""The steps that make each version of the schema from the one before. A step that was released does not change."""

VERSION: Final = len(MIGRATIONS)


def read_version(connection: sqlite3.Connection, file: str) -> int:
    """Return the version of the file's schema, or 0 for an empty file.

    :raises StoreUnavailable: if the file belongs to another application, or has a version that is not known.
    """
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    application_id = read_pragma(connection, "application_id")
    if objects == 0 and application_id == 0:
        return 0
    if application_id != _APPLICATION_ID:
        raise StoreUnavailable(file, "it is a SQLite database of another application")
    version = read_pragma(connection, "user_version")
    if not 1 <= version <= VERSION:
        raise _unsupported(file, version)
    return version


def check_version(connection: sqlite3.Connection, file: str) -> None:
    """Check that the file still has the present version of the schema.

    :raises StoreUnavailable: if it has another one.
    """
    version = read_pragma(connection, "user_version")
    if version != VERSION:
        raise _unsupported(file, version)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the schema from a version to the present one. The caller begins a write transaction, and commits it."""
    for migration in MIGRATIONS[version:]:
        for statement in migration.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    write_version(connection)


def write_version(connection: sqlite3.Connection) -> None:
    """Write the present version, which changes the file's first page even if it has this version already."""
    connection.execute(f"PRAGMA user_version = {VERSION}")


def read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    """Return a number that a PRAGMA reads."""
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


def _unsupported(file: str, version: int) -> StoreUnavailable:
    return StoreUnavailable(file, unsupported_version(version, VERSION))
