"""How a check is shown: progress on standard error while it runs, and what came of it as a table or as JSON."""

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

from atm_adapters.api_check.checks import CHECKS
from atm_adapters.api_check.run import Outcome, Report, Result

_encoder = msgspec.json.Encoder(decimal_format="number")
_STYLES: Final[dict[Outcome, str]] = {"passed": "green", "failed": "bold red", "not supported": "yellow"}


@contextmanager
def running() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Show a progress bar if standard error is a terminal, and give what :func:`check_api` is to call."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(CHECKS))
        done = count()

        def say(text: str) -> None:
            console.print(text, soft_wrap=not console.is_terminal)  # lines in a log are for programs too

        def step(name: str) -> None:
            progress.update(bar, completed=next(done), description=name)

        yield say, step


def as_table(report: Report) -> str:
    """The report as a table, as wide and as colourful as standard output takes it, and a line that counts."""
    table = Table("Outcome", "What was checked", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for result in report.checks:
        table.add_row(Text(result.outcome, _STYLES[result.outcome]), _with_details(result))
    console = Console()
    with console.capture() as capture:
        console.print(table)
        console.print(
            f"{report.passed} passed, {report.failed} failed, {report.not_supported} not supported.", highlight=False
        )
    return capture.get().rstrip("\n")


def to_json(report: Report) -> str:
    """The report as one JSON object, with balances as exact numbers."""
    return _encoder.encode(report).decode()


def _with_details(result: Result) -> Group:
    """The name of a check, and below it what there is to say about it."""
    details = Table.grid(padding=(0, 2, 0, 0))
    details.add_column(no_wrap=True)
    details.add_column(overflow="fold")
    for label, text in [
        ("sent", result.sent),
        ("came back", result.received),
        ("expected", result.expected),
        ("why", result.reason),
    ]:
        if text is not None:
            details.add_row(label, Text(text))
    return Group(Text(result.name), Padding(details, (0, 0, 0, 2)))
