"""Progress bars on standard error, if it is a terminal."""

import io
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from atm_adapters.front_ends.cli.output import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_Item = TypeVar("_Item")


def tracked(items: Iterable[_Item], description: str, count: Callable[[], int]) -> Generator[_Item, None, None]:
    """Yield the items, and show how many of them have been processed. The caller must close the generator.

    :param count: returns their number. It is called if there is a terminal.
    """
    if not is_terminal(sys.stderr):
        yield from items
        return
    from rich.progress import TaskProgressColumn, TimeRemainingColumn

    with _bar(TaskProgressColumn(), TimeRemainingColumn()) as progress:
        yield from progress.track(items, count(), description=description)


@contextmanager
def tracked_bytes(file: BinaryIO, description: str) -> Iterator[BinaryIO]:
    """Yield the file, and show how many of its bytes have been read, unless it is a pipe."""
    status = os.fstat(file.fileno())
    if not is_terminal(sys.stderr) or not stat.S_ISREG(status.st_mode):
        yield file
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn

    with _bar(DownloadColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(description, total=status.st_size)
        yield io.BufferedReader(progress.wrap_file(file, task_id=task), 65536)  # type: ignore[type-var]


def above_bar(texts: Iterable[str]) -> Iterable[str]:
    """Yield texts for standard output. On the terminal of a progress bar, each erases the bar, which is drawn again."""
    if is_terminal(sys.stdout) and is_terminal(sys.stderr):
        return (f"\r\x1b[2K{text}" for text in texts)
    return texts


def _bar(*columns: "ProgressColumn") -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
