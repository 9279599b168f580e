"""The files of a SQLite store: SQLite does not notice when one is moved, deleted or replaced while it is in use."""

import os
import time
from stat import S_ISDIR, S_ISREG
from typing import Final

from atm_core.errors import StoreNotInitialized, StoreUnavailable

_CHECK_INTERVAL: Final = 0.1  # seconds, because each look at a file costs 2 to 4 % of a commit


class SqliteFiles:
    """A store's file, its log, and the log's index, known by device and inode.

    :param file: the absolute path of the file. The others are named after it, beside the file that a link leads to.
    :raises StoreUnavailable: if it is not a valid path.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        try:
            self._log, self._shm = (f"{os.path.realpath(file)}{suffix}" for suffix in ("-wal", "-shm"))
        except ValueError as error:  # a null character or a lone surrogate
            raise StoreUnavailable(file, f"it is not a valid path ({error})") from error
        self._in_use: dict[str, tuple[int, int] | None] = {}
        self._next_check = 0.0

    def check_openable(self) -> None:
        """Check for files that SQLite would open, but with a loss.

        :raises StoreUnavailable: if it is no file or read-only, missing although its log exists, or has a second name.
        """
        # In this order, because the log of a new store is created last.
        log, file = _stat(self._log), _stat(self._file)
        if file and not S_ISREG(file.st_mode):
            what = "a folder" if S_ISDIR(file.st_mode) else "a device or pipe"
            raise StoreUnavailable(self._file, f"it is {what}, not a file")
        if file and not os.access(self._file, os.W_OK):
            # The connection would stay read-only, even after the file became writable again.
            raise StoreUnavailable(self._file, "the file is not writable: use a user who may write to it")
        if log and log.st_size > 0 and (file is None or file.st_size == 0):
            # SQLite would delete the log with answered transactions and create a new store.
            raise StoreUnavailable(
                self._file,
                f"the file is missing or empty, but its log {self._log} is not: restore the file, or move the log away",
            )
        if file and file.st_nlink > 1:
            # Processes that open it by different names would each write a log of their own.
            reason = "the file has several names (hard links): delete all but one, or use a copy"
            raise StoreUnavailable(self._file, reason)

    def create(self) -> None:
        """Create the file unless it exists, empty, readable and writable by its owner only.

        SQLite gives its log the same permissions.

        :raises StoreUnavailable: if it cannot be created.
        """
        self.check_openable()
        try:
            descriptor = os.open(os.path.realpath(self._file), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return
        except OSError as error:
            reason = self._missing_folder() or f"the file cannot be created ({error.strerror})"
            raise StoreUnavailable(self._file, reason) from error
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)

    def check_exists(self) -> None:
        """Check that the file exists.

        :raises StoreNotInitialized: if it does not.
        :raises StoreUnavailable: if its folder cannot be searched.
        """
        try:
            os.stat(self._file)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreNotInitialized(self._file, self._missing_folder() or "there is no such file", 0) from error
        except OSError as error:
            raise StoreUnavailable(self._file, f"the file cannot be opened ({error.strerror})") from error

    def has_writable_folder(self) -> bool:
        """Return whether the log can be created."""
        return os.access(os.path.dirname(self._log), os.W_OK)  # noqa: PTH120

    def _missing_folder(self) -> str | None:
        folder = os.path.dirname(self._file)  # noqa: PTH120
        return None if os.path.isdir(folder) else f"there is no folder {folder}"  # noqa: PTH112

    def remember_file(self) -> None:
        """Take the file for the one in use."""
        self._in_use[self._file] = _identity(self._file)

    def remember_log(self) -> None:
        """Take the log and its index for the ones in use."""
        for name in (self._log, self._shm):
            self._in_use[name] = _identity(name)

    def check(self) -> None:
        """Check that all files which are remembered are those in use.

        :raises StoreUnavailable: if one was moved, deleted or replaced.
        """
        self._next_check = 0.0
        self._compare(*self._in_use)

    def check_if_due(self) -> None:
        """Check a tenth of a second after the last check that passed. Of the log, check only that it exists.

        :raises StoreUnavailable: if a file was moved, deleted or replaced.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._compare(self._file, self._shm)
        # Not the log's inode: since Linux 6.13, os.stat() makes the next sync of a file half as long again.
        if not os.access(self._log, os.F_OK):
            raise StoreUnavailable(self._file, _lost(self._log))
        self._next_check = now + _CHECK_INTERVAL

    def find_lost_file(self) -> str | None:
        """Return what happened to the file, or None if its name still leads to the one in use."""
        if _identity(self._file) == self._in_use[self._file]:
            return None
        self._next_check = 0.0
        return _lost(self._file)

    def _compare(self, *names: str) -> None:
        for name in names:
            if _identity(name) != self._in_use[name]:
                raise StoreUnavailable(self._file, _lost(name))


def _lost(name: str) -> str:
    return (
        f"{name} was moved, deleted or replaced while in use: put it back, or stop every program that uses"
        " the store, and move its -wal and -shm files away before the next start"
    )


def _stat(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)  # noqa: PTH116 - faster than Path.stat(), and each commit needs it
    except OSError:
        return None


def _identity(name: str) -> tuple[int, int] | None:
    """Return the device and inode that a name refers to, or None if there is no such file."""
    stat = _stat(name)
    return stat and (stat.st_dev, stat.st_ino)
