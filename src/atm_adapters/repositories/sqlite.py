"""Accounts in a SQLite file: one machine, any number of processes, durable before answered."""

import json
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from os import PathLike
from os.path import isdir
from pathlib import Path
from threading import Lock

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
from atm_core.errors import READ_WHETHER_IT_EXISTS, SEND_AGAIN_UNDER_THE_KEY
from atm_core.money import to_minor_units

_APPLICATION_ID = 0x41544D31  # "ATM1", in the file's header: tells our files from other people's databases
_SCHEMA_VERSION = 1
_OLDEST_SQLITE = (3, 38, 0)  # STRICT tables came with 3.37, json_each without a compile-time option with 3.38

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")  # as PRAGMA synchronous numbers them

# Sums of money are whole cents. STRICT, because otherwise an integer that overflows silently becomes a float.
_SCHEMA = """
CREATE TABLE account (
    account_number TEXT PRIMARY KEY,
    opening        INTEGER NOT NULL,
    balance        INTEGER NOT NULL CHECK (balance BETWEEN -999999999999999 AND 999999999999999)
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


class SqliteAccountRepository:
    """An ``AccountRepository[Account]`` in one SQLite file, safe to share between threads and processes.

    Every transaction is journalled, with its key and the balance it left, in the same commit as the
    new balance. WAL with synchronous=FULL: what was answered survives a power cut
    (https://sqlite.org/pragma.html#pragma_synchronous).

    :param path: the file; made if it does not exist, but its folder is not.
    :param opening_accounts: the accounts that a new file begins with. A file that has been opened
        before is left as it is.
    :param lock_timeout: seconds to wait while another process is writing to the file.
    :raises StoreUnavailable: if the file can't be used, with the path and the reason.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        opening_accounts: Iterable[Account] = (),
        *,
        lock_timeout: float = 10.0,
    ) -> None:
        try:
            self._path = Path(path).absolute()
        except OSError as error:  # the current folder is gone
            raise StoreUnavailable(str(path), f"the current folder can't be read ({error.strerror})") from error
        self._lock_timeout = lock_timeout
        self._write_lock = Lock()
        self._read_lock = Lock()
        self._writer = self._connect()
        try:
            self._prepare(opening_accounts)
            # Readers of a WAL file don't wait for writers, as long as they have a connection of their own.
            self._reader = self._connect()
        except BaseException:
            self._writer.close()
            raise

    def get(self, account_number: str, /) -> Account:
        with self._read_lock, self._errors_named(self._reader):
            row = self._reader.execute(
                "SELECT balance FROM account WHERE account_number = ?", (account_number,)
            ).fetchone()
        if row is None:
            raise AccountNotFound(account_number)
        return account_from(account_number, row[0])

    def add(self, account: Account, /) -> Account:
        with self._commit(advice_if_in_doubt=READ_WHETHER_IT_EXISTS) as connection:
            added = _insert_accounts(connection, [account])
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

        A transaction that is refused moves nothing and leaves the others alone.

        :returns: for each transaction, the account as it then stood, or why it was refused.
        :raises StoreUnavailable: if nothing was committed.
        :raises OutcomeUnknown: if it can't be learnt whether the commit went through.
        """
        with self._commit() as connection:
            accounts = _load_accounts(connection, transactions)
            answered = _load_answered(connection, transactions)
            outcomes, entries = settle(transactions, accounts, answered)
            _write(connection, accounts, entries)
        return outcomes

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        with self._read_lock, self._errors_named(self._reader):
            rows = self._reader.execute(
                "SELECT account_number, balance FROM account WHERE account_number > ? ORDER BY account_number LIMIT ?",
                (after, limit),
            ).fetchall()
        return [account_from(number, balance) for number, balance in rows]

    def count_accounts(self) -> int:
        with self._read_lock, self._errors_named(self._reader):
            (count,) = self._reader.execute("SELECT count(*) FROM account").fetchone()
        return int(count)

    def audit(self) -> Generator[AuditedAccount, None, None]:
        with self._errors_named(), closing(self._connect()) as connection:
            # The index of keys is money too: a key that is missing there would count a second time.
            (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if finding != "ok":
                raise self._unavailable(f"the file is damaged: {finding.splitlines()[-1]}")
            # One statement, so one moment, whoever writes meanwhile. Its price: until it ends, what they write stays
            # in the write-ahead log, which grows.
            yield from audit(connection.execute(BOOKS))

    def durability(self) -> Durability:
        """Ask the connection that writes; this waits while it does."""
        with self._write_lock, self._errors_named():
            (journal_mode,) = self._writer.execute("PRAGMA journal_mode").fetchone()
            synchronous = _SYNCHRONOUS[self._header("synchronous")]
        return Durability(
            "sqlite",
            durable=journal_mode == "wal" and synchronous in ("FULL", "EXTRA"),
            settings={"journal_mode": journal_mode, "synchronous": synchronous},
        )

    def close(self) -> None:
        """Give the file back. What is asked for afterwards is refused with ``StoreUnavailable``."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            oldest = ".".join(map(str, _OLDEST_SQLITE))
            raise self._unavailable(f"it needs SQLite {oldest} or newer, and this Python has {sqlite3.sqlite_version}")
        with self._errors_named():
            try:
                connection = sqlite3.connect(
                    self._path,
                    timeout=self._lock_timeout,
                    isolation_level=None,  # the driver begins nothing on its own
                    check_same_thread=False,  # the locks above see to it
                )
            except ValueError as error:  # a null character or a lone surrogate
                raise self._unavailable(f"it can't be a path ({error})") from error
            try:
                self._check_files()
                # FULL is SQLite's default, but a distribution may have built it with another.
                connection.execute("PRAGMA synchronous = FULL")
                # A commit writes every page it touches, so small pages are for accounts spread over a large file;
                # and a page that several commits touched is copied into the file once, if that is done seldom.
                connection.execute("PRAGMA page_size = 1024")
                connection.execute("PRAGMA wal_autocheckpoint = 16000")
            except BaseException:
                connection.close()
                raise
            return connection

    def _check_files(self) -> None:
        """Refuse what SQLite would open."""
        if os.access(self._path, os.F_OK) and not os.access(self._path, os.W_OK):
            # The connection could read at best, and never write, not even once the file may be written again.
            raise self._unavailable("it may not be written")
        log = Path(f"{os.path.realpath(self._path)}-wal")
        # In this order, since who makes a store makes the log last.
        if _size(log) > 0 and _size(self._path) == 0:
            # SQLite would throw away the log, with what was answered, and begin anew.
            raise self._unavailable(
                f"it is missing or empty, but its log {log} is not: restore it, or move the log away"
            )

    def _prepare(self, opening_accounts: Iterable[Account]) -> None:
        with self._errors_named():
            is_new = self._is_new()
            if not is_new:
                self._check_version()
            self._switch_to_wal()
        if is_new:
            with self._commit() as connection:
                if self._is_new():  # under the lock now: another process may have been quicker
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                    _insert_accounts(connection, opening_accounts)

    def _is_new(self) -> bool:
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return tables == 0 and self._header("application_id") == 0

    def _check_version(self) -> None:
        if self._header("application_id") != _APPLICATION_ID:
            raise self._unavailable("it is a SQLite database, but not one of Mini-ATM's")
        if (version := self._header("user_version")) != _SCHEMA_VERSION:
            raise self._unavailable(
                f"its tables are of version {version}, and this release of Mini-ATM reads version {_SCHEMA_VERSION}"
            )

    def _header(self, pragma: str) -> int:
        (number,) = self._writer.execute(f"PRAGMA {pragma}").fetchone()
        return int(number)

    def _switch_to_wal(self) -> None:
        (mode,) = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._unavailable(
                f"its journal mode is {mode} and can't be made WAL, which this file system may not allow"
            )

    @contextmanager
    def _commit(self, advice_if_in_doubt: str = SEND_AGAIN_UNDER_THE_KEY) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of the block, on disk when it ends, or nothing of it."""
        with self._write_lock, self._errors_named(self._writer):
            connection = self._writer
            # IMMEDIATE takes the write lock before anything is read, so nobody can write in between.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.rollback()
                if _code(error) == sqlite3.SQLITE_IOERR:
                    # It may have been the fsync that failed: the commit can be on disk, or not.
                    raise OutcomeUnknown(str(self._path), str(error), advice_if_in_doubt) from error
                raise

    @contextmanager
    def _errors_named(self, connection: sqlite3.Connection | None = None) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if connection is not None and _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                # Forgets the pages that were read, so that the file can be restored beneath a server that runs.
                connection.execute("PRAGMA shrink_memory")
            raise self._unavailable(self._reason(error)) from error

    def _reason(self, error: sqlite3.Error) -> str:
        """Say what is wrong with the file in the user's terms, where SQLite only knows its own."""
        code = _code(error)
        if code == sqlite3.SQLITE_CANTOPEN:
            # os.path's isdir() answers whatever the path; Path's raises if it is too long, or may not be looked at.
            if not isdir(self._path.parent):  # noqa: PTH112
                return f"there is no folder {self._path.parent}"
            if isdir(self._path):  # noqa: PTH112
                return "it is a folder, not a file"
        if code == sqlite3.SQLITE_BUSY:
            return f"another process kept it locked for {self._lock_timeout:g} seconds"
        return str(error)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(str(self._path), reason)


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; misuse found by Python's driver itself has none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _insert_accounts(connection: sqlite3.Connection, accounts: Iterable[Account]) -> int:
    rows = [(account.number, cents, cents) for account in accounts for cents in [to_minor_units(account.balance)]]
    return connection.executemany(
        "INSERT INTO account (account_number, opening, balance) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
    ).rowcount


