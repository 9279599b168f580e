"""Test the wheel in dist/ as its users install it. ``nox -s package`` builds it and runs these tests.

The environments contain the wheel and its dependencies only: no pytest, no pip, no source tree.
"""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen
from zipfile import ZipFile

import pytest
from packaging.metadata import Metadata

ROOT = Path(__file__).parents[2]
(WHEEL,) = (ROOT / "dist").glob("*.whl")
pytestmark = pytest.mark.timeout(300)  # installing packages may take longer than the limit in pyproject.toml
DIST_INFO = f"{WHEEL.name.removesuffix('-py3-none-any.whl')}.dist-info"


class Extra(NamedTuple):
    """A command that needs an extra, its exit code without the extra, and a text that it prints only with the extra."""

    command: str
    exit_code_without: int
    prints_with: str


CALL_API_AND_METRICS = """python -c '
import os
from litestar.testing import TestClient
from atm_adapters.front_ends.http.app import create_app
os.environ["OTEL_TRACES_EXPORTER"] = "console"
with TestClient(create_app()) as client:
    client.get("/accounts/0/balance")
    print(client.get("/metrics").text)
'"""
EXTRAS = {
    "metrics": Extra(CALL_API_AND_METRICS, 0, "atm_requests_total"),
    "opentelemetry": Extra(CALL_API_AND_METRICS, 0, '"trace_id"'),
    "postgres": Extra("atm balance 0 --store postgresql://127.0.0.1:1/atm", 4, "Connection refused"),
    "testing": Extra(
        "python -c 'import atm_adapters.conformance.repository as kit; print(kit.RepositoryContract)'", 1, "<class"
    ),
}


class Environment:
    """A virtual environment with the wheel, and with its own home folder."""

    def __init__(self, folder: Path, *extras: str) -> None:
        self.folder = folder
        self.programs = folder / "venv" / "bin"
        self.python = str(self.programs / "python")
        requirement = f"mini-atm[{','.join(extras)}] @ {WHEEL.as_uri()}"
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        install = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", requirement]
        for command in (make, install):
            subprocess.run(command, check=True)  # noqa: S603 - fixed commands

    def start(self, command: str) -> "subprocess.Popen[str]":
        """Start a command of this environment."""
        program, *arguments = shlex.split(command)
        return subprocess.Popen(  # noqa: S603 - the project's own commands
            [self.programs / program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"HOME": str(self.folder), "PYTHONUNBUFFERED": "1"},
            cwd=self.folder,
        )

    def run(self, command: str) -> tuple[int, str, str]:
        """Run a command, and return its exit code, standard output and standard error."""
        with self.start(command) as process:
            output, error = process.communicate(timeout=60)
        return process.returncode, output, error


def get(url: str) -> bytes:
    """Return the body of a response.

    :raises HTTPError: if the status is an error.
    """
    with urlopen(url, timeout=30) as answer:  # noqa: S310 - a server of this test
        body: bytes = answer.read()
    return body


def pip_command(metadata: Metadata, extra: str) -> str:
    """Return the command that installs what an extra requires."""
    packages = [
        each.name + (f"[{','.join(sorted(each.extras))}]" if each.extras else "")
        for each in metadata.requires_dist or []
        if f'extra == "{extra}"' in str(each.marker)
    ]
    return f"pip install {shlex.join(sorted(packages))}"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel without extras."""
    return Environment(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def metadata() -> Metadata:
    """The wheel's metadata. Parsing it fails if a field violates the specification."""
    return Metadata.from_email(ZipFile(WHEEL).read(f"{DIST_INFO}/METADATA"))


def test_metadata_describes_the_project(metadata: Metadata) -> None:
    assert metadata.name == "mini-atm"
    assert str(metadata.requires_python) == ">=3.11"
    assert metadata.summary
    assert metadata.description == (ROOT / "README.md").read_text()
    assert "Typing :: Typed" in (metadata.classifiers or [])


def test_wheel_names_and_contains_its_license(metadata: Metadata) -> None:
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert ZipFile(WHEEL).read(f"{DIST_INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_packages_are_imported_from_the_wheel(bare: Environment) -> None:
    program = "import atm_adapters, atm_core; print(atm_adapters.__file__, atm_core.__file__)"
    exit_code, output, error = bare.run(f'python -c "{program}"')
    assert (exit_code, error) == (0, "")
    assert all(Path(file).is_relative_to(bare.folder / "venv") for file in output.split())


def test_command_keeps_accounts_in_the_user_data_folder(bare: Environment, metadata: Metadata) -> None:
    assert bare.run("atm --version") == (0, f"atm {metadata.version}\n", "")
    assert bare.run("atm balance 0") == (0, "1000.00\n", "")
    assert bare.run("atm deposit 0 100") == (0, "1100.00\n", "")
    assert len(list(bare.folder.rglob("accounts.sqlite3"))) == 1


def test_command_creates_another_store_only_on_purpose(bare: Environment) -> None:
    assert bare.run("atm balance 0 --store shop.sqlite3") == (
        4,
        "",
        f"atm: The store {bare.folder}/shop.sqlite3 is unavailable: there is no such file "
        "(to create it, run: atm init --store shop.sqlite3).\n",
    )
    assert list(bare.folder.glob("shop*")) == []
    assert bare.run("atm init --store shop.sqlite3 --demo")[0] == 0
    assert bare.run("atm balance 0 --store shop.sqlite3") == (0, "1000.00\n", "")


def test_atm_serve_runs_until_interrupted(bare: Environment) -> None:
    with bare.start("atm serve --port 0 --store memory:") as server:
        try:
            assert server.stdout is not None
            banner = server.stdout.readline()
            assert banner, server.communicate()
            address = banner.split()[-1]
            assert get(f"{address}/accounts/0/balance") == b'{"account_number":"0","balance":1000.00}'
            scripts = re.findall(r'<script src="(/[^"]+)"', get(f"{address}/docs").decode())
            assert scripts
            for script in scripts:
                assert get(address + script)
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()


def test_installed_packages_are_typed(bare: Environment, tmp_path: Path) -> None:
    program = """\
from atm_adapters import open_store
from atm_core import Account, deposit
account: Account = deposit(open_store("memory:"), "0", {amount})
"""
    (tmp_path / "right.py").write_text(program.format(amount='"0.10"'))
    (tmp_path / "wrong.py").write_text(program.format(amount="0.10"))
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["mypy", "--strict", "--python-executable", bare.python, "right.py", "wrong.py"],  # noqa: S607
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    refusal, *rest = done.stdout.splitlines()
    assert re.fullmatch(r'wrong\.py:3: error: Argument 3 to "deposit" has incompatible type "float".*', refusal)
    assert rest == ["Found 1 error in 1 file (checked 2 source files)"]


def test_every_extra_has_a_test(metadata: Metadata) -> None:
    assert set(metadata.provides_extra or []) == set(EXTRAS)


@pytest.mark.parametrize("name", EXTRAS)
def test_missing_extra_is_reported_with_a_pip_command(bare: Environment, metadata: Metadata, name: str) -> None:
    exit_code, output, error = bare.run(EXTRAS[name].command)
    assert exit_code == EXTRAS[name].exit_code_without
    assert f"with: {pip_command(metadata, name)}" in output + error
    assert EXTRAS[name].prints_with not in output + error


@pytest.mark.parametrize("name", EXTRAS)
def test_extra_works_without_the_others(name: str, tmp_path: Path) -> None:
    _, output, error = Environment(tmp_path, name).run(EXTRAS[name].command)
    assert EXTRAS[name].prints_with in output + error
