"""The commands for whole stores: ``atm accounts`` and ``atm verify``."""

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from support.server import ATM, running_server

from atm_adapters.bootstrap import open_store
from atm_adapters.front_ends.cli.listing import format_json, iter_pages
from atm_core import deposit, open_account
from atm_core.ports import ListableStore


@pytest.fixture
def in_terminal(atm: Atm) -> Callable[..., str]:
    """Return a function that runs a command in a terminal of ten lines, and returns the text shown there."""

    def run(*arguments: str) -> str:
        keyboard, terminal = pty.openpty()
        with (
            open(keyboard, "rb", buffering=0) as screen,  # noqa: PTH123 - a file descriptor
            subprocess.Popen(  # noqa: S603 - our own command
                [ATM, *arguments],
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env={**atm.environment, "LINES": "10", "TERM": "xterm", "PAGER": "sed s/^/paged:/"},
                cwd=atm.folder,
            ),
        ):
            os.close(terminal)
            shown = b""
            with suppress(OSError):  # Linux reports a closed terminal as an error
                while piece := screen.read(4096):
                    shown += piece
        return shown.decode().replace("\r\n", "\n")

    return run


def test_accounts_are_tab_separated_in_a_pipe(atm: Atm) -> None:
    atm("withdraw", "1", "1000.50")
    atm("open", "overdrawn", "--balance", "-9999999999999.99")
    assert atm("accounts") == (0, "0\t1000.00\n1\t-0.50\noverdrawn\t-9999999999999.99\n", "")
    assert atm("accounts", "--store", "memory:") == (0, "0\t1000.00\n1\t1000.00\n", "")


def test_accounts_are_a_table_with_total_in_a_terminal(atm: Atm, in_terminal: Callable[..., str]) -> None:
    atm("withdraw", "1", "1000.50")
    assert in_terminal("accounts") == (
        "Account                     Balance\n"
        "0                           1000.00\n"
        "1                             -0.50\n"
        "-----------------------------------\n"
        "2 accounts                   999.50\n"
    )


def test_long_table_is_shown_in_the_pager(atm: Atm, in_terminal: Callable[..., str]) -> None:
    with closing(open_store(str(atm.folder / "many.db"))) as accounts:
        for number in range(2, 8):
            open_account(accounts, str(number))
    shown = in_terminal("accounts", "--store", "many.db").splitlines()
    assert shown[:2] == ["paged:Account                     Balance", "paged:0                           1000.00"]
    assert "paged:8 accounts                  2000.00" in shown


def test_total_in_json_is_exact(atm: Atm) -> None:
    """The total has more digits than a double holds."""
    with closing(open_store(str(atm.folder / "rich.db"))) as accounts:
        for number in range(2, 1200):
            open_account(accounts, str(number), "9999999999999.99")
    code, output, _ = atm("accounts", "--store", "rich.db", "--json")
    document = json.loads(output, parse_float=Decimal)
    assert (code, document["count"], document["total"]) == (0, 1200, "11980000000001988.02")
    assert len({account["account_number"] for account in document["accounts"]}) == 1200
    assert sum(account["balance"] for account in document["accounts"]) == Decimal(document["total"])