def _load_accounts(connection: sqlite3.Connection, transactions: Iterable[Transaction]) -> dict[str, Account]:
    numbers = json.dumps(list({transaction.account_number for transaction in transactions}))
    rows = connection.execute(
        "SELECT account_number, balance FROM json_each(?) JOIN account ON account_number = value",
        (numbers,),
    )
    return {number: account_from(number, balance) for number, balance in rows}


def _load_answered(connection: sqlite3.Connection, transactions: Iterable[Transaction]) -> dict[tuple[str, str], Entry]:
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    if not keys:
        return {}
    rows = connection.execute(
        "SELECT account_number, journal.key, kind, amount, balance FROM json_each(?) AS asked"
        " JOIN journal ON account_number = asked.value ->> 0 AND journal.key = asked.value ->> 1",
        (json.dumps(keys),),
    )
    return answered_from(rows)


def _write(connection: sqlite3.Connection, accounts: dict[str, Account], entries: list[Entry]) -> None:
    if not entries:
        return
    changed = {transaction.account_number for transaction, _ in entries}
    connection.executemany(
        "UPDATE account SET balance = ? WHERE account_number = ?",
        [(to_minor_units(accounts[number].balance), number) for number in changed],
    )
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    connection.executemany(
        "INSERT INTO journal (account_number, kind, amount, key, balance, recorded_at) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                transaction.account_number,
                transaction.kind,
                to_minor_units(transaction.amount),
                transaction.key,
                to_minor_units(account.balance),
                now,
            )
            for transaction, account in entries
        ],
    )
