"""The project's checks. ``nox`` runs tests, lint and types. ``nox -s NAME`` runs one, ``nox -l`` lists all."""

import shutil
import sys
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False  # "nox -s tests" runs on the interpreters that are installed
nox.options.sessions = [f"tests-{THIS_PYTHON}" if THIS_PYTHON in PYTHONS else "tests", "lint", "types"]


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and these dependency groups."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, except reliability, on every Python that is installed."""
    install(session, "test")
    run = ["pytest", "--numprocesses", "3", "--dist", "worksteal"]  # many tests wait more than they compute
    session.run(*run, *(session.posargs or ["--ignore", "tests/reliability"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and imports."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly."""
    install(session, "types")
    session.run("mypy")


@nox.session
def reliability(session: nox.Session) -> None:
    """Try to break the promises hundreds of times, and print a table of lost and doubled transactions."""
    install(session, "test")
    session.run("pytest", "--full", "--numprocesses", "2", "tests/reliability", *session.posargs)


@nox.session(python=PYTHONS)
def package(session: nox.Session) -> None:
    """Build the package, check it, and use it in empty environments, on every Python that is installed."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "package"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("check-sdist")
    session.run("check-wheel-contents", "--src-dir", "src", "dist")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("pytest", "--noconftest", "tests/package", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write docs/cli.md from the help of the command."""
    install(session)
    session.run("typer", "atm_adapters.front_ends.cli", "utils", "docs", "--name", "atm", "--output", "docs/cli.md")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with common alternatives in about ten minutes, and write benchmarks/RESULTS.md."""
    install(session, "bench")
    session.run("python", "benchmarks/run.py", env={"PYTHONPATH": "tests"})
