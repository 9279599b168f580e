"""Output of a check: progress on standard error while it runs, then a table or JSON."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import msgspec
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.conformance.http_api.run import Outcome, Report, Result

_encoder = msgspec.json.Encoder(decimal_format="number")
_STYLES: Final[dict[Outcome, str]] = {"passed": "green", "failed": "bold red", "not supported": "yellow"}


@contextmanager
def running() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Show a progress bar if standard error is a terminal, and yield the two callbacks for :func:`check_api`."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(CHECKS))
        completed = count()

        def say(text: str) -> None:
            console.print(text, soft_wrap=not console.is_terminal)  # programs read a log line by line

        def step(name: str) -> None:
            progress.update(bar, completed=next(completed), description=name)

        yield say, step


def as_table(report: Report) -> str:
    """Return the report as a table and a line of totals, in the width and colors of standard output."""
    table = Table("Outcome", "Check", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for result in report.checks:
        table.add_row(Text(result.outcome, _STYLES[result.outcome]), _with_details(result))
    totals = f"{report.passed} passed, {report.failed} failed, {report.not_supported} not supported."
    console = Console()
    with console.capture() as capture:
        console.print(table)
        console.print(totals, highlight=False)
    return capture.get().rstrip("\n")


def to_json(report: Report) -> str:
    """Return the report as one JSON object, with balances as exact numbers."""
    return _encoder.encode(report).decode()


def _with_details(result: Result) -> Group:
    """Return the name of a check, and its details below it."""
    details = Table.grid(padding=(0, 2, 0, 0))
    details.add_column(no_wrap=True)
    details.add_column(overflow="fold")
    for label in ("sent", "received", "expected", "reason"):
        if text := getattr(result, label):
            details.add_row(label, Text(text))
    return Group(Text(result.name), Padding(details, (0, 0, 0, 2)))
