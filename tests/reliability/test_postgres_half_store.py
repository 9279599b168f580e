"""Imports and upgrades in PostgreSQL that are killed at random moments: the store is the old one or the new one."""
# ruff: noqa: S608 - all texts that are put into statements are constants

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
import pytest
from support.evidence import Record, Rounds
from support.postgres import Postgres, running_postgres
from support.waiting import until

from atm_adapters.repositories.postgres import PostgresAccountRepository

PROMISE: Final = "An import or upgrade is whole or has not happened"
VERSION_1: Final = Path(__file__).parents[1] / "atm_adapters" / "repositories" / "postgres_version_1.sql"

ACCOUNTS: Final = 300
ENTRIES_EACH: Final = 10

PROGRAM: Final = f"""
import sys
from datetime import UTC, datetime
from atm_adapters.repositories import postgres_journal
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import AtmError, Deposit, Entry, Opening

def entries():
    for number in range({ACCOUNTS}):
        transactions = [Deposit(f"{{number:04}}", 1, f"key {{turn}}") for turn in range({ENTRIES_EACH} - 1)]
        account = None
        for transaction in [Opening(f"{{number:04}}", 0), *transactions]:
            account = transaction.apply(account)
            yield Entry(transaction, account, datetime.now(UTC))

postgres_journal._COPIED_ROWS = 200
url, task = sys.argv[1:]
print(flush=True)
try:
    if task == "import":
        with PostgresAccountRepository(url) as accounts:
            accounts.import_entries(entries())
    else:
        PostgresAccountRepository(url, []).close()
    print("done")
except AtmError as error:
    print(error.code)
"""


class Task(NamedTuple):
    """What is killed. ``prepare`` is SQL that makes the old store. ``entries`` is their number in the new one."""

    name: str
    prepare: str
    old_tables: tuple[str, ...]
    entries: int


IMPORT: Final = Task("import", "DELETE FROM entry; DELETE FROM account", ("account", "entry", "mini_atm"), 3000)
UPGRADE: Final = Task(
    "upgrade",
    "DROP TABLE IF EXISTS account, entry, journal, mini_atm;"
    + VERSION_1.read_text()
    + """;
    INSERT INTO account SELECT 'many-' || n, 0, 3, 3, gen_random_uuid() FROM generate_series(1, 1000) AS n;
    INSERT INTO journal SELECT 'many-' || n, entry, gen_random_uuid(), 'deposit', 1, 'key ' || entry, entry
    FROM generate_series(1, 1000) AS n, generate_series(1, 3) AS entry
    """,
    ("account", "journal", "mini_atm"),
    4011,
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server whose processes may be killed."""
    with running_postgres() as server:
        yield server


def kill_client(process: "subprocess.Popen[str]", url: str) -> None:  # noqa: ARG001 - as kill_backend
    """``kill -9`` the process that imports or upgrades."""
    process.kill()


def kill_backend(process: "subprocess.Popen[str]", url: str) -> None:  # noqa: ARG001 - as kill_client
    """``kill -9`` a process of the database that serves it, after which PostgreSQL ends all others and recovers."""
    with psycopg.connect(url, application_name="killer", autocommit=True) as admin:
        sessions = admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'victim'").fetchall()
    if sessions:
        pid = random.choice(sessions)[0]
        with suppress(ProcessLookupError):  # the task has ended
            os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists())  # PostgreSQL has noticed, and accepts no connection


@pytest.mark.parametrize("kill", [kill_client, kill_backend], ids=["client", "backend"])
@pytest.mark.parametrize("task", [IMPORT, UPGRADE], ids=["import", "upgrade"])
def test_killed_task_leaves_no_half_store(
    postgres: Postgres, task: Task, kill: Callable[["subprocess.Popen[str]", str], None], rounds: Rounds, record: Record
) -> None:
    url, kills = postgres.url, rounds(2, 50)
    if task is IMPORT:
        with psycopg.connect(url) as admin:
            admin.execute("DROP TABLE IF EXISTS account, entry, journal, mini_atm")
        PostgresAccountRepository(url, []).close()
    took, _ = _run(task, url)
    assert _is_new(url, task)
    found = {"old": 0, "new": 0}
    wrong = half = 0
    for _ in range(kills):
        _, reported = _run(task, url, kill, random.uniform(0, took))
        is_old, is_new = _is_old(url, task), _is_new(url, task)
        half += is_old == is_new
        # Opening a store may fail after the upgrade, and is repeated. An import that failed must have done nothing.
        wrong += (reported == "done" and not is_new) or (task is IMPORT and reported == "store-unavailable" and is_new)
        found["new" if is_new else "old"] += 1
    record(
        PROMISE,
        f"kill -9 of the {'client' if kill is kill_client else 'PostgreSQL session'} during an {task.name}",
        {"kills": kills, "old stores": found["old"], "new stores": found["new"]},
        half_stores=half,
        wrong_reports=wrong,
    )


def _run(
    task: Task, url: str, kill: Callable[["subprocess.Popen[str]", str], None] | None = None, after: float = 60
) -> tuple[float, str]:
    """Run the task on an old store, and kill it after some seconds.

    :returns: how long it ran, and what it printed: ``done``, the code of an error, or nothing.
    """
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(task.prepare.encode())
    arguments = [sys.executable, "-c", PROGRAM, f"{url}?application_name=victim", task.name]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - Python
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            assert kill is not None, "the task hangs"
            kill(process, url)
            process.wait(60)
        took = time.monotonic() - began
        printed = process.stdout.read().strip()
    until(lambda: _sessions(url) == 0)
    return took, printed


def _sessions(url: str) -> int | None:
    """Return the number of the task's sessions, or None while PostgreSQL recovers."""
    try:
        with psycopg.connect(url) as admin:
            return len(admin.execute("SELECT FROM pg_stat_activity WHERE application_name = 'victim'").fetchall())
    except psycopg.OperationalError:
        return None


def _is_old(url: str, task: Task) -> bool:
    with psycopg.connect(url) as admin:
        if _tables(admin) != task.old_tables:
            return False
        counts = b"SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM %b), schema_version FROM mini_atm"
        if task is IMPORT:
            return admin.execute(counts % b"entry").fetchone() == (0, 0, 2)
        return admin.execute(counts % b"journal").fetchone() == (1004, 3007, 1)


def _is_new(url: str, task: Task) -> bool:
    with psycopg.connect(url) as admin:
        if _tables(admin) != ("account", "entry", "mini_atm"):
            return False
    with PostgresAccountRepository(url) as accounts:
        audited = list(accounts.audit())
    return all(account.is_consistent for account in audited) and sum(one.entries for one in audited) == task.entries


def _tables(admin: "psycopg.Connection[tuple[str]]") -> tuple[str, ...]:
    rows = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1")
    return tuple(name for (name,) in rows)
