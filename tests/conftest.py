"""Shared by all tests."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("atm_adapters.testing", "support")

from support.postgres import Postgres, running_postgres  # noqa: E402 - after its assertions were registered

collect_ignore = ["package"]  # wants a wheel, and an environment without the sources: nox -s package


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the reliability tests run in full."""
    parser.addoption("--full", action="store_true", help="try the promises as often as docs/guarantees.md says")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL, for all tests that want one."""
    with running_postgres() as server:
        yield server
