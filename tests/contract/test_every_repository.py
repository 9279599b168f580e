"""One contract tests every repository and every wrapper."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from support.postgres import Postgres, fresh_schema
from support.repositories import new_sqlite
from support.server import serving
from support.wrappers import Blocking, blocking

from atm_adapters.conformance.repository import BatchRepositoryContract, RepositoryContract
from atm_adapters.repositories.bridges import InlineBridge, ThreadPoolBridge
from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.repositories.sqlite import SqliteAccountRepository


class TestInMemory(BatchRepositoryContract):
    transactions_per_thread = 1000
    stateful_examples = 50

    @contextmanager
    def new_repository(self) -> Iterator[InMemoryAccountRepository]:
        yield InMemoryAccountRepository()


class TestSqlite(BatchRepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[SqliteAccountRepository]:
        with new_sqlite() as accounts:
            yield accounts


class TestInlineBridgeOverMemory(RepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with blocking(lambda: InlineBridge(InMemoryAccountRepository())) as accounts:
            yield accounts


class TestGroupCommitOverSqlite(RepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with new_sqlite() as store, blocking(lambda: GroupCommit(store)) as accounts:
            yield accounts


class TestThreadedGroupCommitOverSqlite(RepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[ThreadedGroupCommit]:
        with new_sqlite() as accounts:
            yield ThreadedGroupCommit(accounts)


@contextmanager
def _remote() -> Iterator[RemoteAccountRepository]:
    with (
        serving(InMemoryAccountRepository()) as server,
        closing(RemoteAccountRepository(f"http://{server[0]}:{server[1]}")) as accounts,
    ):
        yield accounts


class TestRemote(RepositoryContract):
    transactions_per_thread = 50
    stateful_examples = 5  # each starts its own server

    @contextmanager
    def new_repository(self) -> Iterator[RemoteAccountRepository]:
        with _remote() as accounts:
            yield accounts


class TestThreadPoolBridgeOverRemote(RepositoryContract):
    transactions_per_thread = 50
    stateful_examples = 5  # each starts its own server

    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with _remote() as store, blocking(lambda: ThreadPoolBridge(store)) as accounts:
            yield accounts


class OnPostgres:
    """Makes the PostgreSQL server available to ``new_repository``."""

    postgres: Postgres

    @pytest.fixture(autouse=True)
    def use_server(self, postgres: Postgres) -> None:
        self.postgres = postgres


class TestPostgres(OnPostgres, BatchRepositoryContract):
    transactions_per_thread = 50
    stateful_examples = 10

    @contextmanager
    def new_repository(self) -> Iterator[PostgresAccountRepository]:
        with fresh_schema(self.postgres) as url, closing(PostgresAccountRepository(url, [])) as accounts:
            yield accounts


class TestGroupCommitOverPostgres(OnPostgres, RepositoryContract):
    stateful_examples = 5

    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with (
            fresh_schema(self.postgres) as url,
            blocking(lambda: GroupCommit(PostgresAccountRepository(url, []))) as accounts,
        ):
            yield accounts


class TestThreadedGroupCommitOverPostgres(OnPostgres, RepositoryContract):
    stateful_examples = 5

    @contextmanager
    def new_repository(self) -> Iterator[ThreadedGroupCommit]:
        with (
            fresh_schema(self.postgres) as url,
            closing(ThreadedGroupCommit(PostgresAccountRepository(url, []))) as accounts,
        ):
            yield accounts
