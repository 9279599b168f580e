"""What the README says about speed is what was measured."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_ratio_in_the_readme_is_one_of_the_benchmark_s_results() -> None:
    quoted = re.findall(r"\d+\.\d\dx", (ROOT / "README.md").read_text())
    measured = re.findall(r"\| (\d+\.\d\dx) \|", (ROOT / "benchmarks/RESULTS.md").read_text())
    assert quoted
    assert set(quoted) <= set(measured)
