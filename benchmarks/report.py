"""Write the figures to RESULTS.md and two charts."""

import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import matplotlib as mpl
from http_load import Answered
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

HERE = Path(__file__).parent
Figures = Mapping[str, Sequence[float | Answered]]

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "mini-atm"  # the same figures produce the same file


CHARTED = {
    store: {connections: f"{store}, {connections} connections" for connections in (1, 8, 32, 128, 512)}
    for store in ("memory", "SQLite", "PostgreSQL")
}
"""The rows of the second chart by store and number of connections."""


class Claim(NamedTuple):
    """A measured row, the row to compare it with or None, and the target for the ratio or for the figure itself."""

    measured: str
    reference: str | None
    target: float | None = None
    at_most: bool = False

    def figure(self, figures: Figures) -> float:
        """Return the median over the rounds of the ratio within each round, or of the figure."""
        return median(self._each(figures))

    def middle_half(self, figures: Figures) -> tuple[float, float]:
        """Return the first and third quartile over the rounds."""
        first, _, third = quantiles(self._each(figures), method="inclusive")
        return first, third

    def _each(self, figures: Figures) -> list[float]:
        measured = _values(figures[self.measured])
        if self.reference is None:
            return measured
        return [a / b for a, b in zip(measured, _values(figures[self.reference]), strict=True)]

    def verdict(self, figures: Figures) -> str:
        """Return whether the target was reached, in words."""
        if self.target is None:
            return "no target"
        reached = self.figure(figures) <= self.target if self.at_most else self.figure(figures) >= self.target
        return "reached" if reached else "**falls short**"


def write(claims: Sequence[Claim], figures: Figures, elsewhere: Mapping[str, tuple[str, int]]) -> None:
    """Write RESULTS.md and the charts, and print the table of ratios.

    :param elsewhere: figures of another program that were not measured here, by the row to show them with.
    """
    ratios = _table(
        ["measured", "compared with", "figure", "half of the rounds", "target", "result"],
        [
            [
                claim.measured,
                claim.reference or "",
                _figure(claim, claim.figure(figures)),
                " to ".join(_figure(claim, each) for each in claim.middle_half(figures)),
                _target(claim),
                claim.verdict(figures),
            ]
            for claim in claims
        ],
    )
    print(ratios)
    absolute = _table(
        ["measured", "median", "minimum", "maximum", "p50, ms", "p99, ms"],
        [[name, *_absolute(values)] for name, values in figures.items()],
    )
    others = _table(
        ["measured here", "a second", "measured elsewhere", "a second"],
        [[name, _absolute(figures[name])[0], other, f"{figure:,}"] for name, (other, figure) in elsewhere.items()],
    )
    (HERE / "RESULTS.md").write_text(
        f"# Results\n\nWritten by `nox -s bench` on {datetime.now(UTC):%Y-%m-%d}. {_machine()}\n\n{_INTRODUCTION}\n"
        f"## Ratios\n\n{ratios}\n\n![ratios](ratios.svg)\n\n"
        f"## Number of connections\n\n![connections](connections.svg)\n\n"
        f"## Absolute figures\n\nOperations a second, unless the row names another unit.\n\n{absolute}\n\n"
        f"## Figures of another ledger\n\n{_ELSEWHERE}\n{others}\n\n" + (HERE / "NOTES.md").read_text()
    )
    _chart_of_ratios(claims, figures)
    _chart_of_connections(figures)


_INTRODUCTION = """\
Compare ratios, not absolute figures, because the machine is small and shared. Every round measured each row
once, with compared rows close together. The next round used the opposite order. A ratio is the median over the
rounds of the ratio within a round. The rows of the connections chart were measured in every other round.
Servers run on one core and the load on another. PostgreSQL uses the remaining time of both cores. Logging of
requests is off on all sides, except in the row that measures its cost. After every run that moved money, the
benchmark checked that the balances matched the responses.
"""


_ELSEWHERE = """\
The figures on the right were **not measured in this run**. They were reported to this project for TigerBeetle's
Python client, on 2 similar cores on another day. They show the order of magnitude only. TigerBeetle replicates
its data and does double-entry accounting. The figures of Mini-ATM are for one SQLite file.
"""


def _machine() -> str:
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("litestar", "msgspec", "uvicorn", "uvloop", "psycopg", "fastapi")
    )
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.python_implementation()} "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}."
    )


def _values(measured: Sequence[float | Answered]) -> list[float]:
    return [each.per_second if isinstance(each, Answered) else each for each in measured]


def _absolute(measured: Sequence[float | Answered]) -> list[str]:
    values = _values(measured)
    digits = 3 if max(values) < 10 else 0
    answered = [each for each in measured if isinstance(each, Answered)]
    latency = [f"{median(getattr(each, name) for each in answered):.1f}" for name in ("p50", "p99") if answered]
    return [f"{figure:,.{digits}f}" for figure in (median(values), min(values), max(values))] + (latency or ["", ""])


def _figure(claim: Claim, figure: float) -> str:
    return f"{figure:.2f}x" if claim.reference else f"{figure:,.0f}"


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    return f"at {'most' if claim.at_most else 'least'} {claim.target:g}{'x' if claim.reference else ''}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---" for _ in heads], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _chart_of_ratios(claims: Sequence[Claim], figures: Figures) -> None:
    """Draw a bar for each ratio with a minimum as its target, and a mark at the target."""
    shown = [claim for claim in claims if claim.reference and claim.target and not claim.at_most][::-1]
    fig, axes = plt.subplots(figsize=(9, 0.45 * len(shown) + 1), layout="constrained")
    ratios = [claim.figure(figures) for claim in shown]
    axes.barh([f"{claim.measured}\ncompared with {claim.reference}" for claim in shown], ratios, color="#4c72b0")
    targets = [claim.target or 0 for claim in shown]
    for row, (ratio, target) in enumerate(zip(ratios, targets, strict=True)):
        axes.text(1.07 * max(ratio, target), row, f"{ratio:.2f}x", va="center", fontsize=8)
    axes.plot(targets, range(len(shown)), "|", color="#c44e52", markersize=14, markeredgewidth=2, label="target")
    axes.set_xscale("log")
    axes.set_xlim(0.25, 1.5 * max(*ratios, *targets))
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xticks([0.5, 1, 2, 5, 10], ["0.5x", "1x", "2x", "5x", "10x"])
    axes.minorticks_off()
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(loc="upper right")
    axes.set_title("Mini-ATM compared with common alternatives (more is better)", fontsize=10)
    _save(fig, "ratios.svg")


def _chart_of_connections(figures: Figures) -> None:
    fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for store, rows in CHARTED.items():
        axes.plot(list(rows), [median(_values(figures[row])) for row in rows.values()], marker="o", label=store)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rows), [str(connections) for connections in rows])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_ylabel("deposits a second")
    axes.legend()
    axes.set_title("HTTP deposits by the number of connections", fontsize=10)
    _save(fig, "connections.svg")


def _save(fig: Figure, name: str) -> None:
    fig.savefig(HERE / name, metadata={"Date": None})
    plt.close(fig)
