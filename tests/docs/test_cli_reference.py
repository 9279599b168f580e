"""docs/cli.md is what the command says of itself now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_reference_is_current_on_every_terminal(columns: str) -> None:
    # As the session in noxfile.py does it.
    done = subprocess.run(
        [sys.executable, "-m", "typer", "atm_adapters.cli", "utils", "docs", "--name", "atm"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": columns, "FORCE_COLOR": "1", "ATM_STORE": "memory:"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == PAGE.read_text().strip(), "write it anew with: nox -s docs"
