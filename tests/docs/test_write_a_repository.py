"""docs/write-a-repository.md: its repository is short, and the suite finds the fault of its broken one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-repository.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def run_pytest(folder: Path, tests: str, **files: str) -> tuple[int, str]:
    """Write modules into a folder, run tests of these names there, and return the exit code and the output."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(  # noqa: S603 - the page's own programs
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", tests, "--rootdir", folder, folder],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    return done.returncode, done.stdout


def test_repository_on_the_page_is_under_75_lines() -> None:  # test_pages.py runs the suite on it
    assert len(FILES["json_file.py"].splitlines()) < 75


@pytest.mark.parametrize("keeps_keys", [False, True])
def test_suite_finds_lost_updates(tmp_path: Path, keeps_keys: bool) -> None:
    broken = FILES["get_then_save.py"]
    if keeps_keys:  # then the lost updates are its only fault
        broken = broken.replace(
            "        account = ",
            "        if transaction.key:\n            return super().execute(transaction)\n        account = ",
        )
    suite = """
from contextlib import contextmanager
from get_then_save import GetThenSave
from atm_adapters.conformance.repository import RepositoryContract

class TestBroken(RepositoryContract):
    transactions_per_thread = 1_000  # enough to lose an update on a busy machine, too

    @contextmanager
    def new_repository(self):
        yield GetThenSave()
"""
    exit_code, output = run_pytest(tmp_path, "concurrent or repeated_key", get_then_save=broken, test_broken=suite)
    assert exit_code == 1, output
    failed = set(re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE))
    assert any(name.startswith("test_concurrent_") for name in failed)
    assert ("test_repeated_key_moves_money_once" in failed) is not keeps_keys
