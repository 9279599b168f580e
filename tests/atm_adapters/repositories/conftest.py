"""Fixtures of the tests of PostgreSQL."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from support.postgres import Postgres, fresh_schema, postgres_folder
from support.proxy import Proxy, cutting_proxy
from support.waiting import until


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty schema on the server that all tests share."""
    with fresh_schema(postgres) as url:
        yield url


@pytest.fixture
def postgres_proxy(postgres: Postgres) -> Iterator[Proxy]:
    """A proxy to the server that all tests share."""
    with cutting_proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(url: str, postgres: Postgres, postgres_proxy: Proxy) -> str:
    """The URL of the same schema as ``url``, through the proxy."""
    return url.replace(f":{postgres.port}/", f":{postgres_proxy.port}/")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test, which may stop it and change its settings."""
    with postgres_folder() as (programs, folder):
        server = Postgres(programs, folder)
        server.initialize()
        server.start()
        yield server
        server.stop()


@pytest.fixture
def toggle_missing_standby(own_postgres: Postgres) -> Iterator[Callable[[], None]]:
    """A function that switches whether commits on ``own_postgres`` wait for a standby that does not exist."""
    with psycopg.connect(own_postgres.url, autocommit=True) as admin:

        def toggle() -> None:
            (names,) = admin.execute("SHOW synchronous_standby_names").fetchone() or ("",)
            other = "" if names else "missing"
            admin.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(other))
            admin.execute("SELECT pg_reload_conf()")
            until(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == (other,))

        yield toggle
