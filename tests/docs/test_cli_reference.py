"""docs/cli.md is the current help of the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_reference_is_current_on_every_terminal(columns: str) -> None:
    # The same command as in the "docs" session of noxfile.py.
    done = subprocess.run(
        [sys.executable, "-m", "typer", "atm_adapters.front_ends.cli", "utils", "docs", "--name", "atm"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": columns, "FORCE_COLOR": "1", "ATM_STORE": "memory:"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == PAGE.read_text().strip(), "regenerate it with: nox -s docs"
