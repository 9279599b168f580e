"""How often the promises are tried, and the table of what came of it."""

from typing import NamedTuple

import pytest
from support.evidence import Often, Record


class Line(NamedTuple):
    """One line of the table."""

    promise: str
    tried_by: str
    how_often: str
    broken: str


_TABLE = pytest.StashKey[list[Line]]()


@pytest.fixture
def often(pytestconfig: pytest.Config) -> Often:
    """Choose how often: ``often(in_the_ordinary_tests, in_a_full_run)``."""
    return lambda ordinarily, in_full: in_full if pytestconfig.getoption("--full") else ordinarily


@pytest.fixture
def record(pytestconfig: pytest.Config) -> Record:
    """Take a line for the table that is printed at the end."""

    def record(promise: str, tried_by: str, how_often: dict[str, int], /, **broken: int) -> None:
        counted = ", ".join(f"{count:,} {what}" for what, count in how_often.items())
        outcome = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in broken.items())
        pytestconfig.stash.setdefault(_TABLE, []).append(Line(promise, tried_by, counted, outcome))
        assert not any(broken.values()), f"{promise}: {outcome}, after {counted}"

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, in Markdown, so that it can go into docs/guarantees.md as it is."""
    lines = [Line("promise", "tried by", "how often", "broken"), *config.stash.get(_TABLE, [])]
    if not config.getoption("--full") or len(lines) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, Line(*("-" * width for width in widths)))
    terminalreporter.section("reliability")
    for line in lines:
        cells = " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line(f"| {cells} |")
