"""Accounts in PostgreSQL: several machines, durable before answered, and through a failover.

The SQL keeps to what PostgreSQL shares with the engines that speak its protocol. Two things look
elaborate, and are there so that no outcome is ever guessed:

- Entries of an account's journal are numbered, and each names the batch that wrote it. So when the
  connection is lost during COMMIT, one look at one entry tells whether the batch is in.
- That look is taken with the account's row written to: the lost transaction, should it still be alive
  on the server, has then ended one way or the other.
"""

import random
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import count
from threading import Lock
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg_pool import ConnectionPool

from atm_adapters.capabilities import Durability
from atm_adapters.sql_rows import BOOKS, account_from, answered_from
from atm_core import (
    Account,
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    AuditedAccount,
    Entry,
    OutcomeUnknown,
    StoreUnavailable,
    Transaction,
    audit,
    settle,
)
from atm_core.errors import READ_WHETHER_IT_EXISTS
from atm_core.money import to_minor_units

T = TypeVar("T")
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Row: TypeAlias = tuple[str, int, str, int, str | None, int]

_SCHEMA_VERSION = 1

# Sums of money are whole cents. Journals are keyed by account, so that accounts can be sharded.
_SCHEMA = """
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

CREATE TABLE mini_atm (schema_version BIGINT NOT NULL)
"""

