"""Read or write a whole journal in PostgreSQL: in one database transaction, and with rows that never fill the memory.

Both may take long, so that no timeout of the database applies to them. They end when it does not answer for
:data:`MAX_SILENCE`.
"""
# ruff: noqa: S608 - all texts that are put into statements are constants

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC
from itertools import chain, islice
from typing import Any, Final, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg import IsolationLevel, errors

from atm_adapters.repositories.postgres_session import (
    Connection,
    InDoubt,
    PostgresSession,
    configure,
    is_in_doubt,
    warnings_as_errors,
)
from atm_adapters.repositories.sql_rows import AUDIT_ROWS, ENTRY_COLUMNS, entry_from, entry_row, journal_row_from
from atm_core import Account, AuditedAccount, Entry, audit
from atm_core.errors import AccountNotFound, InconsistentJournal, StoreNotEmpty, StoreUnavailable

MAX_SILENCE: Final = 300.0
"""Seconds to wait for the next rows. Counting or sorting a very large table takes some of them."""

_FETCHED_ROWS: Final = 2000
_COPIED_ROWS: Final = 10_000

_WITHOUT_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""

FIND_RECORDED: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entry
JOIN unnest(%s::text[], %s::text[]) AS keys (account_number, key) USING (account_number, key)
"""
"""Selects the entries under keys, given as two arrays: the account numbers, and the keys."""

# In the order of AUDIT_ROWS. The unique index of keys makes a repeated key impossible, unless it was dropped.
_REPEATED_KEYS = """
SELECT account_number, min(entry)
FROM (
    SELECT account_number, entry, row_number() OVER (PARTITION BY account_number, key ORDER BY entry) AS use
    FROM entry WHERE key IS NOT NULL
) AS keyed
WHERE use > 1 GROUP BY account_number ORDER BY account_number
"""

# The collation of the database must not change the order.
_EXPORT = f'SELECT {ENTRY_COLUMNS} FROM entry ORDER BY account_number COLLATE "C", entry'
_EXPORT_ACCOUNT = f"SELECT {ENTRY_COLUMNS} FROM entry WHERE account_number = %s ORDER BY entry"

# Other sessions may read, but not write accounts. All of them write to the account before its entries.
_LOCK = "LOCK TABLE account IN SHARE ROW EXCLUSIVE MODE"
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '10s'"
_HAS_ROWS = "SELECT EXISTS (SELECT FROM account) OR EXISTS (SELECT FROM entry)"
_COPY = f"COPY entry ({ENTRY_COLUMNS}, batch) FROM STDIN"
_ADD_ACCOUNTS = """
INSERT INTO account (account_number, balance, overdraft_limit, withdrawal_limit, closed, last_entry)
SELECT DISTINCT ON (account_number) account_number, balance, overdraft_limit, withdrawal_limit, closed, entry
FROM entry ORDER BY account_number, entry DESC
"""


def count_rows(session: PostgresSession, table: LiteralString) -> int:
    """Return the number of rows of a table."""
    with _one_moment(session) as read:
        ((count,),) = read(f"SELECT count(*) FROM {table}")
    return int(count)


def audit_accounts(session: PostgresSession) -> Generator[AuditedAccount, None, None]:
    """Audit all accounts as the port says."""
    with _one_moment(session) as read:
        repeated_keys = read(_REPEATED_KEYS)
        account_number, entry = next(repeated_keys, (None, 0))
        for found in audit(map(journal_row_from, read(AUDIT_ROWS))):
            if found.account_number != account_number:
                yield found
                continue
            yield found._replace(first_mismatch=min(found.first_mismatch or entry, entry))
            account_number, entry = next(repeated_keys, (None, 0))


def export_entries(session: PostgresSession, account_number: str | None) -> Generator[Entry, None, None]:
    """Read the journal as the port says."""
    with _one_moment(session) as read:
        if account_number is None:
            yield from map(stored_entry, read(_EXPORT))
            return
        entry = None
        for entry in map(stored_entry, read(_EXPORT_ACCOUNT, account_number)):
            yield entry
        if entry is None:  # every account has an opening
            raise AccountNotFound(account_number)


def stored_entry(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row that was read in binary form, so that its time does not depend on the session."""
    entry = entry_from(row)
    recorded_at = entry.recorded_at
    return entry if recorded_at is None else entry._replace(recorded_at=recorded_at.astimezone(UTC))


