"""Accounts in a SQLite file: one machine, any number of processes, durable before answered."""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from atm_adapters.repositories.ownership import ProcessGuard
from atm_adapters.repositories.sql_rows import DamagedRow, account_from, entry_from
from atm_adapters.repositories.sqlite_backup import new_backup
from atm_adapters.repositories.sqlite_files import SqliteFiles
from atm_adapters.repositories.sqlite_journal import audit_copy, private_copy, read_entries, write_entries
from atm_adapters.repositories.sqlite_rows import (
    SELECT_ACCOUNT,
    SELECT_ACCOUNTS_AFTER,
    SELECT_ENTRIES,
    SELECT_LAST_ENTRY,
    execute_batch,
)
from atm_adapters.repositories.sqlite_schema import (
    VERSION,
    check_version,
    migrate,
    read_pragma,
    read_version,
    write_version,
)
from atm_core import Account, AuditedAccount, Entry, Opening, Transaction
from atm_core.errors import (
    AccountNotFound,
    AtmError,
    OutcomeUnknown,
    StoreNotEmpty,
    StoreNotInitialized,
    StoreUnavailable,
)
from atm_core.ports import AuditableStore, BatchRepository, Durability, Page

T = TypeVar("T")

_OLDEST_SQLITE = (3, 38, 0)  # STRICT tables need 3.37, built-in JSON functions 3.38

_MAX_LOG_BYTES = 32 * 1024 * 1024
_PROBE_SECONDS = 1.0  # the shortest time between two writes of durability(), because each of them costs a sync