# Of everything libpq knows, only what would let a dead server hold a caller for minutes; the URL's word wins.
_LIBPQ_DEFAULTS: Final = {
    "connect_timeout": "5",
    "target_session_attrs": "read-write",  # of several hosts, a standby would give stale answers
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_MAX_CONNECTIONS = 8
_LONGEST_PAUSE = 0.5

# Locked in order of account number, so that two batches never wait for each other.
_LOCK_ACCOUNTS = """
SELECT account_number, balance, last_entry FROM account
WHERE account_number = ANY(%s) ORDER BY account_number FOR UPDATE
"""
_ONLY_BRIEFLY = "SET LOCAL lock_timeout = '100ms'"
_FIND_ANSWERED = """
SELECT account_number, key, kind, amount, balance FROM journal
JOIN unnest(%s::text[], %s::text[]) AS asked (account_number, key) USING (account_number, key)
"""
# One statement, because each that is sent costs both sides something.
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


class _InDoubt(Exception):
    """The connection was lost when COMMIT may have been sent: what was decided, and where the journal would have it."""

    def __init__(self, outcomes: list[Account | AtmError], batch: UUID, account_number: str, entry: int) -> None:
        super().__init__(batch)
        self.outcomes = outcomes
        self.batch = batch
        self.account_number = account_number
        self.entry = entry


class _Outage:
    """When the database was away, so that all who ask meanwhile share one patience."""

    def __init__(self) -> None:
        self._began = self._last_noticed = float("-inf")

    def notice(self) -> None:
        """The database was just found away."""
        now = time.monotonic()
        if now - self._last_noticed > 2 * _LONGEST_PAUSE:
            self._began = now
        self._last_noticed = now

    def is_over(self) -> None:
        """The database has just answered."""
        self._last_noticed = float("-inf")

    def give_up_at(self, patience: float) -> float:
        """Until when a call that comes now should go on trying."""
        now = time.monotonic()
        return (self._began if now - self._last_noticed <= 2 * _LONGEST_PAUSE else now) + patience


class PostgresAccountRepository:
    """An ``AccountRepository[Account]`` in PostgreSQL, safe to share between threads, processes and machines.

    :param url: what libpq takes as a connection URL, with several hosts, ``target_session_attrs``,
        TLS and service files as PostgreSQL's manual says (section "Connection Strings").
    :param name: what errors call the store; it should not hold the password.
    :param opening_accounts: the accounts that a new database begins with. One that was opened before
        is left as it is.
    :param patience: seconds to go on trying while the database is away, before calls give up.
    :raises StoreUnavailable: if the database can't be used, with the reason.
    """

    def __init__(
        self, url: str, opening_accounts: Iterable[Account] = (), *, name: str = "PostgreSQL", patience: float = 5.0
    ) -> None:
        self._name = name
        self._patience = patience
        self._outage = _Outage()
        self._in_use: set[Connection] = set()
        self._in_use_lock = Lock()
        with self._errors_named():
            try:
                given = conninfo_to_dict(url)
            except psycopg.ProgrammingError:  # whose words may hold a piece of the password
                raise StoreUnavailable(name, "libpq does not understand this URL") from None
            missing = {option: value for option, value in _LIBPQ_DEFAULTS.items() if option not in given}
            self._conninfo = make_conninfo(url, **missing)
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                self._prepare(connection, opening_accounts)
        self._pool = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=_MAX_CONNECTIONS,
            kwargs={"autocommit": True},
            configure=_configure,
            # A pool that gave up tries again at once when it is next asked, so let it give up soon.
            reconnect_timeout=1.0,
            open=True,
        )

    def get(self, account_number: str, /) -> Account:
        row = self._patiently(
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
            with _warnings_raised(connection), connection.transaction():
                _insert_accounts(connection, [account], batch)
                # Is it ours, perhaps by a commit whose answer was lost? To lock the row is logged, so this commit
                # waits for a synchronous standby whoever wrote it.
                row = connection.execute(
                    "SELECT batch FROM account WHERE account_number = %s FOR UPDATE", (account.number,)
                ).fetchone()
                in_doubt = True  # now comes COMMIT, and should it fail, it may have been sent
            return row == (batch,)

        try:
            added = self._patiently(insert)
        except StoreUnavailable as error:
            if in_doubt:
                raise OutcomeUnknown(self._name, error.reason, READ_WHETHER_IT_EXISTS) from error
            raise
        if not added:
            raise AccountAlreadyExists(account.number)
        return account

    def execute(self, transaction: Transaction, /) -> Account:
        (outcome,) = self.execute_batch([transaction])
        if isinstance(outcome, AtmError):
            raise outcome
        return outcome

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        """Carry out transactions in their order, with one commit for all of them.

        A transaction that is refused moves nothing and leaves the others alone. What the database
        could not serialize is tried again; what was cut off during COMMIT is looked up.

        :returns: for each transaction, the account as it then stood, or why it was refused or failed alone,
            because somebody else keeps its account locked.
        :raises StoreUnavailable: if nothing was committed.
        :raises OutcomeUnknown: if it can't be learnt whether the commit went through.
        """
        if not transactions:
            return []
        try:
            return self._carry_out(transactions)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable):
                raise
            by_account: dict[str, list[int]] = {}
            for position, transaction in enumerate(transactions):
                by_account.setdefault(transaction.account_number, []).append(position)
            if len(by_account) == 1:
                raise

        # One account that somebody keeps locked must not fail the others, so each now has a commit of its own.
        outcomes: dict[int, Account | AtmError] = {}
        for positions in by_account.values():
            alone = [transactions[position] for position in positions]
            try:
                outcomes.update(zip(positions, self._carry_out(alone, wait_for_locks=False), strict=True))
            except (StoreUnavailable, OutcomeUnknown) as error:
                outcomes.update((position, copy(error)) for position in positions)
        return [outcome for _, outcome in sorted(outcomes.items())]

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        rows = self._patiently(
            lambda connection: connection.execute(
                "SELECT account_number, balance FROM account"
                " WHERE account_number > %s ORDER BY account_number LIMIT %s",
                (after, limit),
            ).fetchall()
        )
        return [account_from(number, balance) for number, balance in rows]

    def count_accounts(self) -> int:
        (count,) = self._patiently(lambda connection: connection.execute("SELECT count(*) FROM account").fetchall())[0]
        return int(count)

    def audit(self) -> Generator[AuditedAccount, None, None]:
        # One statement, so one moment, whoever writes meanwhile. Its price: until it ends, vacuum has to keep what they
        # replace. A named cursor leaves the rows with the server, and is handed some thousands at a time.
        with (
            self._errors_named(),
            psycopg.connect(self._conninfo) as connection,
            connection.cursor("books") as books,
        ):
            books.itersize = 2000
            yield from audit(books.execute(BOOKS))

    def durability(self) -> Durability:
        """Ask one of the connections that the transactions use, whose settings are not all the database's."""
        settings: dict[str, str] = dict(self._patiently(lambda connection: connection.execute(_DURABILITY).fetchall()))
        # full_page_writes is told and not judged: some file systems do without.
        is_off = "off" in (settings.get("fsync"), settings.get("synchronous_commit"))
        return Durability("postgresql", durable=not is_off, settings=settings)

    def close(self) -> None:
        """Give the connections back. What is asked for afterwards is refused with ``StoreUnavailable``.

        What is still under way is cut off, and ends with what can be said of it.
        """
        self._pool.close()
        with self._in_use_lock:
            for connection in self._in_use:
                _cut_off(connection)

    def _prepare(self, connection: Connection, opening_accounts: Iterable[Account]) -> None:
        """Make the tables, unless they are there, and check their version."""
        try:
            try:
                version = _schema_version(connection)
            except errors.UndefinedTable:
                with connection.transaction():
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute("INSERT INTO mini_atm (schema_version) VALUES (%s)", (_SCHEMA_VERSION,))
                    _insert_accounts(connection, opening_accounts, uuid4())
                return
        except (errors.DuplicateTable, errors.UniqueViolation):  # another process was quicker
            try:
                version = _schema_version(connection)
            except errors.UndefinedTable:
                raise StoreUnavailable(self._name, "it has tables account or journal that are not Mini-ATM's") from None
        if version != _SCHEMA_VERSION:
            raise StoreUnavailable(
                self._name,
                f"its tables are of version {version}, and this release of Mini-ATM reads version {_SCHEMA_VERSION}",
            )

    def _carry_out(
        self, transactions: Sequence[Transaction], *, wait_for_locks: bool = True
    ) -> list[Account | AtmError]:
        give_up_at = self._outage.give_up_at(self._patience)
        while True:
            try:
                return self._patiently(
                    lambda connection: _carry_out(connection, transactions, wait_for_locks=wait_for_locks), give_up_at
                )
            except _InDoubt as doubt:
                if self._was_committed(doubt):
                    return doubt.outcomes
                if time.monotonic() >= give_up_at:
                    raise StoreUnavailable(self._name, "it lost the connection during the commit") from doubt
                # It was not committed and never will be, so the same transactions may be tried again.

    def _was_committed(self, doubt: _InDoubt) -> bool:
        """Look up what became of a commit.

        :raises OutcomeUnknown: if the database does not come back in time to be asked.
        """

        def look(connection: Connection) -> bool:
            with _warnings_raised(connection), connection.transaction():
                # The lost transaction keeps this row locked for as long as it lives. And since this one writes to it,
                # its own COMMIT waits for a synchronous standby, which then has the other one too.
                connection.execute(
                    "UPDATE account SET last_entry = last_entry WHERE account_number = %s", (doubt.account_number,)
                )
                row = connection.execute(
                    "SELECT batch FROM journal WHERE account_number = %s AND entry = %s",
                    (doubt.account_number, doubt.entry),
                ).fetchone()
            return row == (doubt.batch,)

        try:
            return self._patiently(look)
        except StoreUnavailable as error:
            raise OutcomeUnknown(self._name, error.reason) from error

    def _patiently(self, work: Callable[[Connection], T], give_up_at: float | None = None) -> T:
        """Do something that may be done again, and do it again while the database is away or asks for it."""
        if give_up_at is None:
            give_up_at = self._outage.give_up_at(self._patience)
        for attempt in count(1):
            with self._errors_named():
                try:
                    with self._connection(give_up_at) as connection:
                        result = work(connection)
                    self._outage.is_over()
                    return result
                except (errors.SerializationFailure, errors.DeadlockDetected):
                    if time.monotonic() >= give_up_at:
                        raise
                except errors.LockNotAvailable:
                    raise
                except (psycopg.OperationalError, errors.ReadOnlySqlTransaction):
                    self._outage.notice()
                    if self._pool.closed or time.monotonic() >= give_up_at:
                        raise
            time.sleep(_pause(attempt))
        raise AssertionError  # count() has no end

    @contextmanager
    def _connection(self, give_up_at: float) -> Iterator[Connection]:
        # Asked for again and again, because a pool that gave up starts anew only when it is asked.
        timeout = min(_LONGEST_PAUSE, max(0.01, give_up_at - time.monotonic()))
        # Not the pool's own context manager: that one commits on the way out, and raises if it can't,
        # which would hide what was answered already.
        connection = self._pool.getconn(timeout)
        with self._in_use_lock:
            self._in_use.add(connection)
            if self._pool.closed:
                _cut_off(connection)
        try:
            yield connection
        except errors.ReadOnlySqlTransaction:  # a former primary: the pool shall find the present one
            connection.close()
            raise
        finally:
            with self._in_use_lock:
                self._in_use.remove(connection)
            self._pool.putconn(connection)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as error:
            raise StoreUnavailable(self._name, "somebody else keeps the account locked") from error
        except (psycopg.Error, UnicodeError) as error:
            raise StoreUnavailable(self._name, _reason(error)) from error


