"""Fixtures for the tests of the ``atm`` command."""

import os
from pathlib import Path

import pytest
from support.cli import Atm


@pytest.fixture
def atm(tmp_path: Path) -> Atm:
    """Return the command with a user data folder of its own, so that the default store is a new file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ATM_")}
    terminal = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return Atm({**inherited, **terminal, "XDG_DATA_HOME": str(tmp_path / "data")}, tmp_path)
