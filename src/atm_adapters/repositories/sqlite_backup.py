"""A backup gets its name when it is whole and on disk, and never replaces a file unasked."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from atm_adapters.repositories.sqlite_files import SqliteFiles
from atm_adapters.repositories.sqlite_journal import copy_pages
from atm_core.errors import StoreUnavailable
from atm_core.ports import Store

StoreT = TypeVar("StoreT", bound=Store)

_SUFFIXES = ("-wal", "-shm", "-journal")  # of the files that SQLite keeps next to a file in use


@contextmanager
def new_backup(
    connection: sqlite3.Connection, source: str, file: str, open_copy: Callable[[Path], StoreT], *, replace: bool
) -> Iterator[StoreT]:
    """Copy a store, as of one moment, to a file that its owner only can read.

    The block receives the copy, open. It has a temporary name, in a folder of its own next to the file. That folder is
    always deleted.

    :param connection: a connection to the store.
    :param source: the store's file, which is not replaced.
    :param file: the name that the copy gets at the end of the block.
    :param open_copy: opens the copy.
    :param replace: replace an existing file.
    :raises StoreUnavailable: if the file cannot be written, exists and must not be replaced, or may be in use.
    """
    target = Path(os.path.realpath(file))
    if file.endswith("/") or target.name.endswith(_SUFFIXES):
        raise StoreUnavailable(file, "it names a folder, or a file that SQLite keeps next to a store: use another name")
    with _errors_of(target):
        _check(target, source, replace=replace)
        folder = TemporaryDirectory(prefix=".atm-backup-", dir=target.parent)
    with folder:
        aside = Path(folder.name) / target.name
        with _errors_of(target):
            try:
                _copy(connection, aside)
                copy = open_copy(aside)
            except StoreUnavailable as error:
                raise _failed(target, error.reason) from error
        with copy:
            try:
                yield copy
            except StoreUnavailable as error:
                raise _failed(target, f"its copy cannot be read: {error.reason}") from error
        with _errors_of(target):
            _sync(aside)
            _check(target, source, replace=replace)
            _rename(aside, target, replace=replace)
            _sync(target.parent)


@contextmanager
def _errors_of(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(target, error.strerror) from error
    except sqlite3.Error as error:
        raise _failed(target, error) from error


def _copy(connection: sqlite3.Connection, aside: Path) -> None:
    SqliteFiles(str(aside)).create()
    with closing(sqlite3.connect(aside, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")  # an incomplete copy is deleted
        copy.execute("PRAGMA synchronous = OFF")  # it is synced when it is complete
        copy_pages(connection, copy)


def _check(target: Path, source: str, *, replace: bool) -> None:
    if str(target) == os.path.realpath(source):
        raise StoreUnavailable(str(target), "it is the store itself: name another file for the backup")
    if not target.parent.is_dir():
        raise StoreUnavailable(str(target), f"there is no folder {target.parent}")
    if os.path.lexists(target) and not target.is_file():
        what = "a folder" if target.is_dir() else "a device, a pipe or a broken link"
        raise StoreUnavailable(str(target), f"it is {what}: name a file for the backup")
    if not replace and target.exists():
        raise _exists(target)
    for suffix in _SUFFIXES:
        if os.path.lexists(f"{target}{suffix}"):
            # SQLite would apply it to the new file.
            reason = f"there is a file {target}{suffix}, so it may be in use: stop the program that uses it"
            raise StoreUnavailable(str(target), reason)


def _rename(aside: Path, target: Path, *, replace: bool) -> None:
    if replace:
        aside.replace(target)
        return
    try:
        os.link(aside, target)  # unlike a rename, it fails if the name is taken
        aside.unlink()
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:  # a file system without hard links
        if target.exists():
            raise
        aside.rename(target)


def _failed(target: Path, reason: object) -> StoreUnavailable:
    return StoreUnavailable(str(target), f"the backup cannot be written ({reason})")


def _exists(target: Path) -> StoreUnavailable:
    return StoreUnavailable(str(target), "there is a file with that name: name another one, or ask to replace it")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
