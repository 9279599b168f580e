"""Every repository agrees with a plain model after each call of long random sequences."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import TypeAlias

import psycopg
import pytest
from support.evidence import Record, Rounds
from support.postgres import Postgres, fresh_schema
from support.repositories import new_sqlite

from atm_adapters.conformance.repository import RepositoryContract
from atm_adapters.conformance.repository_history import Accounts
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import Account, Page, Transaction

New: TypeAlias = Callable[[], AbstractContextManager[Accounts]]


class Counting:
    """Counts the calls that change accounts. Reads are not counted, because the contract also reads between steps."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.calls = 0

    def get(self, account_number: str, /) -> Account:
        return self._accounts.get(account_number)

    def execute(self, transaction: Transaction, /) -> Account:
        self.calls += 1
        return self._accounts.execute(transaction)

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._accounts.history(account_number, before=before, after=after, limit=limit)


class CountedContract(RepositoryContract):
    """The repository contract, with a counter for the steps of its random sequences."""

    stateful_examples = 10  # for each call of the test, which is repeated until there are enough steps

    def __init__(self, new: New) -> None:
        self._new = new
        self.steps = 0

    @contextmanager
    def new_repository(self) -> Iterator[Counting]:
        with self._new() as accounts:
            counting = Counting(accounts)
            yield counting
        self.steps += counting.calls - 2  # without the two openings that begin each sequence


@pytest.mark.parametrize("store", ["memory", "SQLite", "PostgreSQL"])
def test_random_calls_agree_with_a_plain_model(store: str, postgres: Postgres, rounds: Rounds, record: Record) -> None:
    with ExitStack() as cleanup:
        if store == "memory":
            new: New = _memory
        elif store == "SQLite":
            new = new_sqlite
        else:
            new = cleanup.enter_context(_emptied_postgres(postgres))
        contract = CountedContract(new)
        while contract.steps < rounds(250, 20_000):
            contract.test_random_calls_agree_with_a_plain_model()
    record(
        "Every call follows the rules",
        f"random transactions of every kind, compared with a plain model: {store}",
        {"steps": contract.steps},
        disagreements=0,  # the first one fails the test before this line
    )


@contextmanager
def _memory() -> Iterator[InMemoryAccountRepository]:
    yield InMemoryAccountRepository()


@contextmanager
def _emptied_postgres(postgres: Postgres) -> Iterator[New]:
    """Empty the same tables for each repository, which is much faster than creating new ones."""
    with (
        fresh_schema(postgres) as url,
        closing(PostgresAccountRepository(url, [])) as accounts,
        psycopg.connect(url, autocommit=True) as admin,
    ):

        @contextmanager
        def emptied() -> Iterator[PostgresAccountRepository]:
            admin.execute("DELETE FROM entry; DELETE FROM account")
            yield accounts

        yield emptied
