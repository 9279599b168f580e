"""A server of each kind of store, shared by the tests of a module."""

from collections.abc import Iterator

import httpx
import pytest
from support.server import Server, running_server
from support.stores import demo_store


@pytest.fixture(scope="module", params=["memory:", "sqlite"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    store = "memory:" if request.param == "memory:" else demo_store(folder / "accounts.sqlite3")
    with running_server(store, folder) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address) as client:
        yield client
