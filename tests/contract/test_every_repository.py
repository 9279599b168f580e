"""Every repository and every face of one is held by the same contract."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from support.faces import Blocking, blocking
from support.postgres import Postgres, fresh_schema
from support.repositories import new_sqlite
from support.server import serving

from atm_adapters.group_commit import GroupCommit, Immediate, InThreads, ThreadedGroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_adapters.testing import BatchRepositoryContract, RepositoryContract


class TestInMemory(RepositoryContract):
    transactions_per_thread = 1000
    stateful_examples = 200

    @contextmanager
    def new_repository(self) -> Iterator[InMemoryAccountRepository]:
        yield InMemoryAccountRepository()


class TestSqlite(BatchRepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[SqliteAccountRepository]:
        with new_sqlite() as accounts:
            yield accounts


class TestImmediateFaceOfMemory(RepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with blocking(lambda: Immediate(InMemoryAccountRepository())) as accounts:
            yield accounts


class TestGroupCommitOverSqlite(RepositoryContract):
    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with new_sqlite() as accounts, blocking(lambda: GroupCommit(accounts)) as face:
            yield face


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
    stateful_examples = 5  # each has a server of its own

    @contextmanager
    def new_repository(self) -> Iterator[RemoteAccountRepository]:
        with _remote() as accounts:
            yield accounts


class TestInThreadsOverRemote(RepositoryContract):
    transactions_per_thread = 50
    stateful_examples = 5  # each has a server of its own

    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with _remote() as accounts, blocking(lambda: InThreads(accounts)) as face:
            yield face


class OnPostgres:
    """Hands the server to the tests below."""

    postgres: Postgres

    @pytest.fixture(autouse=True)
    def hand_over(self, postgres: Postgres) -> None:
        self.postgres = postgres


class TestPostgres(OnPostgres, BatchRepositoryContract):
    transactions_per_thread = 50

    @contextmanager
    def new_repository(self) -> Iterator[PostgresAccountRepository]:
        with fresh_schema(self.postgres) as url, closing(PostgresAccountRepository(url)) as accounts:
            yield accounts


class TestGroupCommitOverPostgres(OnPostgres, RepositoryContract):
    stateful_examples = 5

    @contextmanager
    def new_repository(self) -> Iterator[Blocking]:
        with fresh_schema(self.postgres) as url, blocking(lambda: GroupCommit(PostgresAccountRepository(url))) as face:
            yield face


class TestThreadedGroupCommitOverPostgres(OnPostgres, RepositoryContract):
    stateful_examples = 5

    @contextmanager
    def new_repository(self) -> Iterator[ThreadedGroupCommit]:
        with fresh_schema(self.postgres) as url, closing(ThreadedGroupCommit(PostgresAccountRepository(url))) as face:
            yield face
