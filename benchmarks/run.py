"""Compare Mini-ATM with common alternatives in one run, and write RESULTS.md and two charts.

Requirements: ``wrk``, a PostgreSQL with ``pgbench``, and the dependency group ``bench``.

Usage: ``nox -s bench``, which takes about ten minutes.

Output: a table of ratios with their targets. Every round measures each row once and briefly, and the next round
uses the opposite order. A ratio is the median over the rounds of the ratio within a round. Every measurement that
moves money ends with a check of the balances.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from http_load import BIN, Answered, load, mini_atm, reference, running
from library_load import (
    Accounts,
    bare_sqlite,
    bytes_an_account,
    command_seconds,
    in_batches,
    in_threads,
    on_an_event_loop,
    pgbench,
)
from report import CHARTED, Claim, write
from support.postgres import Postgres, running_postgres
from support.stores import demo_store
from support.tokens import add_token

from atm_adapters.front_ends.http.tokens import Verb
from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_adapters.repositories.sqlite import SqliteAccountRepository
from atm_core import Account, Deposit

ROUNDS = 9
MANY = 1_000
LARGE = 1_000_000
BATCHES = (1, 32, 1_024, 8_000)
HERE = Path(__file__).parent

FASTAPI, FLOOR = "FastAPI, floats in a dict", "bare ASGI callable, floats in a dict"
CLAIMS = [
    Claim("HTTP GET, memory", f"HTTP GET, {FASTAPI}", 1.75),
    Claim("HTTP POST, memory", f"HTTP POST, {FASTAPI}", 1.75),
    Claim("HTTP GET, memory", f"HTTP GET, {FLOOR}", 0.35),
    Claim("HTTP POST, memory", f"HTTP POST, {FLOOR}", 0.35),
    Claim("HTTP POST, SQLite", f"HTTP POST, {FASTAPI}", 1.3),
    Claim("HTTP POST, PostgreSQL, one account", f"HTTP POST, {FASTAPI}", 1.0),
    Claim("HTTP POST, PostgreSQL, 1,000 accounts", f"HTTP POST, {FASTAPI}", 1.0),
    Claim("HTTP POST, PostgreSQL, one account", "HTTP POST, PostgreSQL, 1,000 accounts", 0.8),
    Claim("HTTP POST, memory, every request logged", "HTTP POST, memory"),
    Claim("HTTP GET, memory, access tokens", "HTTP GET, memory", 0.95),
    Claim("SQLite, 32 callers on an event loop", "bare sqlite3, 1 with each commit", 6),
    Claim("SQLite, 128 callers on an event loop", "bare sqlite3, 1 with each commit", 12),
    Claim("SQLite, 32 threads", "bare sqlite3, 1 with each commit", 2),
    Claim("PostgreSQL, one account, 32 callers", "pgbench, one account, 32 clients", 8),
    Claim("PostgreSQL, 1,000 accounts, 32 callers", "pgbench, 1,000 accounts, 32 clients", 0.9),
    Claim("PostgreSQL, 1,000 accounts, 128 callers", "pgbench, 1,000 accounts, 128 clients", 2),
    *[Claim(f"SQLite, batches of {size:,}", f"bare sqlite3, {size:,} with each commit", 0.6) for size in BATCHES],
    Claim("SQLite, one caller, 1,000,000 accounts", "SQLite, one caller, 1,000 accounts", 0.8),
    Claim("SQLite, 32 callers, 1,000,000 accounts", "SQLite, 32 callers, 1,000 accounts", 0.8),
    Claim("atm balance 0, seconds", "bare Typer app, seconds", 1.3, at_most=True),
    Claim("memory, bytes for each of 1,000,000 accounts", None, 350, at_most=True),
]

ELSEWHERE = {
    "SQLite, batches of 1": ("TigerBeetle, batches of 1", 1_480),
    "SQLite, batches of 32": ("TigerBeetle, batches of 32", 25_600),
    "SQLite, batches of 1,024": ("TigerBeetle, batches of 1,024", 77_000),
    "SQLite, batches of 8,000": ("TigerBeetle, batches of 8,000", 83_000),
    "SQLite, 32 callers on an event loop": ("TigerBeetle, single submissions, 32 in flight", 6_000),
    "SQLite, 128 callers on an event loop": ("TigerBeetle, single submissions, 128 in flight", 10_000),
}

Subjects = dict[str, Callable[[], float | Answered]]


@contextmanager
def over_http(folder: Path, postgres: Postgres) -> Iterator[Subjects]:
    """Run the servers, and yield their measurements."""
    tokens = folder / "tokens.toml"
    token = add_token(tokens, "bench", [Verb.read])
    with ExitStack() as stack:
        guarded = stack.enter_context(running(*mini_atm("memory:", "--tokens", str(tokens)), token=token))
        fastapi, floor, memory, logged, sqlite, on_postgres = [
            stack.enter_context(running(*command))
            for command in (
                reference("fastapi_app:app"),
                reference("floor:app"),
                mini_atm("memory:"),
                mini_atm("memory:", log_level="info"),
                mini_atm(demo_store(folder / "http.sqlite3")),
                mini_atm(postgres.url),
            )
        ]
        # Compared rows are neighbours, so that noise affects both.
        subjects: Subjects = {
            f"HTTP GET, {FLOOR}": lambda: load(floor, "GET"),
            "HTTP GET, memory": lambda: load(memory, "GET"),
            "HTTP GET, memory, access tokens": lambda: load(guarded, "GET", token=token),
            f"HTTP GET, {FASTAPI}": lambda: load(fastapi, "GET"),
            "HTTP POST, memory, every request logged": lambda: load(logged, "POST"),
            f"HTTP POST, {FLOOR}": lambda: load(floor, "POST"),
            "HTTP POST, memory": lambda: load(memory, "POST"),
            f"HTTP POST, {FASTAPI}": lambda: load(fastapi, "POST"),
            "HTTP POST, SQLite": lambda: load(sqlite, "POST"),
            "HTTP POST, PostgreSQL, one account": lambda: load(on_postgres, "POST"),
            "HTTP POST, PostgreSQL, 1,000 accounts": lambda: load(on_postgres, "POST", accounts=MANY),
        }
        for port, rows in zip((memory, sqlite, on_postgres), CHARTED.values(), strict=True):
            for connections, row in rows.items():
                subjects[row] = lambda port=port, connections=connections: load(  # type: ignore[misc]
                    port, "POST", connections=connections
                )
        yield subjects


@contextmanager
def in_sqlite(folder: Path) -> Iterator[Subjects]:
    """Create the files, and yield their measurements."""
    large_numbers = [f"{number:07}" for number in range(LARGE)]
    small_numbers = large_numbers[:MANY]
    bare = folder / "bare.sqlite3"
    SqliteAccountRepository(bare, [Account("0", 0)]).close()
    with (
        closing(SqliteAccountRepository(folder / "library.sqlite3", [Account("0", 0)])) as store,
        closing(SqliteAccountRepository(folder / "small.sqlite3", (Account(n, 0) for n in small_numbers))) as small,
        closing(SqliteAccountRepository(folder / "large.sqlite3", (Account(n, 0) for n in large_numbers))) as large,
    ):
        deposits = (Deposit(number, "0.01") for _ in range(2) for number in large_numbers)
        while batch := list(islice(deposits, 8_000)):
            large.execute_batch(batch)
        one, few, many = Accounts(store, ["0"]), Accounts(small, small_numbers), Accounts(large, large_numbers, 2)
        subjects: Subjects = {}
        for size in BATCHES:
            subjects[f"bare sqlite3, {size:,} with each commit"] = lambda size=size: bare_sqlite(bare, "0", size)  # type: ignore[misc]
            subjects[f"SQLite, batches of {size:,}"] = lambda size=size: in_batches(one, size)  # type: ignore[misc]
            if size == 1:  # next to the bare loop with one deposit in each commit
                subjects["SQLite, 32 callers on an event loop"] = lambda: on_an_event_loop(one, 32)
                subjects["SQLite, 128 callers on an event loop"] = lambda: on_an_event_loop(one, 128)
                subjects["SQLite, 32 threads"] = lambda: in_threads(one, 32)
        subjects["SQLite, one caller, 1,000 accounts"] = lambda: on_an_event_loop(few, 1)
        subjects["SQLite, one caller, 1,000,000 accounts"] = lambda: on_an_event_loop(many, 1)
        subjects["SQLite, 32 callers, 1,000 accounts"] = lambda: on_an_event_loop(few, 32)
        subjects["SQLite, 32 callers, 1,000,000 accounts"] = lambda: on_an_event_loop(many, 32)
        yield subjects


@contextmanager
def in_postgres(postgres: Postgres) -> Iterator[Subjects]:
    """Open the accounts, and yield their measurements."""
    served = [Account(str(number), 0) for number in range(MANY)]  # by another process, over HTTP
    for_pgbench = [Account(f"bench-{number}", 0) for number in range(MANY)]
    for_the_library = [Account(f"library-{number}", 0) for number in range(MANY)]
    opening = [*served, *for_pgbench, *for_the_library, Account("library", 0)]
    with closing(PostgresAccountRepository(postgres.url, opening)) as store:
        many = Accounts(store, [account.account_number for account in for_the_library])
        one = Accounts(store, ["library"])
        yield {
            "pgbench, one account, 32 clients": lambda: pgbench(postgres, 1, 32),
            "PostgreSQL, one account, 32 callers": lambda: on_an_event_loop(one, 32),
            "pgbench, 1,000 accounts, 32 clients": lambda: pgbench(postgres, MANY, 32),
            "PostgreSQL, 1,000 accounts, 32 callers": lambda: on_an_event_loop(many, 32),
            "pgbench, 1,000 accounts, 128 clients": lambda: pgbench(postgres, MANY, 128),
            "PostgreSQL, 1,000 accounts, 128 callers": lambda: on_an_event_loop(many, 128),
        }


def by_command(folder: Path) -> Subjects:
    """Return the measurements of the command."""
    store = str(folder / "command.sqlite3")
    SqliteAccountRepository(store, [Account("0", 1000)]).close()
    bare = str(HERE / "reference" / "constant_command.py")
    return {
        "bare Typer app, seconds": lambda: command_seconds(str(BIN / "python"), bare, "balance", "0"),
        "atm balance 0, seconds": lambda: command_seconds(str(BIN / "atm"), "balance", "0", "--store", store),
        "memory, bytes for each of 1,000,000 accounts": lambda: bytes_an_account(LARGE),
    }


def main() -> None:
    """Measure all rows in every round, and write the report."""
    # In this file's folder, because the folder for temporary files may be in memory, where a sync costs nothing.
    with (
        TemporaryDirectory(dir=HERE) as name,
        running_postgres("max_connections=200") as postgres,
        in_sqlite(Path(name)) as sqlite,
        in_postgres(postgres) as library_on_postgres,
        over_http(Path(name), postgres) as http,
    ):
        subjects = http | sqlite | library_on_postgres | by_command(Path(name))
        charted = {row for rows in CHARTED.values() for row in rows.values()}
        figures: dict[str, list[float | Answered]] = {subject: [] for subject in subjects}
        for number in range(1, ROUNDS + 1):
            is_odd = number % 2 == 1
            for subject in subjects if is_odd else reversed(subjects):
                if subject in charted and not is_odd:
                    continue  # otherwise the chart would take most of the time
                figures[subject].append(subjects[subject]())
                print(f"round {number} of {ROUNDS}: {subject}: {figures[subject][-1]}", flush=True)
    write(CLAIMS, figures, ELSEWHERE)


if __name__ == "__main__":
    main()
