"""The project's checks: ``nox`` runs them all, ``nox -s NAME`` one, ``nox -l`` lists them."""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False  # tests run on those that are installed

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and the dependency groups named."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, on every Python that is installed."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def reliability(session: nox.Session) -> None:
    """Try to break the promises, hundreds of times in some minutes, and print a table of what was lost or doubled."""
    install(session, "test")
    session.run("pytest", "--full", "--numprocesses", "2", "tests/reliability", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and that no module imports what it should not."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly."""
    install(session, "types")
    session.run("mypy")


@nox.session(python=PYTHONS)
def package(session: nox.Session) -> None:
    """Build dist/ anew, check it, and use the wheel in empty environments, on every Python that is installed."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "package"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("check-sdist")
    session.run("check-wheel-contents", "--src-dir", "src", "dist")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("pytest", "--noconftest", "tests/package", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write docs/cli.md anew, from what the command says of itself."""
    install(session)
    session.run("typer", "atm_adapters.cli", "utils", "docs", "--name", "atm", "--output", "docs/cli.md")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure beside what people would pick instead, in about ten minutes, and write benchmarks/RESULTS.md."""
    install(session, "bench")
    session.run("python", "benchmarks/run.py", env={"PYTHONPATH": "tests"})