def test_memory_for_a_listing_is_bounded(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "many.db"))) as accounts:
        assert isinstance(accounts, ListableStore)
        with closing(sqlite3.connect(tmp_path / "many.db")) as connection:
            connection.executemany("INSERT INTO account VALUES (?, 1, 1)", [(f"{n:06d}",) for n in range(20_000)])
            connection.commit()
        tracemalloc.start()
        try:
            lines = sum(text.count("\n") for text in format_json(iter_pages(accounts)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert lines == 20_004
    assert peak < 1_000_000


def test_verify_reads_every_account_and_changes_nothing(atm: Atm) -> None:
    atm.environment["ATM_STORE"] = "accounts.db"
    atm("deposit", "0", "100")
    atm("withdraw", "1", "5", "--key", "k")
    before = (atm.folder / "accounts.db").read_bytes()
    verdict = "Read 2 accounts and 2 journal entries: every balance matches its journal.\n"
    assert atm("verify") == (0, verdict, "")
    assert atm("verify", "--json") == (0, '{"accounts":2,"entries":2,"wrong":[]}\n', "")
    assert (atm.folder / "accounts.db").read_bytes() == before


# Each statement damages another account. All were opened with 0.00, then received 1.00 and 2.00.
DAMAGE = """
UPDATE journal SET amount = 101         WHERE account_number = 'amount' AND amount = 100;
UPDATE account SET balance = 301        WHERE account_number = 'balance';
UPDATE account SET opening = -1         WHERE account_number = 'opening';
DELETE FROM journal                     WHERE account_number = 'first' AND amount = 100;
DELETE FROM journal                     WHERE account_number = 'last' AND amount = 200;
UPDATE journal SET balance = 299        WHERE account_number = 'recorded' AND amount = 200;
UPDATE journal SET account_number = '9' WHERE account_number = 'elsewhere' AND amount = 200
"""
FINDINGS = """\
Account 9 does not exist, but has 1 journal entry.
Account amount: its balance is 3.00, but its opening balance and 2 journal entries add up to 3.01. \
The first journal entry with a wrong balance is {amount}.
Account balance: its balance is 3.01, but its opening balance and 2 journal entries add up to 3.00.
Account elsewhere: its balance is 3.00, but its opening balance and 1 journal entry add up to 1.00.
Account first: its balance is 3.00, but its opening balance and 1 journal entry add up to 2.00. \
The first journal entry with a wrong balance is {first}.
Account last: its balance is 3.00, but its opening balance and 1 journal entry add up to 1.00.
Account opening: its balance is 3.00, but its opening balance and 2 journal entries add up to 2.99. \
The first journal entry with a wrong balance is {opening}.
Account recorded: its balance is 3.00, which matches the amounts in its journal. \
The first journal entry with a wrong balance is {recorded}.
Read 10 accounts and 14 journal entries: 8 accounts failed.
"""


def _fill(url: str) -> None:
    with closing(open_store(url)) as accounts:
        for number in ("amount", "balance", "elsewhere", "first", "good", "last", "opening", "recorded"):
            open_account(accounts, number)
            deposit(accounts, number, 1)
            deposit(accounts, number, 2)


def test_verify_finds_every_damage_in_sqlite(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    shutil.copy(atm.folder / "sound.db", atm.folder / "damaged.db")
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.executescript(DAMAGE)
    assert atm("verify", "--store", "sound.db")[0] == 0
    # Entry numbers count through the whole file: two for each account, in the order above.
    findings = FINDINGS.format(amount=1, first=8, opening=13, recorded=16)
    assert atm("verify", "--store", "damaged.db") == (1, findings, "")


def test_verify_finds_every_damage_in_postgresql(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        _fill(url)
        assert atm("verify", "--store", url)[0] == 0
        with psycopg.connect(url) as connection:
            for statement in DAMAGE.split(";"):
                connection.execute(statement.encode())
        findings = FINDINGS.format(amount=1, first=2, opening=1, recorded=2)
        assert atm("verify", "--store", url) == (1, findings, "")


def test_verify_reports_damage_in_json(atm: Atm) -> None:
    _fill(str(atm.folder / "damaged.db"))
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.executescript("UPDATE journal SET account_number = '9' WHERE entry = 1")
    code, output, _ = atm("verify", "--store", "damaged.db", "--json")
    assert (code, json.loads(output, parse_float=str)) == (
        1,
        {
            "accounts": 10,
            "entries": 16,
            "wrong": [
                {"account_number": "9", "balance": None, "expected": "1.00", "entries": 1, "first_mismatch": None},
                {"account_number": "amount", "balance": "3.00", "expected": "2.00", "entries": 1, "first_mismatch": 2},
            ],
        },
    )


def test_corrupt_sqlite_file_is_unavailable(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    sound = (atm.folder / "sound.db").read_bytes()
    (atm.folder / "overwritten.db").write_bytes(sound[:2048] + b"x" * 1024 + sound[3072:])
    shutil.copy(atm.folder / "sound.db", atm.folder / "without_index.db")
    with closing(sqlite3.connect(atm.folder / "without_index.db")) as connection:  # without it, keys are not unique
        connection.executescript("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'journal_key'")
    for name in ("overwritten.db", "without_index.db"):
        code, output, message = atm("verify", "--store", name)
        assert (code, output) == (4, "")
        assert message.startswith(f"atm: The store {atm.folder / name} is unavailable: the file is damaged: ")
        assert message.count("\n") == 1


def test_verify_refuses_memory(atm: Atm) -> None:
    code, output, message = atm("verify", "--store", "memory:")
    assert (code, output) == (2, "")
    assert message.startswith("atm: The store memory: has no journal to verify: ")


def test_server_as_store_cannot_be_listed_or_verified(atm: Atm, tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        for command, reason in (("accounts", "does not list its accounts: "), ("verify", "has no journal to verify: ")):
            code, output, message = atm(command, "--store", server.address)
            assert (code, output) == (2, "")
            assert message.startswith(f"atm: The store {server.address} {reason}")


def test_verify_creates_no_file(atm: Atm) -> None:
    code, output, message = atm("verify", "--store", "typo.db")
    assert (code, output, message) == (4, "", "atm: The store typo.db is unavailable: there is no such file.\n")
    assert not (atm.folder / "typo.db").exists()


def test_verify_shows_progress_in_a_terminal(atm: Atm, in_terminal: Callable[..., str]) -> None:
    assert atm("balance", "0", "--store", "accounts.db")[0] == 0  # creates the file
    shown = in_terminal("verify", "--store", str(atm.folder / "accounts.db"))
    assert "Verifying" in shown
    assert "100%" in shown
    assert shown.endswith("Read 2 accounts and 0 journal entries: every balance matches its journal.\n")
