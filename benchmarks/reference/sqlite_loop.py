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
            for _ in range(per_commit):
                (balance,) = connection.execute(
                    "UPDATE account SET balance = balance + 1 WHERE account_number = ? RETURNING balance",
                    (account_number,),
                ).fetchone()
                connection.execute(
                    "INSERT INTO journal (account_number, kind, amount, balance, recorded_at)"
                    " VALUES (?, 'deposit', 1, ?, '2026-01-01T00:00:00.000+00:00')",
                    (account_number, balance),
                )
            connection.execute("COMMIT")
