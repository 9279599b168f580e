"""The whole journal of a SQLite store: read from a private copy of the file, or written in one transaction."""

# ruff: noqa: S608 - all texts that are put into statements are constants

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from atm_adapters.repositories.sql_rows import AUDIT_ROWS, ENTRY_COLUMNS, entry_from, entry_row, journal_row_from
from atm_adapters.repositories.sqlite_rows import INSERT_ENTRY, REPLACE_ACCOUNTS
from atm_core import AuditedAccount, Entry, audit
from atm_core.errors import InconsistentJournal, StoreUnavailable

_PAGES_AT_ONCE: Final = 4096  # between two of them, Ctrl-C is noticed

_NO_TEMPORARY_FILE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_GETTEMPPATH)

_SELECT_JOURNAL = f"SELECT {ENTRY_COLUMNS} FROM entry ORDER BY account_number, entry"

# A link must lead from an account to its last entry, and from an entry to the one before. The unique index of keys
# makes a repeated key impossible, unless it was deleted. It shows quickly whether there is one.
_SELECT_MISMATCHES = """
SELECT account_number, min(number)
FROM (
    SELECT link.account_number, number
    FROM (
        SELECT account_number, last_entry AS number, last_entry AS entry, last_id AS id FROM account
        UNION ALL
        SELECT account_number, entry, entry - 1, previous FROM entry WHERE entry > 1
    ) AS link
    LEFT JOIN entry USING (id)
    WHERE (entry.account_number, entry.entry) IS NOT (link.account_number, link.entry)
    UNION ALL
    SELECT account_number, entry
    FROM (
        SELECT account_number, entry, row_number() OVER (PARTITION BY account_number, key ORDER BY entry) AS use
        FROM entry
        WHERE key IS NOT NULL AND EXISTS (
            SELECT * FROM entry WHERE key IS NOT NULL GROUP BY account_number, key HAVING count(*) > 1
        )
    )
    WHERE use > 1
)
GROUP BY account_number
ORDER BY account_number
"""
"""Selects the accounts with a wrong link or a repeated key, and the number of the first such entry."""


@contextmanager
def private_copy(source: sqlite3.Connection, file: str) -> Iterator[sqlite3.Connection]:
    """Copy a store, as of one moment, to a temporary file that has no name and is deleted when it is closed.

    A slow reader of the copy does not delay the checkpoints of the store, so its log does not grow.

    :param source: a connection to the store. It is closed.
    :param file: the store's name.
    :raises StoreUnavailable: if the temporary file cannot be written.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as copy:
            with closing(source):
                copy_pages(source, copy)
            copy.execute("PRAGMA temp_store = FILE")  # for sorting
            yield copy
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) not in _NO_TEMPORARY_FILE:
            raise
        reason = "the folder of temporary files has no room for a copy: set SQLITE_TMPDIR to one that has"
        raise StoreUnavailable(file, f"{reason} ({error})") from error


def copy_pages(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the whole file, as of one moment, to the file of another connection."""
    # In this transaction, writes of other connections do not make the copy begin again.
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    source.backup(target, pages=_PAGES_AT_ONCE, progress=lambda *_: None)
    source.execute("COMMIT")


def audit_copy(copy: sqlite3.Connection) -> Iterator[AuditedAccount]:
    """Audit a private copy."""
    mismatches = copy.execute(_SELECT_MISMATCHES)
    account_number, number = mismatches.fetchone() or (None, 0)
    for found in audit(map(journal_row_from, copy.execute(AUDIT_ROWS))):
        if found.account_number != account_number:
            yield found
            continue
        first = found.first_mismatch
        # If only the account is wrong, such as one whose last entry is missing, its link says nothing more.
        yield found._replace(first_mismatch=min(first or number, number)) if first or found.is_consistent else found
        account_number, number = mismatches.fetchone() or (None, 0)


def read_entries(copy: sqlite3.Connection) -> Iterator[Entry]:
    """Read the journal of a private copy, ordered by account and entry number."""
    return map(entry_from, copy.execute(_SELECT_JOURNAL))


def write_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write a journal to a store without accounts. The caller begins a write transaction, and commits it.

    :param entries: as :func:`~atm_core.audit.replayed` yields them.
    :raises InconsistentJournal: if two entries of an account have the same key.
    """
    account_number, number = "", 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal account_number, number
        for entry_id, entry in enumerate(entries, 1):
            account_number, number = entry.account.account_number, entry.account.last_entry
            previous = "" if number == 1 else entry_id - 1
            yield entry_id, previous, *entry_row(entry, _text_of(entry.recorded_at), absent="")

    try:
        connection.executemany(INSERT_ENTRY, rows())
    except sqlite3.IntegrityError as error:
        raise InconsistentJournal(account_number, number) from error
    connection.execute(REPLACE_ACCOUNTS, (0,))


def _text_of(recorded_at: datetime | None) -> str | None:
    return None if recorded_at is None else recorded_at.astimezone(UTC).isoformat()
