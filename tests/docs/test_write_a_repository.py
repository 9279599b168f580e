"""docs/write-a-repository.md: its repository is short, and its broken one is caught by the kit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-repository.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def pytest_on(folder: Path, **files: str) -> tuple[int, str]:
    """Write modules into a folder, run pytest there, and give its exit code and output."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(  # noqa: S603 - the page's own programs
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    return done.returncode, done.stdout


def test_the_page_s_repository_is_under_60_lines() -> None:  # test_pages.py runs the kit on it
    assert len(FILES["json_file.py"].splitlines()) < 60


@pytest.mark.parametrize("keeps_keys", [False, True])
def test_a_repository_that_gets_and_then_saves_is_caught_by_the_kit(tmp_path: Path, keeps_keys: bool) -> None:
    broken = FILES["get_then_save.py"]
    if keeps_keys:  # also when losing updates is its only fault
        broken = broken.replace(
            "        account = ",
            "        if transaction.key:\n            return super().execute(transaction)\n        account = ",
        )
    suite = """
from contextlib import contextmanager
from get_then_save import GetThenSave
from atm_adapters.testing import RepositoryContract

class TestBroken(RepositoryContract):
    @contextmanager
    def new_repository(self):
        yield GetThenSave()
"""
    exit_code, output = pytest_on(tmp_path, get_then_save=broken, test_broken=suite)
    assert exit_code == 1, output
    failed = set(re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE))
    assert any(name.startswith("test_concurrent_") for name in failed)
    assert ("test_the_same_transaction_under_the_same_key_moves_money_once" in failed) is not keeps_keys