_ENTRIES_AT_ONCE = 1000  # of an account whose journal is exported
_IMPORT_AGAIN = (
    "It is not known whether the journal was imported. Import it again: if it was imported, the store is refused "
    "because it is not empty."
)

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")  # by their numbers in PRAGMA synchronous


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

    :param path: the file. It may have no second name (hard link), because its log belongs to a name.
    :param initial_accounts: the accounts of a new file, which is created if it does not exist, readable by its owner
        only. Its folder must exist. An existing file with an older schema is upgraded. None means that the file must
        exist with the schema of this release.
    :param lock_timeout: seconds to wait while another process writes to the file.
    :raises StoreNotInitialized: if the file does not exist, is empty, or has an older schema, and there are no initial
        accounts.
    :raises StoreUnavailable: if the file cannot be used.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        initial_accounts: Iterable[Account] | None = None,
        *,
        lock_timeout: float = 10.0,
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
        if initial_accounts is not None:
            self._files.create()
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
        accounts = self._read(SELECT_ACCOUNT, (account_number,), account_from)
        if not accounts:
            raise AccountNotFound(account_number)
        return accounts[0]

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        with self._commit() as connection:
            outcomes = execute_batch(connection, transactions)
        return outcomes  # noqa: RET504 - for a type checker, the block could end without a result

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        rows = self._read(SELECT_LAST_ENTRY, (account_number,), tuple)
        if not rows:
            raise AccountNotFound(account_number)
        # Entries and their links never change, so the two statements read a page of the same moment.
        ((last_entry, last_id),) = rows
        if after is None:
            newest = last_entry if before is None else min(last_entry, before - 1)
            oldest = max(1, newest - limit + 1)
        else:
            oldest = after + 1
            newest = min(last_entry, after + limit)
        where = {"account_number": account_number, "oldest": oldest, "newest": newest}
        entries = self._read(SELECT_ENTRIES, where | {"last_entry": last_entry, "last_id": last_id}, entry_from)
        if len(entries) != max(0, newest - oldest + 1):
            reason = f"it is damaged: the links between entries of account {account_number} are wrong. See atm verify"
            raise self._unavailable(reason)
        if after is None:
            return Page(entries, has_more=oldest > 1)
        return Page(entries[::-1], has_more=newest < last_entry)

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        return self._read(SELECT_ACCOUNTS_AFTER, (after, limit), account_from)

    def count_accounts(self) -> int:
        ((count,),) = self._read("SELECT count(*) FROM account", (), tuple)
        return int(count)

    def audit(self) -> Generator[AuditedAccount, None, None]:
        with self._private_copy() as copy:
            # The index of keys matters as well: a key that is missing there would be applied a second time.
            (finding,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            if finding != "ok":
                raise self._unavailable(f"the file is damaged: {finding.splitlines()[-1]}")
            yield from audit_copy(copy)

    def count_entries(self) -> int:
        ((count,),) = self._read("SELECT count(*) FROM entry", (), tuple)
        return int(count)

    def export_entries(self, account_number: str | None = None, /) -> Generator[Entry, None, None]:
        if account_number is None:
            with self._private_copy() as copy:
                yield from read_entries(copy)
            return
        last_entry = self.get(account_number).last_entry
        for after in range(0, last_entry, _ENTRIES_AT_ONCE):
            limit = min(_ENTRIES_AT_ONCE, last_entry - after)
            yield from self.history(account_number, before=None, after=after, limit=limit).entries

    def import_entries(self, entries: Iterable[Entry], /) -> None:
        try:
            with self._commit() as connection:
                if connection.execute("SELECT 1 FROM account UNION ALL SELECT 1 FROM entry LIMIT 1").fetchone():
                    raise StoreNotEmpty(self._file)
                write_entries(connection, entries)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.store, error.reason, _IMPORT_AGAIN) from error

    def durability(self) -> Durability:
        """Write to the file, at most once a second, and read the settings of the connection that writes.

        :raises StoreUnavailable: if a deposit would fail, for example because the disk is full.
        """
        probe = time.monotonic() >= self._next_probe
        try:
            with self._commit() as connection:
                self._files.check()
                (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
                synchronous = _SYNCHRONOUS[read_pragma(connection, "synchronous")]
                if probe:  # writes the file's first page, although its content stays the same
                    write_version(connection)
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
        self._files.check()
        with self._translate_errors():
            self._files.check_openable()
            # Before SQLite looks, because another process may create the file between its failure and a later check.
            self._files.check_exists()
            connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw",  # does not create the file
                uri=True,
                timeout=self._lock_timeout,
                isolation_level=None,  # the driver begins no transactions
                check_same_thread=False,  # the locks guard the connections
            )
            try:
                # FULL is SQLite's default, but distributions can change it.
                connection.execute("PRAGMA synchronous = FULL")
                # A commit writes whole pages, so small pages suit accounts that are spread over a large file. Rare
                # checkpoints copy a page once for several commits that changed it.
                connection.execute("PRAGMA page_size = 1024")
                connection.execute("PRAGMA wal_autocheckpoint = 16000")
                # Ordinarily the log has half of this. It grows while the file is copied, for example.
                connection.execute(f"PRAGMA journal_size_limit = {_MAX_LOG_BYTES}")
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def back_up(self, file: str, /, *, replace: bool = False) -> Generator[AuditableStore, None, None]:
        with (
            self._translate_errors(),
            closing(self._connect()) as connection,
            new_backup(connection, self._file, file, SqliteAccountRepository, replace=replace) as copy,
        ):
            yield copy

    @contextmanager
    def _private_copy(self) -> Iterator[sqlite3.Connection]:
        with self._translate_errors(), private_copy(self._connect(), self._file) as copy:
            yield copy

    def _prepare(self, initial_accounts: Iterable[Account] | None) -> None:
        with self._translate_errors():
            version = read_version(self._writer, self._file)
            if version != VERSION and initial_accounts is None:
                reason = f"its schema has version {version}, older than {VERSION}" if version else "the file is empty"
                raise StoreNotInitialized(self._file, reason, version)
            self._switch_to_wal()
        if version != VERSION:
            with self._commit() as connection:
                # Read again under the lock, because another process may have created or upgraded the file.
                version = read_version(connection, self._file)
                migrate(connection, version)
                if version == 0:
                    execute_batch(connection, [Opening.of(account) for account in initial_accounts or ()])

    def _switch_to_wal(self) -> None:
        (mode,) = self._writer.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

            # SQLite does not wait for the lock here, and several processes may open the file at the same time.
            retrying = Retrying(
                retry=retry_if_exception(lambda error: _code(error) == sqlite3.SQLITE_BUSY),
                stop=stop_after_delay(self._lock_timeout),
                wait=wait_random(0.01, 0.05),
                reraise=True,
            )
            (mode,) = retrying(self._writer.execute, "PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._unavailable(f"its journal mode is {mode}, and the file system may not support WAL")
        read_pragma(self._writer, "user_version")  # the first read in this mode creates the log and its index

    def _read(
        self, query: str, parameters: Sequence[object] | Mapping[str, object], convert: Callable[[tuple[Any, ...]], T]
    ) -> list[T]:
        self._process.check()
        with self._read_lock, self._translate_errors(self._reader):
            rows = self._reader.execute(query, parameters).fetchall()
            self._files.check_if_due()
            return [convert(row) for row in rows]

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
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
                    check_version(connection, self._file)
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
                    raise OutcomeUnknown(self._file, str(error)) from error
                raise
            if self._is_prepared and (lost := self._files.find_lost_file()):  # moved before or after the commit
                raise OutcomeUnknown(self._file, lost)

    @contextmanager
    def _translate_errors(self, connection: sqlite3.Connection | None = None) -> Iterator[None]:
        try:
            yield
        except DamagedRow as error:
            raise self._unavailable(str(error)) from error
        except sqlite3.Error as error:
            if connection is not None and _code(error) is not None:
                # Drops the cached pages, so that the file can be restored while a server runs.
                connection.execute("PRAGMA shrink_memory")
            raise self._unavailable(self._reason(error)) from error

    def _reason(self, error: sqlite3.Error) -> str:
        """Return what is wrong with the file, in the user's words where SQLite has none."""
        code = _code(error)
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) and not self._files.has_writable_folder():
            return "its folder is not writable, but its log must stand beside it"
        if code == sqlite3.SQLITE_BUSY:
            return f"another process kept it locked for {self._lock_timeout:g} seconds"
        return str(error)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(self._file, reason)


def _code(error: BaseException) -> int | None:
    """Return SQLite's primary result code, or None for another error, such as one of Python's driver."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
