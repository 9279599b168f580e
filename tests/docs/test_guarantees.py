"""The tests and files that docs/guarantees.md names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text()


def test_every_named_test_and_file_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("src/atm_adapters/conformance/*.py")]
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)", source.read_text())}
    assert named
    assert named <= defined
    for link in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link


def test_every_promise_with_figures_is_in_a_reliability_test() -> None:
    sources = "".join(source.read_text() for source in ROOT.glob("tests/reliability/test_*.py"))
    figures = PAGE.partition("## Figures")[2].partition("\n## ")[0]
    promises = {line.split("|")[1].strip() for line in figures.splitlines() if line.startswith("| ")}
    promises -= {"promise", "---"}
    assert promises
    for promise in promises:
        assert f'"{promise}' in sources, promise
