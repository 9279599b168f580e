"""A bare ``sqlite3`` loop that writes the rows of a deposit: the cost of SQLite and its driver alone.

File, settings and durability are those of Mini-ATM (WAL, synchronous=FULL). There are no checks, no keys, no
refusals and no concurrent callers.
"""

import sqlite3
from contextlib import closing
from pathlib import Path


def deposits(path: Path, account_number: str, count: int, *, per_commit: int = 1) -> None:
    """Make deposits of one cent in a file that Mini-ATM created, with ``per_commit`` of them in each commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 16000")
        for _ in range(count // per_commit):
            connection.execute("BEGIN IMMEDIATE")
            (entry_id,) = connection.execute("SELECT max(id) FROM entry").fetchone()
            for _ in range(per_commit):
                entry_id += 1
                connection.execute(
                    "INSERT INTO entry (id, previous, account_number, entry, kind, amount, balance, closed,"
                    " recorded_at) SELECT ?, last_id, account_number, last_entry + 1, 'deposit', 1, balance + 1, 0,"
                    " '2026-01-01T00:00:00.000+00:00' FROM account WHERE account_number = ?",
                    (entry_id, account_number),
                )
                connection.execute(
                    "UPDATE account SET balance = balance + 1, last_entry = last_entry + 1, last_id = ?"
                    " WHERE account_number = ?",
                    (entry_id, account_number),
                )
            connection.execute("COMMIT")
