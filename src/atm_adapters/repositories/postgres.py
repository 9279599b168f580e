"""Accounts in PostgreSQL: several machines, durable before answered, safe through a failover.

The SQL uses only features that PostgreSQL shares with the engines that speak its protocol. Outcomes are never guessed:

- A batch locks its accounts before it decides. An account that it opens has no row to lock, so the batch first inserts
  a provisional one. Other sessions that open the account wait for it.
- Each entry names the batch that wrote it. When the connection is lost during COMMIT, one look at one entry shows
  whether the batch was committed.
- That look also writes to the account's row. It therefore waits for the lost transaction, which may still be running
  on the server, whether it locked the row or inserted it.
"""
# ruff: noqa: S608 - all texts that are put into statements are constants

import json
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from psycopg import errors

from atm_adapters.repositories.postgres_journal import (
    FIND_RECORDED,
    audit_accounts,
    count_rows,
    export_entries,
    import_entries,
    stored_entry,
)
from atm_adapters.repositories.postgres_schema import check_version, upgrade
from atm_adapters.repositories.postgres_session import (
    Connection,
    InDoubt,
    PostgresSession,
    is_in_doubt,
    warnings_as_errors,
)
from atm_adapters.repositories.sql_rows import ACCOUNT_COLUMNS, ENTRY_COLUMNS, account_from, entry_row, recorded_from
from atm_core import Account, AuditedAccount, Entry, Opening, Transaction, decide
from atm_core.errors import AccountNotFound, AtmError, OutcomeUnknown, StoreNotInitialized, StoreUnavailable
from atm_core.ports import BatchRepository, Durability, Page

_ENTRY_COLUMN_NAMES: Final = ENTRY_COLUMNS.split(", ")

_GET = f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE account_number = %s"
_LIST = f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE account_number > %s ORDER BY account_number LIMIT %s"

# Rows are inserted and locked in the order of account numbers, so that two batches never wait for each other.
_INSERT_PROVISIONALLY = """
INSERT INTO account (account_number, balance, last_entry)
SELECT number, 0, 0 FROM unnest(%s::text[]) AS number ORDER BY number
ON CONFLICT (account_number) DO NOTHING
"""
_LOCK_ACCOUNTS = f"""
SELECT {ACCOUNT_COLUMNS} FROM account WHERE account_number = ANY(%s) ORDER BY account_number FOR UPDATE
"""
_SHORT_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
# One statement, because each statement costs time on both sides. Its time is later than the locks on the accounts. The
# rows are one JSON text, because psycopg takes 5 microseconds for each of eleven arrays.
_WRITE = f"""
WITH added AS (
    SELECT * FROM json_to_recordset(%s) AS added (
        account_number TEXT, entry BIGINT, kind TEXT, amount BIGINT, key TEXT, note TEXT,
        balance BIGINT, overdraft_limit BIGINT, withdrawal_limit BIGINT, closed BOOLEAN, is_last BOOLEAN
    )
), updated AS (
    UPDATE account SET
        balance = added.balance, overdraft_limit = added.overdraft_limit, withdrawal_limit = added.withdrawal_limit,
        closed = added.closed, last_entry = added.entry
    FROM added WHERE account.account_number = added.account_number AND added.is_last
)
INSERT INTO entry ({ENTRY_COLUMNS}, batch)
SELECT
    account_number, entry, kind, amount, key, note,
    balance, overdraft_limit, withdrawal_limit, closed, statement_timestamp(), %s::uuid
FROM added
"""
# Waits for a transaction that has locked the account's row or inserted it.
_WAIT_FOR_ACCOUNT = """
INSERT INTO account (account_number, balance, last_entry) VALUES (%s, 0, 0)
ON CONFLICT (account_number) DO UPDATE SET last_entry = account.last_entry
"""
_FIND_BATCH = "SELECT batch FROM entry WHERE account_number = %s AND entry = %s"

# A row without an entry if there is no entry in the range, and no row if there is no account.
_HISTORY = f"""
SELECT page.* FROM account LEFT JOIN LATERAL (
    SELECT {ENTRY_COLUMNS} FROM entry
    WHERE entry.account_number = account.account_number AND entry.entry {{range}} %s
    ORDER BY entry.entry {{order}} LIMIT %s
) AS page ON true
WHERE account.account_number = %s ORDER BY page.entry {{order}}
"""
_BACKWARD = _HISTORY.format(range="<", order="DESC")
_FORWARD = _HISTORY.format(range=">", order="ASC")
_MAX_ENTRY: Final = 2**63 - 1

_DURABILITY = """
SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names') ORDER BY name
"""

