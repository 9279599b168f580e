"""Accounts in a SQLite file: one machine, any number of processes, durable before answered."""

import json
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from os import PathLike
from os.path import isdir
from pathlib import Path
from threading import Lock
from typing import Any

from atm_adapters.repositories.ownership import ProcessGuard
from atm_adapters.repositories.sql_rows import JOURNAL_ROWS, MAX_CENTS, account_from, recorded_from, unsupported_version
from atm_adapters.repositories.sqlite_files import SqliteFiles
from atm_core import Account, AuditedAccount, Entry, Transaction, audit, decide
from atm_core.errors import AccountAlreadyExists, AccountNotFound, AtmError, OutcomeUnknown, StoreUnavailable
from atm_core.money import to_minor_units
from atm_core.ports import BatchRepository, Durability

_APPLICATION_ID = 0x41544D31  # "ATM1" in the file's header marks our files
_SCHEMA_VERSION = 1
_OLDEST_SQLITE = (3, 38, 0)  # STRICT tables need 3.37, built-in JSON functions 3.38

_MAX_LOG_BYTES = 32 * 1024 * 1024
_PROBE_SECONDS = 1.0  # the shortest time between two writes of durability(), because each of them costs a sync

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")  # by their numbers in PRAGMA synchronous

# Sums are in cents. STRICT, because in other tables an integer that overflows silently becomes a float.
_SCHEMA = f"""
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


class SqliteAccountRepository(BatchRepository):
    """An ``AccountRepository[Account]`` in one SQLite file, safe to share between threads and processes.

    Each commit writes the new balance together with the journal entry, which holds the key and the balance
    after it. The file is in WAL mode with synchronous=FULL, so answered transactions survive a power cut
    (https://sqlite.org/pragma.html#pragma_synchronous).

    SQLite does not notice when a file is moved, deleted or replaced while it is in use, and writes to the old one.
    So each commit ends with a look at device and inode: if the file's name does not lead to the file in use, the
    outcome is an ``OutcomeUnknown``, and the next calls raise ``StoreUnavailable`` until the file is back. A call
    compares all files if the last comparison is 0.1 seconds old. For so long, a read may return what a replaced file
    held. Of the log, calls check only that it exists. ``durability`` compares it.

    :param path: the file. It is created if it does not exist, but its folder is not. It may have no second name
        (hard link), because its log belongs to a name.
    :param initial_accounts: the accounts of a new file. An existing file is not changed.
    :param lock_timeout: seconds to wait while another process writes to the file.
    :raises StoreUnavailable: if the file cannot be used.
    """

    def __init__(
        self, path: str | PathLike[str], initial_accounts: Iterable[Account] = (), *, lock_timeout: float = 10.0
    ) -> None:
        try:
            self._path = Path(path).absolute()
        except OSError as error:  # the current folder was deleted
            raise StoreUnavailable(str(path), f"the current folder cannot be read ({error.strerror})") from error
        self._file = str(self._path)
        self._lock_timeout = lock_timeout
        self._process = ProcessGuard(self._file)
        self._write_lock = Lock()
        self._read_lock = Lock()
        self._next_probe = time.monotonic()
        self._files = SqliteFiles(self._file)
        self._is_prepared = False
        self._writer = self._connect()
        try:
            self._files.remember_file()
            self._prepare(initial_accounts)
            self._files.remember_log()
            self._is_prepared = True
            # A reader with its own connection does not wait for the writer, because the file is in WAL mode.
            self._reader = self._connect()
        except BaseException:
            self._writer.close()
            raise

    def get(self, account_number: str, /) -> Account:
        rows = self._read("SELECT balance FROM account WHERE account_number = ?", account_number)
        if not rows:
            raise AccountNotFound(account_number)
        return account_from(account_number, rows[0][0])

    def add(self, account: Account, /) -> Account:
        with self._commit(advice=OutcomeUnknown.OF_OPENING) as connection:
            added = _insert_accounts(connection, [account])
        if not added:
            raise AccountAlreadyExists(account.account_number)
        return account

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        with self._commit() as connection:
            accounts = _load_accounts(connection, transactions)
            recorded = _load_recorded(connection, transactions)
            outcomes, entries = decide(transactions, accounts, recorded)
            _write(connection, accounts, entries)
        return outcomes

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        query = "SELECT account_number, balance FROM account WHERE account_number > ? ORDER BY account_number LIMIT ?"
        rows = self._read(query, after, limit)
        return [account_from(number, balance) for number, balance in rows]

    def count_accounts(self) -> int:
        ((count,),) = self._read("SELECT count(*) FROM account")
        return int(count)

    def audit(self) -> Generator[AuditedAccount, None, None]:
        with self._translate_errors(), closing(self._connect()) as connection:
            # The index of keys matters as well: a key that is missing there would be applied a second time.
            (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if finding != "ok":
                raise self._unavailable(f"the file is damaged: {finding.splitlines()[-1]}")
            # One statement reads one moment. Until it ends, concurrent writes stay in the write-ahead log, which grows.
            yield from audit(connection.execute(JOURNAL_ROWS))

    def durability(self) -> Durability:
        """Write to the file, at most once a second, and read the settings of the connection that writes.

        :raises StoreUnavailable: if a deposit would fail, for example because the disk is full.
        """
        probe = time.monotonic() >= self._next_probe
        try:
            with self._commit() as connection:
                self._files.check()
                (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
                synchronous = _SYNCHRONOUS[self._header("synchronous")]
                if probe:  # writes the file's first page, although its content stays the same
                    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        except OutcomeUnknown as error:  # no money moves, so the advice would mislead
            raise self._unavailable(error.reason) from error
        if probe:
            self._next_probe = time.monotonic() + _PROBE_SECONDS
        return Durability(
            "sqlite",
            durable=journal_mode == "wal" and synchronous in ("FULL", "EXTRA"),
            settings={"journal_mode": journal_mode, "synchronous": synchronous},
        )

    def close(self) -> None:
        """Close the file. Further calls raise ``StoreUnavailable``."""
        self._process.check()
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        self._process.check()
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            oldest = ".".join(map(str, _OLDEST_SQLITE))
            raise self._unavailable(f"it needs SQLite {oldest} or newer, and this Python has {sqlite3.sqlite_version}")
        self._files.check()  # first, because SQLite would create a file that was moved away
        with self._translate_errors():
            try:
                connection = sqlite3.connect(
                    self._path,
                    timeout=self._lock_timeout,
                    isolation_level=None,  # the driver begins no transactions
                    check_same_thread=False,  # the locks guard the connections
                )
            except ValueError as error:  # a null character or a lone surrogate
                raise self._unavailable(f"it is not a valid path ({error})") from error
            try:
                self._files.check_openable()
                # FULL is SQLite's default, but distributions can change it.
                connection.execute("PRAGMA synchronous = FULL")
                # A commit writes whole pages, so small pages suit accounts that are spread over a large file. Rare
                # checkpoints copy a page once for several commits that changed it.
                connection.execute("PRAGMA page_size = 1024")
                connection.execute("PRAGMA wal_autocheckpoint = 16000")
                # Ordinarily the log has half of this. It grows while a long read is under way, such as that of audit().
                connection.execute(f"PRAGMA journal_size_limit = {_MAX_LOG_BYTES}")
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, initial_accounts: Iterable[Account]) -> None:
        with self._translate_errors():
            is_new = self._is_new()
            if not is_new:
                if self._header("application_id") != _APPLICATION_ID:
                    raise self._unavailable("it is a SQLite database of another application")
                self._check_version()
            self._switch_to_wal()
        if is_new:
            with self._commit() as connection:
                if self._is_new():  # checked again under the lock, because another process may have created it
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                    _insert_accounts(connection, initial_accounts)

    def _is_new(self) -> bool:
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return tables == 0 and self._header("application_id") == 0

    def _check_version(self) -> None:
        if (version := self._header("user_version")) != _SCHEMA_VERSION:
            raise self._unavailable(unsupported_version(version, _SCHEMA_VERSION))

    def _header(self, pragma: str) -> int:
        (number,) = self._writer.execute(f"PRAGMA {pragma}").fetchone()
        return int(number)

    def _switch_to_wal(self) -> None:
        (mode,) = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._unavailable(f"its journal mode is {mode}, and the file system may not support WAL")
        self._header("user_version")  # the first read in this mode creates the log and its index

    def _read(self, query: str, *parameters: object) -> list[Any]:
        self._process.check()
        with self._read_lock, self._translate_errors(self._reader):
            rows = self._reader.execute(query, parameters).fetchall()
            self._files.check_if_due()
        return rows

    @contextmanager
    def _commit(self, advice: str = OutcomeUnknown.OF_TRANSACTION) -> Iterator[sqlite3.Connection]:
        """Run the block in one write transaction, which is on disk when the block ends."""
        self._process.check()
        with self._write_lock, self._translate_errors(self._writer):
            connection = self._writer
            try:
                # IMMEDIATE takes the write lock before the first read, so no other process can write in between.
                # Ctrl-C while it waits is raised when it has taken the lock, so it must stand in the try.
                connection.execute("BEGIN IMMEDIATE")
                if self._is_prepared:
                    self._files.check_if_due()
                    self._check_version()
                yield connection
            except BaseException:
                connection.rollback()
                connection.execute("PRAGMA shrink_memory")  # a damaged first page may have shown a wrong version
                raise
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.rollback()
                if _code(error) == sqlite3.SQLITE_IOERR:
                    # If the fsync failed, the commit may or may not be on disk.
                    raise OutcomeUnknown(self._file, str(error), advice) from error
                raise
            if self._is_prepared and (lost := self._files.find_lost_file()):  # moved before or after the commit
                raise OutcomeUnknown(self._file, lost, advice)

    @contextmanager
    def _translate_errors(self, connection: sqlite3.Connection | None = None) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if connection is not None and _code(error) is not None:
                # Drops the cached pages, so that the file can be restored while a server runs.
                connection.execute("PRAGMA shrink_memory")
            raise self._unavailable(self._reason(error)) from error

    def _reason(self, error: sqlite3.Error) -> str:
        """Return what is wrong with the file, in the user's words where SQLite has none."""
        code = _code(error)
        if code == sqlite3.SQLITE_CANTOPEN:
            # os.path.isdir() never raises. Path.is_dir() does for long or unreadable paths.
            if not isdir(self._path.parent):  # noqa: PTH112
                return f"there is no folder {self._path.parent}"
            if isdir(self._path):  # noqa: PTH112
                return "it is a folder, not a file"
        if code == sqlite3.SQLITE_BUSY:
            return f"another process kept it locked for {self._lock_timeout:g} seconds"
        return str(error)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(self._file, reason)


def _code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code, or None for an error of Python's driver."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _insert_accounts(connection: sqlite3.Connection, accounts: Iterable[Account]) -> int:
    rows = [
        (account.account_number, cents, cents) for account in accounts for cents in [to_minor_units(account.balance)]
    ]
    return connection.executemany(
        "INSERT INTO account (account_number, opening, balance) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
    ).rowcount


def _load_accounts(connection: sqlite3.Connection, transactions: Iterable[Transaction]) -> dict[str, Account]:
    numbers = json.dumps(list({transaction.account_number for transaction in transactions}))
    rows = connection.execute(
        "SELECT account_number, balance FROM json_each(?) JOIN account ON account_number = value", (numbers,)
    )
    return {number: account_from(number, balance) for number, balance in rows}


def _load_recorded(connection: sqlite3.Connection, transactions: Iterable[Transaction]) -> dict[tuple[str, str], Entry]:
    keys = [(transaction.account_number, transaction.key) for transaction in transactions if transaction.key]
    if not keys:
        return {}
    rows = connection.execute(
        "SELECT account_number, journal.key, kind, amount, balance FROM json_each(?) AS keys"
        " JOIN journal ON account_number = keys.value ->> 0 AND journal.key = keys.value ->> 1",
        (json.dumps(keys),),
    )
    return recorded_from(rows)


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
