"""The files of a SQLite store: SQLite does not notice when one is moved, deleted or replaced while it is in use."""

import os
import time
from typing import Final

from atm_core.errors import StoreUnavailable

_CHECK_INTERVAL: Final = 0.1  # seconds, because each look at a file costs 2 to 4 % of a commit


class SqliteFiles:
    """A store's file, its log, and the log's index, known by device and inode.

    :param file: the absolute path of the file. The others are named after it, beside the file that a link leads to.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._log, self._shm = (f"{os.path.realpath(file)}{suffix}" for suffix in ("-wal", "-shm"))
        self._in_use: dict[str, tuple[int, int] | None] = {}
        self._next_check = 0.0

    def check_openable(self) -> None:
        """Check for files that SQLite would open, but with a loss.

        :raises StoreUnavailable: if it is a folder, read-only, missing although its log exists, or has a second name.
        """
        if os.path.isdir(self._file):  # noqa: PTH112 - Path.is_dir() raises for long or unreadable paths
            raise StoreUnavailable(self._file, "it is a folder, not a file")
        if os.access(self._file, os.F_OK) and not os.access(self._file, os.W_OK):
            # The connection would stay read-only, even after the file became writable again.
            raise StoreUnavailable(self._file, "the file is not writable")
        # In this order, because the log of a new store is created last.
        log, file = _stat(self._log), _stat(self._file)
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