def _carry_out(
    connection: Connection, transactions: Sequence[Transaction], *, wait_for_locks: bool
) -> list[Account | AtmError]:
    """Carry out a batch in one database transaction and two round trips: load, decide, write and commit.

    :raises psycopg.Error: if nothing was committed.
    :raises _InDoubt: if that can't be told.
    """
    numbers = list({transaction.account_number for transaction in transactions})
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    batch = uuid4()
    rows: list[_Row] = []
    try:
        # What a repeated answer rests on is waited for as well: to lock a row is logged, so that a COMMIT which writes
        # nothing still waits for a synchronous standby.
        with _warnings_raised(connection), connection.pipeline():
            connection.execute("BEGIN")
            if not wait_for_locks:
                connection.execute(_ONLY_BRIEFLY)
            loaded = connection.execute(_LOCK_ACCOUNTS, (numbers,))
            known: Iterable[tuple[Any, ...]] = ()
            if keys:
                known = connection.execute(_FIND_ANSWERED, ([number for number, _ in keys], [key for _, key in keys]))
            accounts: dict[str, Account] = {}
            last_entry: dict[str, int] = {}
            for number, balance, entry in loaded:
                accounts[number] = account_from(number, balance)
                last_entry[number] = entry
            answered = answered_from(known)

            outcomes, entries = settle(transactions, accounts, answered)
            rows = _rows(entries, last_entry)
            if rows:
                changed = list({number for number, *_ in rows})
                balances = [to_minor_units(accounts[number].balance) for number in changed]
                entries_so_far = [last_entry[number] for number in changed]
                columns = map(list, zip(*rows, strict=True))
                connection.execute(_WRITE, (changed, balances, entries_so_far, batch, *columns))
            connection.execute("COMMIT")  # whose answer is awaited at the end of the pipeline
    except psycopg.Error as error:
        if rows and _is_in_doubt(error):
            raise _InDoubt(outcomes, batch, *rows[-1][:2]) from error
        raise
    return outcomes


