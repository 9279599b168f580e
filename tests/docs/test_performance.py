"""The figures in the documentation are those that were measured."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text()
NOTES = (ROOT / "benchmarks/NOTES.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]


def test_readme_quotes_measured_ratios() -> None:
    # The figures with the default log come first, because they are what users get.
    rates = {server: (get, post) for server, get, post in rows(NOTES, "Default logging and metrics")}
    theirs = rates["FastAPI, floats in a dict, uvicorn's access log"]
    with_log = [
        f"{number(mine) / number(other):.2f}x"
        for row in ("Mini-ATM, default log, metrics extra", "Mini-ATM, default log")
        for mine, other in zip(rates[row], theirs, strict=True)
    ]
    quoted_rows = [
        ("HTTP GET, memory", "HTTP GET, FastAPI, floats in a dict"),
        ("HTTP POST, memory", "HTTP POST, FastAPI, floats in a dict"),
        ("HTTP POST, SQLite", "HTTP POST, FastAPI, floats in a dict"),
        ("HTTP POST, PostgreSQL, one account", "HTTP POST, FastAPI, floats in a dict"),
        ("SQLite, 32 callers on an event loop", "bare sqlite3, 1 with each commit"),
        ("SQLite, 128 callers on an event loop", "bare sqlite3, 1 with each commit"),
        ("PostgreSQL, one account, 32 callers", "pgbench, one account, 32 clients"),
    ]
    ratios = {(measured, beside): figure for measured, beside, figure, *_ in rows(RESULTS, "Ratios")}
    quoted = re.findall(r"\d+\.\d\dx", (ROOT / "README.md").read_text())
    assert quoted == with_log + [ratios[row] for row in quoted_rows]


def number(cell: str) -> int:
    """Return the number in a cell such as ``10,065``."""
    return int(cell.replace(",", ""))


def test_scaling_page_quotes_measured_medians() -> None:
    quoted_rows = [
        ("SQLite, 32 callers on an event loop", "SQLite, 128 callers on an event loop"),
        ("SQLite, 32 threads",),
        ("PostgreSQL, one account, 32 callers",),
        ("PostgreSQL, 1,000 accounts, 32 callers", "PostgreSQL, 1,000 accounts, 128 callers"),
        ("HTTP POST, PostgreSQL, one account", "PostgreSQL, 128 connections"),
    ]
    medians = {measured: median for measured, median, *_ in rows(RESULTS, "Absolute figures")}
    page = (ROOT / "docs/scaling.md").read_text()
    table = page.partition("| deposits a second |")[2].partition("\n\n")[0]
    quoted = [tuple(re.findall(r"\| ([\d,]+)(?= \|)", line)) for line in table.splitlines()[2:]]
    assert quoted == [tuple(medians[row] for row in line) for line in quoted_rows]
