"""Simulated power cuts: a disk that keeps what was synced, and any part of the rest.

``kill -9`` can't show whether a store syncs what it should, since the system still writes what the process
had written. SQLite lets the files be anybody's (its VFS, https://sqlite.org/vfs.html); Python's own driver
doesn't pass that on, ``apsw`` does. So here the repository's code runs as it is, over a connection of apsw's.
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
    from typing_extensions import Buffer  # Python has it from 3.12 on

_Change: TypeAlias = tuple[int, bytes] | int  # a write is an offset and its bytes, a truncation is a size
_Row: TypeAlias = tuple[object, ...]
_Parameters: TypeAlias = Sequence[str | int | None]

_SECTOR = 512  # bytes that are written whole or not at all
_SYNCS_ITS_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class PowerCut(BaseException):
    """The power has failed. It is no ``Exception``, because no program lives to handle it."""


class _File:
    """One file: what of it is on the disk for certain, and what was done to it since."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.since: list[_Change] = []


class Disk:
    """The files of one folder, as far as they survive when the power fails.

    It fails at one operation: a file made, written, truncated, synced or deleted. Every sector that was
    written and not synced is then there or not, whatever was written before or after it; so is every
    truncation, and every name that was made or deleted since the folder was synced.

    :param chance: decides what survives.
    :param operations: at which of them the power fails, counted from 1.
    """

    def __init__(self, chance: Random, operations: int) -> None:
        self._chance = chance
        self._operations_left = operations
        self._folder: dict[str, _File] = {}
        self._synced_folder: dict[str, _File] = {}
        self.survivors: dict[str, bytes] = {}
        """The files by name, once the power has failed."""

    def open(self, name: str) -> _File:
        """Give a file, which is made unless it is there."""
        if name not in self._folder:
            self._folder[name] = _File()
            self._count_operation()
        return self._folder[name]

    def write(self, file: _File, offset: int, data: bytes) -> None:
        """Write, which may or may not survive until the file is synced."""
        file.since.append((offset, data))
        self._count_operation()

    def truncate(self, file: _File, size: int) -> None:
        """Cut a file's end off, which may or may not survive until the file is synced."""
        file.since.append(size)
        self._count_operation()

    def sync(self, file: _File, *, and_folder: bool) -> None:
        """Make a file's content last, and then perhaps the names in the folder."""
        self._count_operation()
        for change in file.since:
            self._apply(change, file.synced)
        file.since.clear()
        if and_folder:
            self.sync_folder()

    def delete(self, name: str) -> None:
        """Delete a name, which may or may not survive until the folder is synced."""
        del self._folder[name]
        self._count_operation()

    def sync_folder(self) -> None:
        """Make names last that were made or deleted."""
        self._count_operation()
        self._synced_folder = dict(self._folder)

    def _count_operation(self) -> None:
        self._operations_left -= 1
        if self._operations_left == 0:
            self.survivors = self._what_survives()
        if self._operations_left <= 0:
            raise PowerCut

    def _what_survives(self) -> dict[str, bytes]:
        # Also nothing, and everything: by tossing a coin for each sector, hardly a commit would ever survive whole.
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
        # A file may grow before what it grew for is written; until then, anything may stand there.
        content += self._chance.randbytes(max(0, offset - len(content)))
        content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a write at the sectors' borders."""
    borders = range(_SECTOR - offset % _SECTOR, len(data), _SECTOR)
    for start, end in pairwise([0, *borders, len(data)]):
        yield offset + start, data[start:end]


class _RecordedFile(apsw.VFSFile):
    """A file of SQLite's, really there, that tells the simulated disk what is done to it."""

    def __init__(self, disk: Disk, path: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("", path, flags)
        self._disk = disk
        self._file = disk.open(_name(path))
        # As SQLite's own VFS for Unix does: unixSync() in os_unix.c.
        self._folder_is_to_be_synced = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_ITS_FOLDER)

    def xWrite(self, data: "Buffer", offset: int) -> None:  # noqa: N802 - SQLite's names, here and below
        super().xWrite(data, offset)
        self._disk.write(self._file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.truncate(self._file, newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        self._disk.sync(self._file, and_folder=self._folder_is_to_be_synced)
        self._folder_is_to_be_synced = False


class _RecordedFiles(apsw.VFS):
    """All files but the -shm, which SQLite treats as memory: it does not outlive the machine."""

    def __init__(self, disk: Disk) -> None:
        super().__init__("power-cut", base="")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        assert name is not None, "a temporary file, which the disk does not know"
        return _RecordedFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._disk.delete(_name(filename))
        if syncdir:
            self._disk.sync_folder()


def _name(path: str | apsw.URIFilename) -> str:
    return Path(path if isinstance(path, str) else path.filename()).name


class _Cursor:
    """What the repository asks of a ``sqlite3.Cursor``."""

    def __init__(self, rows: Iterable[_Row], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[_Row]:
        return self._rows

    def fetchone(self) -> _Row | None:
        return next(self._rows, None)


class _Connection:
    """As much of ``sqlite3.Connection`` as the repository uses, over a connection of apsw's."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path), vfs="power-cut")
        # It may be built so (SQLITE_DEFAULT_SYNCHRONOUS); the repository has to ask for what it needs.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: _Parameters = ()) -> _Cursor:
        return self.executemany(sql, [parameters])

    def executemany(self, sql: str, rows: Iterable[_Parameters]) -> _Cursor:
        before = self._connection.total_changes()
        # Whole and now: what is left to a cursor's end can't raise.
        found = self._connection.executemany(sql, rows).fetchall()
        return _Cursor(found, self._connection.total_changes() - before)

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@contextmanager
def sqlite_on(disk: Disk) -> Iterator[None]:
    """Let who calls ``sqlite3.connect`` in this block work on the disk, until a ``PowerCut`` is raised.

    SQLite's other errors are apsw's exceptions there, which nobody handles.
    """
    files = _RecordedFiles(disk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda path, **_: _Connection(path))
        try:
            yield
        finally:
            files.unregister()
