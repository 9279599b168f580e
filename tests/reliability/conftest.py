"""How often the promises are tried, and the table of what came of it."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from support.evidence import Often, Record


class Line(NamedTuple):
    """One line of the table."""

    promise: str
    tried_by: str
    how_often: str
    broken: str


_LINE = "line of the reliability table"  # the name of a property, which reports carry from whichever process


@pytest.fixture
def often(pytestconfig: pytest.Config) -> Often:
    """Choose how often: ``often(in_the_ordinary_tests, in_a_full_run)``."""
    return lambda ordinarily, in_full: in_full if pytestconfig.getoption("--full") else ordinarily


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Take a line for the table that is printed at the end."""

    def record(promise: str, tried_by: str, how_often: dict[str, int], /, **broken: int) -> None:
        counted = ", ".join(f"{count:,} {what}" for what, count in how_often.items())
        outcome = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in broken.items())
        record_property(_LINE, (promise, tried_by, counted, outcome))
        assert not any(broken.values()), f"{promise}: {outcome}, after {counted}"

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, in Markdown, so that it can go into docs/guarantees.md as it is."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    recorded = [Line(*value) for report in reports for name, value in report.user_properties if name == _LINE]
    lines = [Line("promise", "tried by", "how often", "broken"), *sorted(recorded)]
    if not config.getoption("--full") or len(lines) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, Line(*("-" * width for width in widths)))
    terminalreporter.section("reliability")
    for line in lines:
        cells = " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line(f"| {cells} |")