def _rows(entries: Iterable[Entry], last_entry: dict[str, int]) -> list[_Row]:
    """The journal's rows for these entries, numbered within their accounts from the last number on."""
    rows: list[_Row] = []
    for transaction, account in entries:
        last_entry[account.number] += 1
        rows.append(
            (
                account.number,
                last_entry[account.number],
                transaction.kind,
                to_minor_units(transaction.amount),
                transaction.key,
                to_minor_units(account.balance),
            )
        )
    return rows


def _configure(connection: Connection) -> None:
    """Set what the promises need and the database's own settings leave out; stricter settings stay."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.execute("SELECT set_config('lock_timeout', '5s', false) WHERE current_setting('lock_timeout') = '0'")
    connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', '10s', false)"
        " WHERE current_setting('idle_in_transaction_session_timeout') = '0'"
    )
    # A COMMIT that times out while it waits for a synchronous standby says that it succeeded.
    connection.execute("SELECT set_config('statement_timeout', '0', false)")


def _schema_version(connection: Connection) -> int | None:
    row = connection.execute("SELECT schema_version FROM mini_atm").fetchone()
    return row[0] if row else None


def _insert_accounts(connection: Connection, accounts: Iterable[Account], batch: UUID) -> None:
    rows = [
        (account.number, cents, cents, batch) for account in accounts for cents in [to_minor_units(account.balance)]
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO account (account_number, opening, balance, last_entry, batch) VALUES (%s, %s, %s, 0, %s)"
            " ON CONFLICT DO NOTHING",
            rows,
        )


@contextmanager
def _warnings_raised(connection: Connection) -> Iterator[None]:
    """Fail where the database only warns: a COMMIT whose wait for a synchronous standby was cut short is no success."""
    warnings: list[str | None] = []

    def note(notice: Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary)

    connection.add_notice_handler(note)
    try:
        yield
    finally:
        connection.remove_notice_handler(note)
    if warnings:
        raise psycopg.OperationalError(f"the database warned: {warnings[0]}")


def _cut_off(connection: Connection) -> None:
    """End whatever a connection waits for, in whichever thread."""
    with suppress(psycopg.Error, OSError):  # it has ended by itself
        own = socket.socket(fileno=connection.fileno())
        try:
            own.shutdown(socket.SHUT_RDWR)
        finally:
            own.detach()  # the file descriptor stays the connection's


def _pause(attempt: int) -> float:
    """Seconds to wait after a failed attempt: longer each time, and never the same for two who met."""
    return random.uniform(0, min(_LONGEST_PAUSE, 0.002 * 2 ** min(attempt, 10)))  # noqa: S311 - jitter is no secret


def _is_in_doubt(error: psycopg.Error) -> bool:
    """Say whether a commit may have gone through: the database did not live to say, or says that it doesn't know."""
    # Only an ERROR leaves a server that goes on and knows. Beside a FATAL, the commit may have been answered already.
    return error.sqlstate == "40003" or error.diag.severity_nonlocalized != "ERROR"


def _reason(error: Exception) -> str:
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split()).rstrip(".")
