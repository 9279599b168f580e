"""The history of a SQLite store beyond the contract: its cost, and damaged links."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, AuditedAccount, Deposit, StoreUnavailable, deposit, get_account, read_history
from atm_core.ports import Page


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def accounts(path: Path) -> Iterator[SqliteAccountRepository]:
    """A store whose account "long" has 5,000 entries, interleaved with those of "short", which has 100."""
    with closing(SqliteAccountRepository(path, [Account("long", 0), Account("short", 0)])) as accounts:
        transactions = []
        for number in range(2, 5001):
            transactions.append(Deposit("long", 1))
            if number <= 100:
                transactions.append(Deposit("short", 1))
        accounts.execute_batch(transactions)
        yield accounts


def numbers_of(page: Page) -> list[int]:
    return [entry.account.last_entry for entry in page.entries]


@pytest.mark.parametrize("limit", [1, 7, 50, 63, 64, 65, 200])
def test_pages_have_the_right_entries_around_milestones(accounts: SqliteAccountRepository, limit: int) -> None:
    newest_first = list(range(5000, 0, -1))
    for cursor in (1, 2, 63, 64, 65, 66, 127, 128, 129, 192, 4990, 4992, 4993, 5000, 5001, 2**53 - 1):
        older = [number for number in newest_first if number < cursor]
        page = read_history(accounts, "long", before=cursor, limit=limit)
        assert (numbers_of(page), page.has_more) == (older[:limit], len(older) > limit)
        newer = [number for number in newest_first[::-1] if number > cursor]
        page = read_history(accounts, "long", after=cursor, limit=limit)
        assert (numbers_of(page), page.has_more) == (newer[:limit], len(newer) > limit)
    page = read_history(accounts, "long", limit=limit)
    assert numbers_of(page) == newest_first[:limit]
    assert {entry.account.account_number for entry in page.entries} == {"long"}


def test_page_of_a_long_history_costs_no_more_than_twice(accounts: SqliteAccountRepository) -> None:
    def steps(account_number: str, *, before: int | None = None, after: int | None = None) -> int:
        """Return the number of instructions that SQLite executes for a page of 50."""
        executed: list[None] = []
        accounts._reader.set_progress_handler(lambda: executed.append(None), 1)
        assert len(read_history(accounts, account_number, before=before, after=after).entries) == 50
        accounts._reader.set_progress_handler(None, 1)
        return len(executed)

    short = steps("short")
    for number in (51, 60, 64, 65, 66, 114, 115, 2500, 4900, 4992, 5000):
        assert steps("long", before=number) <= 2 * short
        assert steps("long", after=min(number, 4950) - 50) <= 2 * short


def test_history_is_read_while_another_process_writes(path: Path, accounts: SqliteAccountRepository) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM entry")
        assert numbers_of(read_history(accounts, "short", limit=3)) == [100, 99, 98]
        other.execute("ROLLBACK")


def test_entries_have_the_time_of_their_recording(path: Path) -> None:
    began = datetime.now(UTC)
    with closing(SqliteAccountRepository(path, [Account("0", 0)])) as accounts:
        deposit(accounts, "0", 1)
        times = [entry.recorded_at for entry in read_history(accounts, "0", after=0).entries]
    milliseconds = [time.timestamp() * 1000 for time in times if time is not None and time.utcoffset() is not None]
    assert len(milliseconds) == 2
    expected = [began.timestamp() * 1000 - 1, *milliseconds, datetime.now(UTC).timestamp() * 1000]
    assert expected == sorted(expected)


DAMAGE = {
    "to itself": "UPDATE entry SET previous = id WHERE account_number = 'long' AND entry = 4000",
    "to another account": (
        "UPDATE entry SET previous = (SELECT id FROM entry WHERE account_number = 'short' AND entry = 50)"
        " WHERE account_number = 'long' AND entry = 51"
    ),
    "to nothing": "UPDATE entry SET previous = NULL WHERE account_number = 'long' AND entry = 30",
    "to an earlier entry": (
        "UPDATE entry SET previous = (SELECT previous FROM entry AS e WHERE e.id = entry.previous)"
        " WHERE account_number = 'long' AND entry = 30"
    ),
    "from the account": "UPDATE account SET last_id = last_id - 1 WHERE account_number = 'long'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_wrong_link_is_unavailable_and_found_by_the_audit(
    path: Path, accounts: SqliteAccountRepository, damage: str
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises(StoreUnavailable, match="damaged: the links between entries of account long are wrong"):
        read_all(accounts, "long")
    long, short = accounts.audit()
    assert (long.is_consistent, short.is_consistent) == (False, True)
    assert (
        str(long.first_mismatch or "") == (re.findall(r"long' AND entry = ([0-9]+)$", damage) or [str(long.entries)])[0]
    )
    assert len(read_history(accounts, "short", limit=1000).entries) == 100


def test_audit_names_a_missing_entry_before_wrong_links(path: Path, accounts: SqliteAccountRepository) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM entry WHERE account_number = 'short' AND entry = 9")
        connection.commit()
    long, short = accounts.audit()
    assert long.is_consistent
    assert short == AuditedAccount("short", get_account(accounts, "short"), short.expected, 99, 10)


def read_all(accounts: SqliteAccountRepository, account_number: str) -> None:
    page = read_history(accounts, account_number, limit=100)
    while page.has_more:
        page = read_history(accounts, account_number, before=numbers_of(page)[-1], limit=100)
