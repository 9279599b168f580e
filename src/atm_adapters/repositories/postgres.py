"""Accounts in PostgreSQL: several machines, durable before answered, safe through a failover.

The SQL uses only features that PostgreSQL shares with the engines that speak its protocol. Outcomes are never guessed:

- Journal entries are numbered within their account, and each names the batch that wrote it. When the connection is
  lost during COMMIT, one look at one entry shows whether the batch was committed.
- That look also writes to the account's row. It thereby waits for the lost transaction, which may still be running on
  the server.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from copy import copy
from itertools import chain
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import psycopg
from psycopg import errors

from atm_adapters.repositories.postgres_session import Connection, PostgresSession, is_in_doubt, warnings_as_errors
from atm_adapters.repositories.sql_rows import JOURNAL_ROWS, MAX_CENTS, account_from, recorded_from, unsupported_version
from atm_core import Account, AuditedAccount, Entry, Transaction, audit, decide
from atm_core.errors import AccountAlreadyExists, AccountNotFound, AtmError, OutcomeUnknown, StoreUnavailable
from atm_core.money import to_minor_units
from atm_core.ports import BatchRepository, Durability

_Row: TypeAlias = tuple[str, int, str, int, str | None, int]

_SCHEMA_VERSION: Final = 1

# Sums are in cents. The journal is keyed by account, so that accounts can be sharded.
_SCHEMA = f"""
CREATE TABLE account (
    account_number TEXT PRIMARY KEY,
    opening        BIGINT NOT NULL,
    balance        BIGINT NOT NULL CHECK (balance BETWEEN -{MAX_CENTS} AND {MAX_CENTS}),
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

CREATE TABLE mini_atm (schema_version BIGINT NOT NULL)
"""

# Locked in the order of account numbers, so that two batches never wait for each other.
_LOCK_ACCOUNTS = """
SELECT account_number, balance, last_entry FROM account
WHERE account_number = ANY(%s) ORDER BY account_number FOR UPDATE
"""
_SHORT_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
_FIND_RECORDED = """
SELECT account_number, key, kind, amount, balance FROM journal
JOIN unnest(%s::text[], %s::text[]) AS keys (account_number, key) USING (account_number, key)
"""
# One statement, because each statement costs time on both sides.
_WRITE = """
WITH updated AS (
    UPDATE account SET balance = changed.balance, last_entry = changed.last_entry
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS changed (account_number, balance, last_entry)
    WHERE account.account_number = changed.account_number
)
INSERT INTO journal (batch, account_number, entry, kind, amount, key, balance)
SELECT %s::uuid, added.*
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bigint[]) AS added
"""

_DURABILITY = """
SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names') ORDER BY name
"""


_MAX_SILENCE: Final = 300.0
"""Seconds that an audit waits for its next rows. Counting or sorting a very large table takes some of them."""
_DURABILITY_RETRY_TIMEOUT: Final = 1.0  # less than readiness checks wait, so that they can report the reason


class _InDoubt(Exception):
    """The connection was lost when COMMIT may have been sent.

    ``outcomes`` are what was decided. ``batch``, ``account_number`` and ``entry`` identify one of the entries.
    """

    def __init__(self, outcomes: list[Account | AtmError], batch: UUID, account_number: str, entry: int) -> None:
        super().__init__(batch)
        self.outcomes = outcomes
        self.batch = batch
        self.account_number = account_number
        self.entry = entry


class PostgresAccountRepository(BatchRepository):
    """An ``AccountRepository[Account]`` in PostgreSQL, safe to share between threads, processes and machines.

    :param url: a connection URL of libpq, with several hosts, ``target_session_attrs``, TLS and service files as
        in PostgreSQL's manual (section "Connection Strings").
    :param initial_accounts: the accounts of a new database. An existing one is not changed.
    :param name: the store's name in error messages, without a password.
    :param retry_timeout: seconds during which calls retry while the database is unreachable. A call that the database
        does not answer is aborted two seconds later.
    :raises StoreUnavailable: if the database cannot be used.
    """

    def __init__(
        self,
        url: str,
        initial_accounts: Iterable[Account] = (),
        *,
        name: str = "PostgreSQL",
        retry_timeout: float = 5.0,
    ) -> None:
        self._name = name
        self._session = PostgresSession(url, name=name, retry_timeout=retry_timeout)
        self._session.open(lambda connection: self._prepare(connection, initial_accounts))

    def get(self, account_number: str, /) -> Account:
        row = self._session.run_with_retries(
            lambda connection: connection.execute(
                "SELECT balance FROM account WHERE account_number = %s", (account_number,)
            ).fetchone()
        )
        if row is None:
            raise AccountNotFound(account_number)
        return account_from(account_number, row[0])

    def add(self, account: Account, /) -> Account:
        batch = uuid4()
        in_doubt = False

        def insert(connection: Connection) -> bool:
            nonlocal in_doubt
            with warnings_as_errors(connection), connection.transaction():
                _insert_accounts(connection, [account], batch)
                # Reads whether the row is ours, perhaps from a commit whose answer was lost. Locking the row is
                # logged, so this commit waits for a synchronous standby even if it inserted nothing.
                row = connection.execute(
                    "SELECT batch FROM account WHERE account_number = %s FOR UPDATE", (account.account_number,)
                ).fetchone()
                in_doubt = True  # COMMIT follows, and may have been sent when it fails
            return row == (batch,)

        try:
            added = self._session.run_with_retries(insert)
        except StoreUnavailable as error:
            if in_doubt:
                raise OutcomeUnknown(self._name, error.reason, OutcomeUnknown.OF_OPENING) from error
            raise
        if not added:
            raise AccountAlreadyExists(account.account_number)
        return account

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        """Execute transactions as the port says.

        Serialization failures are retried. A batch whose COMMIT was interrupted is looked up. If another session
        keeps an account locked, only that account's transactions fail.
        """
        if not transactions:
            return []
        try:
            return self._execute_batch(transactions)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable):
                raise
            by_account: dict[str, list[int]] = {}
            for position, transaction in enumerate(transactions):
                by_account.setdefault(transaction.account_number, []).append(position)
            if len(by_account) == 1:
                raise

        # One locked account must not fail the others, so each account now gets its own commit.
        outcomes: dict[int, Account | AtmError] = {}
        for positions in by_account.values():
            alone = [transactions[position] for position in positions]
            try:
                outcomes.update(zip(positions, self._execute_batch(alone, wait_for_locks=False), strict=True))
            except (StoreUnavailable, OutcomeUnknown) as error:
                outcomes.update((position, copy(error)) for position in positions)
        return [outcome for _, outcome in sorted(outcomes.items())]

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        rows = self._session.run_with_retries(
            lambda connection: connection.execute(
                "SELECT account_number, balance FROM account"
                " WHERE account_number > %s ORDER BY account_number LIMIT %s",
                (after, limit),
            ).fetchall()
        )
        return [account_from(number, balance) for number, balance in rows]

    def count_accounts(self) -> int:
        with self._session.connect() as connection, self._session.limited(connection, _MAX_SILENCE):
            rows = connection.execute("SELECT count(*) FROM account").fetchall()
        return int(rows[0][0])

    def audit(self) -> Generator[AuditedAccount, None, None]:
        # One statement reads one moment. Until it ends, vacuum keeps the rows that are replaced. The named cursor
        # leaves the rows on the server.
        with self._session.connect() as connection, connection.cursor("journal") as cursor:

            def fetch() -> list[tuple[Any, ...]]:
                with self._session.limited(connection, _MAX_SILENCE):
                    return cursor.fetchmany(2000)

            with self._session.limited(connection, _MAX_SILENCE):
                cursor.execute(JOURNAL_ROWS)
            yield from audit(chain.from_iterable(iter(fetch, [])))

    def durability(self) -> Durability:
        """Read the settings of a connection of the pool, which differ from the database's defaults.

        :raises StoreUnavailable: also if the schema is not this release's any more, or if a write fails. The write is
            that of a deposit to an account that cannot exist, and it is rolled back.
        """

        def read_settings_and_write(connection: Connection) -> dict[str, str]:
            with connection.transaction(force_rollback=True):
                self._check_version(_schema_version(connection))
                batch, entry = uuid4(), time.time_ns()  # another process may write its entry at the same time
                connection.execute(_WRITE, ([""], [0], [entry], batch, [""], [entry], ["deposit"], [1], [None], [0]))
                return dict(connection.execute(_DURABILITY).fetchall())

        deadline = time.monotonic() + _DURABILITY_RETRY_TIMEOUT
        settings = self._session.run_with_retries(read_settings_and_write, deadline)
        # full_page_writes is reported but not judged, because some file systems do not need it.
        is_off = "off" in (settings.get("fsync"), settings.get("synchronous_commit"))
        return Durability("postgresql", durable=not is_off, settings=settings)

    def close(self) -> None:
        """Close the connections. Calls under way end with an error, and further calls raise ``StoreUnavailable``."""
        self._session.close()

    def _prepare(self, connection: Connection, initial_accounts: Iterable[Account]) -> None:
        """Create the tables unless they exist, and check the schema version."""
        try:
            try:
                version = _schema_version(connection)
            except errors.UndefinedTable:
                with connection.transaction():
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute("INSERT INTO mini_atm (schema_version) VALUES (%s)", (_SCHEMA_VERSION,))
                    _insert_accounts(connection, initial_accounts, uuid4())
                return
        except (errors.DuplicateTable, errors.UniqueViolation):  # another process created them at the same time
            try:
                version = _schema_version(connection)
            except errors.UndefinedTable:
                reason = "it has tables named account or journal that belong to another application"
                raise StoreUnavailable(self._name, reason) from None
        self._check_version(version)

    def _check_version(self, version: int | None) -> None:
        if version != _SCHEMA_VERSION:
            raise StoreUnavailable(self._name, unsupported_version(version, _SCHEMA_VERSION))

    def _execute_batch(
        self, transactions: Sequence[Transaction], *, wait_for_locks: bool = True
    ) -> list[Account | AtmError]:
        deadline = self._session.deadline()
        while True:
            try:
                return self._session.run_with_retries(
                    lambda connection: _execute_once(connection, transactions, wait_for_locks=wait_for_locks), deadline
                )
            except _InDoubt as doubt:
                if self._was_committed(doubt):
                    return doubt.outcomes
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(self._name, "the connection was lost during the commit") from doubt
                # It was not committed and never will be, so the batch can be retried.

    def _was_committed(self, doubt: _InDoubt) -> bool:
        """Look up whether a batch was committed.

        :raises OutcomeUnknown: if the database does not answer in time.
        """

        def look_up(connection: Connection) -> bool:
            with warnings_as_errors(connection), connection.transaction():
                # Waits for the lost transaction, which keeps this row locked while it runs. And because this
                # transaction writes, its COMMIT waits for a synchronous standby, which then has both.
                connection.execute(
                    "UPDATE account SET last_entry = last_entry WHERE account_number = %s", (doubt.account_number,)
                )
                row = connection.execute(
                    "SELECT batch FROM journal WHERE account_number = %s AND entry = %s",
                    (doubt.account_number, doubt.entry),
                ).fetchone()
            return row == (doubt.batch,)

        try:
            return self._session.run_with_retries(look_up)
        except StoreUnavailable as error:
            raise OutcomeUnknown(self._name, error.reason) from error


def _execute_once(
    connection: Connection, transactions: Sequence[Transaction], *, wait_for_locks: bool
) -> list[Account | AtmError]:
    """Execute a batch in one database transaction and two round trips: load, decide, write and commit.

    :raises psycopg.Error: if nothing was committed.
    :raises _InDoubt: if it may have been committed.
    """
    numbers = list({transaction.account_number for transaction in transactions})
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    batch = uuid4()
    rows: list[_Row] = []
    try:
        # Locking a row is logged, so a COMMIT that writes nothing still waits for a synchronous standby. A replay thus
        # never rests on an entry that a failover could lose.
        with warnings_as_errors(connection), connection.pipeline():
            connection.execute("BEGIN")
            if not wait_for_locks:
                connection.execute(_SHORT_LOCK_TIMEOUT)
            loaded = connection.execute(_LOCK_ACCOUNTS, (numbers,))
            found: Iterable[tuple[Any, ...]] = ()
            if keys:
                found = connection.execute(_FIND_RECORDED, ([number for number, _ in keys], [key for _, key in keys]))
            accounts: dict[str, Account] = {}
            last_entry: dict[str, int] = {}
            for number, balance, entry in loaded:
                accounts[number] = account_from(number, balance)
                last_entry[number] = entry

            outcomes, entries = decide(transactions, accounts, recorded_from(found))
            rows = _rows(entries, last_entry)
            if rows:
                changed = list({number for number, *_ in rows})
                balances = [to_minor_units(accounts[number].balance) for number in changed]
                entry_numbers = [last_entry[number] for number in changed]
                columns = map(list, zip(*rows, strict=True))
                connection.execute(_WRITE, (changed, balances, entry_numbers, batch, *columns))
            connection.execute("COMMIT")  # its answer is awaited when the pipeline ends
    except psycopg.Error as error:
        if rows and is_in_doubt(error):
            raise _InDoubt(outcomes, batch, *rows[-1][:2]) from error
        raise
    return outcomes


def _rows(entries: Iterable[Entry], last_entry: dict[str, int]) -> list[_Row]:
    """Return the journal's rows for these entries, numbered within their accounts after ``last_entry``."""
    rows: list[_Row] = []
    for transaction, account in entries:
        last_entry[account.account_number] += 1
        rows.append(
            (
                account.account_number,
                last_entry[account.account_number],
                transaction.kind,
                to_minor_units(transaction.amount),
                transaction.key,
                to_minor_units(account.balance),
            )
        )
    return rows


def _schema_version(connection: Connection) -> int | None:
    row = connection.execute("SELECT schema_version FROM mini_atm").fetchone()
    return row[0] if row else None


def _insert_accounts(connection: Connection, accounts: Iterable[Account], batch: UUID) -> None:
    rows = [
        (account.account_number, cents, cents, batch)
        for account in accounts
        for cents in [to_minor_units(account.balance)]
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO account (account_number, opening, balance, last_entry, batch) VALUES (%s, %s, %s, 0, %s)"
            " ON CONFLICT DO NOTHING",
            rows,
        )