_IMPORT_ADVICE: Final = (
    "It is not known whether the journal was imported. Import it again: a store that has it refuses it as not empty."
)
_MAX_UPGRADE: Final = 3600.0
"""Seconds that an upgrade may take, or wait for the upgrade by another process."""
_DURABILITY_RETRY_TIMEOUT: Final = 1.0  # less than readiness checks wait, so that they can report the reason


class PostgresAccountRepository(BatchRepository):
    """An ``AccountRepository[Account]`` in PostgreSQL, safe to share between threads, processes and machines.

    :param url: a connection URL of libpq, with several hosts, ``target_session_attrs``, TLS and service files as
        in PostgreSQL's manual (section "Connection Strings").
    :param initial_accounts: the accounts of a new database, whose tables are created. Each gets an opening as its
        first entry. An existing database with older tables is upgraded. None means that the database must have the
        tables of this release. Then the user needs no right to create tables.
    :param name: the store's name in error messages, without a password.
    :param retry_timeout: seconds during which calls retry while the database is unreachable. A call that the database
        does not answer is aborted two seconds later.
    :raises StoreNotInitialized: if the database has no tables or older ones, and there are no initial accounts.
    :raises StoreUnavailable: if the database cannot be used. If it failed during an upgrade, the upgrade is whole or
        has not happened, and opening the store again completes it.
    """

    def __init__(
        self,
        url: str,
        initial_accounts: Iterable[Account] | None = None,
        *,
        name: str = "PostgreSQL",
        retry_timeout: float = 5.0,
    ) -> None:
        self._name = name
        self._retry_timeout = retry_timeout
        self._session = PostgresSession(url, name=name, retry_timeout=retry_timeout)
        self._session.open(lambda connection: self._prepare(connection, initial_accounts))

    def get(self, account_number: str, /) -> Account:
        def read(connection: Connection) -> Account | None:
            row = connection.execute(_GET, (account_number,)).fetchone()
            return None if row is None else account_from(row)

        account = self._session.run_with_retries(read)
        if account is None:
            raise AccountNotFound(account_number)
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

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        statement, bound = (_BACKWARD, _MAX_ENTRY if before is None else before) if after is None else (_FORWARD, after)

        def read(connection: Connection) -> tuple[int, list[Entry]]:
            # In binary form, times do not depend on the session's DateStyle.
            rows = connection.execute(statement, (bound, limit + 1, account_number), binary=True).fetchall()
            return len(rows), [stored_entry(row) for row in rows[:limit] if row[0] is not None]

        count, entries = self._session.run_with_retries(read)
        if not count:
            raise AccountNotFound(account_number)
        return Page(entries, has_more=count > limit)

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        return self._session.run_with_retries(
            lambda connection: list(map(account_from, connection.execute(_LIST, (after, limit))))
        )

    def count_accounts(self) -> int:
        return count_rows(self._session, "account")

    def audit(self) -> Generator[AuditedAccount, None, None]:
        return audit_accounts(self._session)

    def count_entries(self) -> int:
        return count_rows(self._session, "entry")

    def export_entries(self, account_number: str | None = None, /) -> Generator[Entry, None, None]:
        return export_entries(self._session, account_number)

    def import_entries(self, entries: Iterable[Entry], /) -> None:
        """Fill the store as the port says. Other sessions cannot write to it until the import ends.

        :raises StoreUnavailable: also if other sessions write to it for ten seconds.
        """
        try:
            import_entries(self._session, self._name, entries)
        except InDoubt as doubt:
            try:
                was_committed = self._was_committed(doubt)
            except OutcomeUnknown as error:
                raise OutcomeUnknown(self._name, error.reason, _IMPORT_ADVICE) from error
            if not was_committed:
                raise StoreUnavailable(self._name, "the connection was lost during the commit") from doubt

    def durability(self) -> Durability:
        """Read the settings of a connection of the pool, which differ from the database's defaults.

        :raises StoreUnavailable: also if the schema is not this release's any more, or if a write fails. The write is
            an entry of an account that cannot exist, and it is rolled back.
        """

        def read_settings_and_write(connection: Connection) -> dict[str, str]:
            with connection.transaction(force_rollback=True):
                check_version(connection, self._name)
                number = time.time_ns()  # another process may write its entry at the same time
                row = {"account_number": "", "entry": number, "kind": "", "balance": 0, "closed": False}
                _write(connection, [row], uuid4())
                return dict(connection.execute(_DURABILITY).fetchall())

        deadline = time.monotonic() + _DURABILITY_RETRY_TIMEOUT
        settings = self._session.run_with_retries(read_settings_and_write, deadline)
        # full_page_writes is reported but not judged, because some file systems do not need it.
        is_off = "off" in (settings.get("fsync"), settings.get("synchronous_commit"))
        return Durability("postgresql", durable=not is_off, settings=settings)

    def close(self) -> None:
        """Close the connections. Calls under way end with an error, and further calls raise ``StoreUnavailable``."""
        self._session.close()

    def _prepare(self, connection: Connection, initial_accounts: Iterable[Account] | None) -> None:
        """Create or upgrade the tables unless they are those of this release."""

        def fill(connection: Connection) -> None:
            accounts = initial_accounts or ()
            _execute_in_transaction(connection, [Opening.of(account) for account in accounts], uuid4())

        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":  # it lacks characters of notes, and one such note would fail the whole batch
            raise StoreUnavailable(self._name, f"its encoding is {encoding}; create the database with ENCODING 'UTF8'")
        try:
            self._check_version(connection)
        except StoreNotInitialized:
            if initial_accounts is None:
                raise
            with self._session.limited(connection, _MAX_UPGRADE):
                upgrade(connection, self._name, fill)
            self._check_version(connection)

    def _check_version(self, connection: Connection) -> None:
        with self._session.limited(connection, self._retry_timeout):
            check_version(connection, self._name)

    def _execute_batch(
        self, transactions: Sequence[Transaction], *, wait_for_locks: bool = True
    ) -> list[Account | AtmError]:
        deadline = self._session.deadline()
        while True:
            try:
                return self._session.run_with_retries(
                    lambda connection: _execute_once(connection, transactions, wait_for_locks=wait_for_locks), deadline
                )
            except InDoubt as doubt:
                if self._was_committed(doubt):
                    return doubt.outcomes
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(self._name, "the connection was lost during the commit") from doubt
                # It was not committed and never will be, so the batch can be retried.

    def _was_committed(self, doubt: InDoubt) -> bool:
        """Look up whether a batch was committed.

        :raises OutcomeUnknown: if the database does not answer in time.
        """

        def look_up(connection: Connection) -> bool:
            with warnings_as_errors(connection), connection.transaction() as transaction:
                connection.execute(_WAIT_FOR_ACCOUNT, (doubt.account_number,))
                row = connection.execute(_FIND_BATCH, (doubt.account_number, doubt.entry)).fetchone()
                if row != (doubt.batch,):
                    raise psycopg.Rollback(transaction)
                # Because this transaction writes, its COMMIT waits for a synchronous standby, which then has both.
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
    :raises InDoubt: if it may have been committed.
    """
    batch = uuid4()
    entries: list[Entry] = []
    try:
        # Locking a row is logged, so a COMMIT that writes nothing still waits for a synchronous standby. A replay thus
        # never rests on an entry that a failover could lose.
        with warnings_as_errors(connection), connection.pipeline():
            connection.execute("BEGIN")
            if not wait_for_locks:
                connection.execute(_SHORT_LOCK_TIMEOUT)
            outcomes, entries = _execute_in_transaction(connection, transactions, batch)
            connection.execute("COMMIT")  # its answer is awaited when the pipeline ends
    except psycopg.Error as error:
        if entries and is_in_doubt(error):
            last = entries[-1].account
            raise InDoubt(batch, last.account_number, last.last_entry, outcomes) from error
        raise
    return outcomes


def _execute_in_transaction(
    connection: Connection, transactions: Sequence[Transaction], batch: UUID
) -> tuple[list[Account | AtmError], list[Entry]]:
    """Execute a batch within a database transaction, and return the outcomes and the entries that it added."""
    numbers = list({transaction.account_number for transaction in transactions})
    opened = [transaction.account_number for transaction in transactions if isinstance(transaction, Opening)]
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    if opened:
        # The first opening of an account with a provisional row succeeds, so that the row is always completed.
        connection.execute(_INSERT_PROVISIONALLY, (opened,))
    loaded = connection.execute(_LOCK_ACCOUNTS, (numbers,))
    found: Iterable[tuple[Any, ...]] = ()
    if keys:
        columns = ([number for number, _ in keys], [key for _, key in keys])
        found = connection.execute(FIND_RECORDED, columns, binary=True)
    complete = (account for account in map(account_from, loaded) if account.last_entry > 0)
    accounts = {account.account_number: account for account in complete}

    outcomes, entries = decide(transactions, accounts, recorded_from(found))
    if entries:
        _write(connection, [_row(entry, accounts) for entry in entries], batch)
    return outcomes, entries


def _row(entry: Entry, accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Return the columns of an entry by name, and whether it is the last one of its account."""
    is_last = accounts[entry.account.account_number] is entry.account
    return dict(zip(_ENTRY_COLUMN_NAMES, entry_row(entry), strict=True), is_last=is_last)


def _write(connection: Connection, rows: Sequence[dict[str, Any]], batch: UUID) -> None:
    """Write entries, and what the last one of each account makes of it."""
    connection.execute(_WRITE, (json.dumps(rows), batch))
