"""From figures to RESULTS.md and two charts."""

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
mpl.rcParams["svg.hashsalt"] = "mini-atm"  # the same figures make the same file


CHARTED = {
    store: {connections: f"{store}, {connections} connections" for connections in (1, 8, 32, 128, 512)}
    for store in ("memory", "SQLite", "PostgreSQL")
}
"""By store and number of connections, what the second chart shows."""


class Claim(NamedTuple):
    """What was measured, beside what (None: by itself), and what the ratio, or the figure itself, should be."""

    measured: str
    beside: str | None
    target: float | None = None
    at_most: bool = False

    def figure(self, figures: Figures) -> float:
        """The median over the rounds of the ratio within each round, or of the figure."""
        return median(self._each(figures))

    def middle_half(self, figures: Figures) -> tuple[float, float]:
        """Between what half of the rounds were."""
        first, _, third = quantiles(self._each(figures), method="inclusive")
        return first, third

    def _each(self, figures: Figures) -> list[float]:
        mine = _values(figures[self.measured])
        if self.beside is None:
            return mine
        return [a / b for a, b in zip(mine, _values(figures[self.beside]), strict=True)]

    def verdict(self, figures: Figures) -> str:
        """Whether the target was reached."""
        if self.target is None:
            return "what it costs"
        reached = self.figure(figures) <= self.target if self.at_most else self.figure(figures) >= self.target
        return "reached" if reached else "**falls short**"


def write(claims: Sequence[Claim], figures: Figures, elsewhere: Mapping[str, tuple[str, int]]) -> None:
    """Write RESULTS.md and the charts, and print the table of ratios.

    :param elsewhere: by what was measured here, what others' figure to show beside it, which was not measured here.
    """
    ratios = _table(
        ["measured", "beside", "figure", "half of the rounds", "target", ""],
        [
            [
                claim.measured,
                claim.beside or "",
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
        ["measured", "median", "least", "most", "p50, ms", "p99, ms"],
        [[name, *_absolute(values)] for name, values in figures.items()],
    )
    others = _table(
        ["measured here", "a second", "measured elsewhere", "a second"],
        [[name, _absolute(figures[name])[0], other, f"{figure:,}"] for name, (other, figure) in elsewhere.items()],
    )
    (HERE / "RESULTS.md").write_text(
        f"# Results\n\nWritten by `nox -s bench` on {datetime.now(UTC):%Y-%m-%d}. {_machine()}\n\n{_INTRODUCTION}\n"
        f"## Ratios\n\n{ratios}\n\n![ratios](ratios.svg)\n\n"
        f"## By the number of connections\n\n![connections](connections.svg)\n\n"
        f"## Absolute figures\n\nA second, unless the row says otherwise.\n\n{absolute}\n\n"
        f"## Beside a ledger that was not measured here\n\n{_ELSEWHERE}\n{others}\n\n" + (HERE / "NOTES.md").read_text()
    )
    _chart_of_ratios(claims, figures)
    _chart_of_connections(figures)


_INTRODUCTION = """\
Take ratios from this page, not figures: the machine is small and shared. In every round everything was
measured once, in turn, what is compared close together and in the opposite order the next time; a ratio is
the median over the rounds of what was measured in the same round. (The chart's rows had every other round.)
Servers run on one core, the load on another; PostgreSQL, which needs one too, takes what they leave.
Per-request logging is off on all sides, except in the row that says what it costs. Every run that moved
money was followed by a look at the balances, which had to be what the answers said.
"""


_ELSEWHERE = """\
The figures on the right were **not measured in this run**: they are of TigerBeetle's Python client, as this
project was told them when it began, from 2 cores like these on another day. Read them for their order of
magnitude. TigerBeetle replicates, and does double entry; Mini-ATM's figures are of one SQLite file.
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
    return f"{figure:.2f}x" if claim.beside else f"{figure:,.0f}"


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    return f"at {'most' if claim.at_most else 'least'} {claim.target:g}{'x' if claim.beside else ''}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---" for _ in heads], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _chart_of_ratios(claims: Sequence[Claim], figures: Figures) -> None:
    """Bars of the ratios whose target is a minimum, each with a mark at its target."""
    shown = [claim for claim in claims if claim.beside and claim.target and not claim.at_most][::-1]
    fig, axes = plt.subplots(figsize=(9, 0.45 * len(shown) + 1), layout="constrained")
    ratios = [claim.figure(figures) for claim in shown]
    axes.barh([f"{claim.measured}\nbeside {claim.beside}" for claim in shown], ratios, color="#4c72b0")
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
    axes.set_title("Mini-ATM beside what people would pick instead (more is better)", fontsize=10)
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
