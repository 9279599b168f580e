"""docs/library.md names every error of the core with its code and its facts."""

import inspect
import re
from pathlib import Path

import atm_core
from atm_core import AtmError

GUIDE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()


def test_table_has_every_error_with_code_and_facts() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([a-z-]+)` \| (.*?) \|", GUIDE, re.MULTILINE)
    shown = {name: (code, re.findall(r"`(\w+)`", facts)) for name, code, facts in rows}
    errors = [error for error in vars(atm_core).values() if inspect.isclass(error) and issubclass(error, AtmError)]
    assert shown == {
        error.__name__: (error.code, list(inspect.signature(error).parameters))
        for error in errors
        if error is not AtmError
    }