@contextmanager
def _one_moment(session: PostgresSession) -> Iterator[Callable[..., Iterator[tuple[Any, ...]]]]:
    """Open a connection whose statements all read the database as of one moment.

    Until the block ends, vacuum keeps the rows that are replaced. The block receives a function that executes a
    statement with parameters, and leaves the rows on the server until they are needed.
    """

    def read(statement: LiteralString, *parameters: object) -> Iterator[tuple[Any, ...]]:
        cursor = cursors.enter_context(connection.cursor(f"rows_{uuid4().hex}"))

        def fetch() -> list[tuple[Any, ...]]:
            with session.limited(connection, MAX_SILENCE):
                return cursor.fetchmany(_FETCHED_ROWS)

        with session.limited(connection, MAX_SILENCE):
            cursor.execute(statement, parameters, binary=True)
        return chain.from_iterable(iter(fetch, []))

    with (
        session.connect() as connection,
        ExitStack() as cursors,
        closing(connection),  # before the cursors, because a database that does not answer would delay their end
    ):
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with session.limited(connection, MAX_SILENCE):
            connection.execute(_WITHOUT_TIMEOUTS)
        yield read


def import_entries(session: PostgresSession, store: str, entries: Iterable[Entry]) -> None:
    """Write a journal as the port says.

    :param store: the store's name in error messages.
    :raises InDoubt: if the connection was lost when COMMIT may have been sent.
    """
    batch = uuid4()
    last: Account | None = None
    rest = iter(entries)
    with session.connect() as connection:
        connection.isolation_level = IsolationLevel.READ_COMMITTED  # sees what others committed before the lock
        with session.limited(connection, MAX_SILENCE):
            _lock_empty_store(connection, store)
        while chunk := list(islice(rest, _COPIED_ROWS)):
            with session.limited(connection, MAX_SILENCE):
                _copy(connection, chunk, batch)
            last = chunk[-1].account
        if last is not None:
            with session.limited(connection, MAX_SILENCE):
                connection.execute(_ADD_ACCOUNTS)
                _commit(connection, batch, last)


def _lock_empty_store(connection: Connection, store: str) -> None:
    configure(connection)
    connection.execute(_WITHOUT_TIMEOUTS)
    connection.execute(_LOCK_TIMEOUT)
    try:
        connection.execute(_LOCK)
    except errors.LockNotAvailable as error:
        raise StoreUnavailable(store, "other sessions write to it; stop them, then import again") from error
    if connection.execute(_HAS_ROWS).fetchone() == (True,):
        raise StoreNotEmpty(store)


def _copy(connection: Connection, entries: Sequence[Entry], batch: UUID) -> None:
    """Add entries.

    :raises InconsistentJournal: if one of them repeats a key of its account.
    """
    try:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for entry in entries:
                recorded_at = None if entry.recorded_at is None else entry.recorded_at.isoformat()
                copy.write_row((*entry_row(entry, recorded_at), batch))
    except errors.UniqueViolation as error:
        repeated = _repeated_key(connection, entries)
        raise (InconsistentJournal(repeated.account_number, repeated.last_entry) if repeated else error) from error


def _repeated_key(connection: Connection, entries: Iterable[Entry]) -> Account | None:
    """Return the account after the first entry whose key its account has already, among entries or in the store."""
    keyed = [(entry.transaction.account_number, entry.transaction.key) for entry in entries if entry.transaction.key]
    columns = [list(column) for column in zip(*keyed, strict=True)]
    used = {(row[0], row[4]) for row in connection.execute(FIND_RECORDED, columns)}
    for entry in entries:
        key = entry.transaction.account_number, entry.transaction.key
        if key in used:
            return entry.account
        if key[1] is not None:
            used.add(key)
    return None


def _commit(connection: Connection, batch: UUID, last: Account) -> None:
    try:
        with warnings_as_errors(connection):
            connection.commit()
    except psycopg.Error as error:
        if is_in_doubt(error):
            raise InDoubt(batch, last.account_number, last.last_entry) from error
        raise
