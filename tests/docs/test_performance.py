"""What the documentation says about speed is what was measured."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the results."""
    section = RESULTS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]


def test_the_readme_quotes_the_ratios_of_the_rows_that_it_speaks_of() -> None:
    spoken_of = [
        ("HTTP GET, memory", "HTTP GET, FastAPI, floats in a dict"),
        ("HTTP POST, memory", "HTTP POST, FastAPI, floats in a dict"),
        ("HTTP POST, SQLite", "HTTP POST, FastAPI, floats in a dict"),
        ("HTTP POST, PostgreSQL, one account", "HTTP POST, FastAPI, floats in a dict"),
        ("SQLite, 32 callers on an event loop", "bare sqlite3, 1 with each commit"),
        ("SQLite, 128 callers on an event loop", "bare sqlite3, 1 with each commit"),
        ("PostgreSQL, one account, 32 callers", "pgbench, one account, 32 clients"),
    ]
    ratios = {(measured, beside): figure for measured, beside, figure, *_ in rows("Ratios")}
    quoted = re.findall(r"\d+\.\d\dx", (ROOT / "README.md").read_text())
    assert quoted == [ratios[row] for row in spoken_of]


def test_scaling_quotes_the_medians_of_the_rows_that_it_speaks_of() -> None:
    spoken_of = [
        ("SQLite, 32 callers on an event loop", "SQLite, 128 callers on an event loop"),
        ("SQLite, 32 threads",),
        ("PostgreSQL, one account, 32 callers",),
        ("PostgreSQL, 1,000 accounts, 32 callers", "PostgreSQL, 1,000 accounts, 128 callers"),
        ("HTTP POST, PostgreSQL, one account", "PostgreSQL, 128 connections"),
    ]
    medians = {measured: median for measured, median, *_ in rows("Absolute figures")}
    page = (ROOT / "docs/scaling.md").read_text()
    table = page.partition("| deposits a second |")[2].partition("\n\n")[0]
    quoted = [tuple(re.findall(r"\| ([\d,]+)(?= \|)", line)) for line in table.splitlines()[2:]]
    assert quoted == [tuple(medians[row] for row in line) for line in spoken_of]
