"""The length and the time limit of the reliability tests, and the table of their results."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support.evidence import Record, Rounds

FULL_TIMEOUT = 600  # seconds for one test of a full run, instead of the limit in pyproject.toml


class Row(NamedTuple):
    """A row of the table."""

    promise: str
    test: str
    counts: str
    failures: str


_ROW = "row of the reliability table"  # a property of a report, because pytest-xdist passes reports on


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Allow the tests of this folder more time in a full run."""
    if config.getoption("--full"):
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.timeout(FULL_TIMEOUT))


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> Rounds:
    """Choose the length of a test by the kind of run."""
    return lambda short, full: full if pytestconfig.getoption("--full") else short


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Record a row of the table that is printed at the end."""

    def record(promise: str, test: str, counts: dict[str, int], /, **failures: int) -> None:
        counted = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        failed = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in failures.items())
        record_property(_ROW, (promise, test, counted, failed))
        assert not any(failures.values()), f"{promise}: {failed}, after {counted}"

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of a full run in Markdown, for docs/guarantees.md."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    recorded = [Row(*value) for report in reports for name, value in report.user_properties if name == _ROW]
    rows = [Row("promise", "test", "counts", "failures"), *sorted(recorded)]
    if not config.getoption("--full") or len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, Row(*("-" * width for width in widths)))
    terminalreporter.section("reliability")
    for row in rows:
        cells = " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(f"| {cells} |")
