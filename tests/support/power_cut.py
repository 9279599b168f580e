"""Simulated power cuts: a disk that keeps synced data, and any subset of the rest.

``kill -9`` cannot show whether a store syncs its data, because the operating system keeps the data that the
process wrote. SQLite accesses files through a replaceable layer, its VFS (https://sqlite.org/vfs.html).
Python's ``sqlite3`` does not expose that layer, but ``apsw`` does. So the repository's code runs unchanged over
a connection of ``apsw``.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import apsw
import pytest

if TYPE_CHECKING:
    from typing_extensions import Buffer  # part of Python since 3.12

_Change: TypeAlias = tuple[int, bytes] | int  # a write is an offset and its bytes, a truncation is a size
_Row: TypeAlias = tuple[object, ...]
_Parameters: TypeAlias = Sequence[str | int | None]

_SECTOR = 512  # bytes that the disk writes atomically
_SYNCS_ITS_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class PowerCut(BaseException):
    """The power has failed. It is not an ``Exception``, so that no handler in the repository catches it."""


class _File:
    """A file: its content when it was last synced, and the changes since then."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.since: list[_Change] = []


class Disk:
    """The files of one folder, and the parts of them that survive a power cut.

    The power fails during an operation: the creation, write, truncation, sync or deletion of a file. Every sector
    that was not synced then survives or not, independent of the order of the writes. The same holds for
    truncations, and for names that were created or deleted since the folder was synced.

    :param chance: decides which changes survive.
    :param operations: the number of the operation during which the power fails, counted from 1.
    """

    def __init__(self, chance: Random, operations: int) -> None:
        self._chance = chance
        self._operations_left = operations
        self._folder: dict[str, _File] = {}
        self._synced_folder: dict[str, _File] = {}
        self.survivors: dict[str, bytes] = {}
        """The contents of the files by name, after the power has failed."""

    def open(self, name: str) -> _File:
        """Return a file, and create it if it does not exist."""
        if name not in self._folder:
            self._folder[name] = _File()
            self._count_operation()
        return self._folder[name]

    def write(self, file: _File, offset: int, data: bytes) -> None:
        """Write to a file. Until the file is synced, the data may be lost."""
        file.since.append((offset, data))
        self._count_operation()

    def truncate(self, file: _File, size: int) -> None:
        """Truncate a file. Until the file is synced, the truncation may be lost."""
        file.since.append(size)
        self._count_operation()

    def sync(self, file: _File, *, and_folder: bool) -> None:
        """Make a file's content durable, and then optionally the names in the folder."""
        self._count_operation()
        for change in file.since:
            self._apply(change, file.synced)
        file.since.clear()
        if and_folder:
            self.sync_folder()

    def delete(self, name: str) -> None:
        """Delete a name. Until the folder is synced, the deletion may be lost."""
        del self._folder[name]
        self._count_operation()

    def sync_folder(self) -> None:
        """Make created and deleted names durable."""
        self._count_operation()
        self._synced_folder = dict(self._folder)

    def _count_operation(self) -> None:
        self._operations_left -= 1
        if self._operations_left == 0:
            self.survivors = self._choose_survivors()
        if self._operations_left <= 0:
            raise PowerCut

    def _choose_survivors(self) -> dict[str, bytes]:
        # Includes 0 and 1, because a commit of many sectors hardly ever survives whole at 0.5.
        luck = self._chance.choice([0.0, 0.5, 0.95, 1.0])

        def survives() -> bool:
            return self._chance.random() < luck

        survivors = {}
        for name in sorted(self._folder | self._synced_folder):
            file = (self._folder if survives() else self._synced_folder).get(name)
            if file is None:
                continue
            content = bytearray(file.synced)
            for change in file.since:
                for part in [change] if isinstance(change, int) else _sectors(*change):
                    if survives():
                        self._apply(part, content)
            survivors[name] = bytes(content)
        return survivors

    def _apply(self, change: _Change, content: bytearray) -> None:
        if isinstance(change, int):
            del content[change:]
            return
        offset, data = change
        # A file may grow before the data is written. Until then the new part may contain anything.
        content += self._chance.randbytes(max(0, offset - len(content)))
        content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a write at sector boundaries."""
    boundaries = range(_SECTOR - offset % _SECTOR, len(data), _SECTOR)
    for start, end in pairwise([0, *boundaries, len(data)]):
        yield offset + start, data[start:end]


class _RecordedFile(apsw.VFSFile):
    """A real file of SQLite that repeats every change on the simulated disk."""

    def __init__(self, disk: Disk, path: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("", path, flags)
        self._disk = disk
        self._file = disk.open(_name(path))
        # The same condition as in SQLite's VFS for Unix: unixSync() in os_unix.c.
        self._must_sync_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_ITS_FOLDER)

    def xWrite(self, data: "Buffer", offset: int) -> None:  # noqa: N802 - SQLite's names, here and below
        super().xWrite(data, offset)
        self._disk.write(self._file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.truncate(self._file, newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        self._disk.sync(self._file, and_folder=self._must_sync_folder)
        self._must_sync_folder = False


class _RecordedFiles(apsw.VFS):
    """Records all files except the -shm file, which is shared memory and need not survive a power cut."""

    def __init__(self, disk: Disk) -> None:
        super().__init__("power-cut", base="")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        assert name is not None, "temporary files are not simulated"
        return _RecordedFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._disk.delete(_name(filename))
        if syncdir:
            self._disk.sync_folder()


def _name(path: str | apsw.URIFilename) -> str:
    return Path(path if isinstance(path, str) else path.filename()).name


class _Cursor:
    """The part of ``sqlite3.Cursor`` that the repository uses."""

    def __init__(self, rows: Iterable[_Row]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[_Row]:
        return self._rows

    def fetchone(self) -> _Row | None:
        return next(self._rows, None)

    def fetchall(self) -> list[_Row]:
        return list(self._rows)


class _Connection:
    """The part of ``sqlite3.Connection`` that the repository uses, over a connection of ``apsw``."""

    def __init__(self, uri: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        self._connection = apsw.Connection(uri, flags, vfs="power-cut")
        # SQLite may be built with this default (SQLITE_DEFAULT_SYNCHRONOUS), so the repository must set its own.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: _Parameters = ()) -> _Cursor:
        return self.executemany(sql, [parameters])

    def executemany(self, sql: str, rows: Iterable[_Parameters]) -> _Cursor:
        # Fetches all rows at once, so that errors are raised here.
        return _Cursor(self._connection.executemany(sql, rows).fetchall())

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@contextmanager
def sqlite_on(disk: Disk) -> Iterator[None]:
    """Let ``sqlite3.connect`` in this block use the disk, until ``PowerCut`` is raised.

    Errors of SQLite are exceptions of ``apsw`` in this block, which the repository does not translate.
    """
    files = _RecordedFiles(disk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda database, **_: _Connection(database))
        try:
            yield
        finally:
            files.unregister()
