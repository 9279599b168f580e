"""Options and fixtures for all tests."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite(
    "atm_adapters.conformance.repository",
    "atm_adapters.conformance.repository_concurrency",
    "atm_adapters.conformance.repository_history",
    "atm_adapters.conformance.repository_model",
    "support",
)

from support.postgres import Postgres, running_postgres  # noqa: E402 - register_assert_rewrite() must come first

collect_ignore = ["package"]  # needs a wheel and an environment without the sources: nox -s package


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs the reliability tests in full."""
    parser.addoption("--full", action="store_true", help="repeat the reliability tests as docs/guarantees.md says")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server that all tests share."""
    with running_postgres() as server:
        yield server
