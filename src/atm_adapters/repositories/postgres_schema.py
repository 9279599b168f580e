"""The tables in PostgreSQL, and how those of earlier versions become the present ones.

Sums are in cents. Every primary and unique key begins with the account number, so that accounts can be sharded.
"""

from collections.abc import Callable
from typing import Final, LiteralString

from psycopg import IsolationLevel, errors

from atm_adapters.repositories.postgres_session import Connection
from atm_adapters.repositories.sql_rows import unsupported_version
from atm_core import StoreNotInitialized, StoreUnavailable

_VERSION_1 = """
CREATE TABLE account (
    account_number TEXT PRIMARY KEY,
    opening        BIGINT NOT NULL,
    balance        BIGINT NOT NULL CHECK (balance BETWEEN -999999999999999 AND 999999999999999),
    last_entry     BIGINT NOT NULL,
    batch          UUID NOT NULL
);

CREATE TABLE journal (
    account_number TEXT NOT NULL,
    entry          BIGINT NOT NULL,
    batch          UUID NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal')),
    amount         BIGINT NOT NULL CHECK (amount > 0),
    key            TEXT,
    balance        BIGINT NOT NULL,
    recorded_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (account_number, entry)
);

CREATE UNIQUE INDEX journal_key ON journal (account_number, key) WHERE key IS NOT NULL;

CREATE TABLE mini_atm (schema_version BIGINT NOT NULL);

INSERT INTO mini_atm (schema_version) VALUES (0)
"""

# The lock waits for the transactions of servers of version 1 that are under way. Their next ones fail, because they
# need the table journal. The accounts come first, as in those transactions, so that none waits for the other.
_VERSION_2 = """
LOCK TABLE account, journal;

CREATE TABLE entry (
    account_number   TEXT NOT NULL,
    entry            BIGINT NOT NULL,
    kind             TEXT NOT NULL,
    amount           BIGINT,
    key              TEXT,
    note             TEXT,
    balance          BIGINT NOT NULL,
    overdraft_limit  BIGINT,
    withdrawal_limit BIGINT,
    closed           BOOLEAN NOT NULL,
    recorded_at      TIMESTAMPTZ,
    batch            UUID NOT NULL
);

INSERT INTO entry (account_number, entry, kind, amount, balance, closed, batch)
SELECT account_number, 1, 'opening', opening, opening, false, batch FROM account;

INSERT INTO entry (account_number, entry, kind, amount, key, balance, closed, recorded_at, batch)
SELECT account_number, entry + 1, kind, amount, key, balance, false, recorded_at, batch FROM journal;

ALTER TABLE entry ADD PRIMARY KEY (account_number, entry);

CREATE UNIQUE INDEX entry_key ON entry (account_number, key) WHERE key IS NOT NULL;

DROP TABLE journal;

ALTER TABLE account
    DROP COLUMN opening,
    DROP COLUMN batch,
    ADD COLUMN overdraft_limit BIGINT,
    ADD COLUMN withdrawal_limit BIGINT,
    ADD COLUMN closed BOOLEAN NOT NULL DEFAULT false;

UPDATE account SET last_entry = last_entry + 1
"""

_MIGRATIONS: Final = (_VERSION_1, _VERSION_2)
"""Each step makes its version of the tables from the one before it. Steps are appended, and never changed."""

_VERSION: Final = len(_MIGRATIONS)
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"  # while an upgrade waits for tables, all other sessions wait
_READ_VERSION: Final = "SELECT schema_version FROM mini_atm"
_LOCK_VERSION: Final = f"{_READ_VERSION} FOR UPDATE"
_FOREIGN_TABLES: Final = (
    "it has tables named account, entry, journal or mini_atm that belong to another application; "
    "use a schema or a database without them"
)
_TABLES_EXIST: Final = (errors.DuplicateTable, errors.UniqueViolation)


def check_version(connection: Connection, store: str) -> None:
    """Check that the tables are those of this release.

    :param store: the store's name in error messages.
    :raises StoreNotInitialized: if there are none, or older ones.
    :raises StoreUnavailable: if they are newer, or those of another application.
    """
    try:
        version = _read_version(connection)
    except errors.UndefinedTable:
        version = 0
    except errors.UndefinedColumn:
        raise StoreUnavailable(store, _FOREIGN_TABLES) from None
    if version < _VERSION:
        reason = f"its schema has version {version}, older than {_VERSION}" if version else "it has no tables"
        raise StoreNotInitialized(store, reason, version)
    if version > _VERSION:
        raise StoreUnavailable(store, unsupported_version(version, _VERSION))


def upgrade(connection: Connection, store: str, fill: Callable[[Connection], object]) -> None:
    """Create the tables, or make the present ones from those of an earlier version. Each is one commit.

    Of several processes that do so at the same time, one changes the tables, and the others wait for it.

    :param connection: one with autocommit that is used for nothing else.
    :param store: the store's name in error messages.
    :param fill: called after new tables were created, for the same commit.
    :raises StoreUnavailable: if other sessions use the tables, if they belong to another application, or if the user
        may not create them.
    """
    connection.isolation_level = IsolationLevel.READ_COMMITTED  # each statement sees what others committed before it
    try:
        try:
            _apply_migrations(connection, fill)
        except _TABLES_EXIST:  # another process created them at the same time, so that their version can be read now
            _apply_migrations(connection, fill)
    except _TABLES_EXIST:
        raise StoreUnavailable(store, _FOREIGN_TABLES) from None
    except errors.LockNotAvailable as error:
        reason = "its tables cannot be upgraded while other sessions use them; stop the servers that do"
        raise StoreUnavailable(store, reason) from error
    except errors.InsufficientPrivilege as error:
        reason = (
            f"its user {connection.info.user!a} may not create or change its tables ({error.diag.message_primary}); "
            "use one that may create tables in its schema and owns those that are there"
        )
        raise StoreUnavailable(store, reason) from error


def _apply_migrations(connection: Connection, fill: Callable[[Connection], object]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SET LOCAL lock_timeout = 0")  # waits for an upgrade under way
        try:
            with connection.transaction():
                version = _read_version(connection, _LOCK_VERSION)
        except errors.UndefinedTable:
            version = 0
        if version >= _VERSION:
            return
        connection.execute(_LOCK_TIMEOUT)
        for migration in _MIGRATIONS[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute("UPDATE mini_atm SET schema_version = %s", (_VERSION,))
        if version == 0:
            fill(connection)


def _read_version(connection: Connection, statement: LiteralString = _READ_VERSION) -> int:
    row = connection.execute(statement).fetchone()
    return row[0] if row else 0
