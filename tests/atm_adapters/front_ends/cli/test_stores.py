"""The commands ``atm accounts`` and ``atm verify``."""

import json
import re
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from support.server import running_server

from atm_adapters.bootstrap import open_store
from atm_adapters.front_ends.cli.findings import Audit, audit_document, audit_report
from atm_adapters.front_ends.cli.listing import format_json, iter_pages
from atm_core import Account, AuditedAccount, Opening, deposit, open_account, withdraw
from atm_core.ports import BatchRepository, ListableStore


def test_accounts_are_tab_separated_in_a_pipe(atm: Atm) -> None:
    atm("withdraw", "1", "1000.50")
    atm("open", "overdrawn", "--balance", "-9999999999999.99")
    assert atm("accounts") == (0, "0\t1000.00\topen\n1\t-0.50\topen\noverdrawn\t-9999999999999.99\topen\n", "")
    assert atm("accounts", "--store", "memory:") == (0, "0\t1000.00\topen\n1\t1000.00\topen\n", "")


def test_closed_account_is_listed_as_closed(atm: Atm) -> None:
    atm("open", "42")
    atm("close", "42")
    assert atm("accounts")[1].splitlines()[2] == "42\t0.00\tclosed"
    assert "42                             0.00  closed\n" in atm.in_terminal("accounts")
    closed = {
        account["account_number"]: account["closed"] for account in json.loads(atm("accounts", "--json")[1])["accounts"]
    }
    assert closed == {"0": False, "1": False, "42": True}


def test_accounts_are_a_table_with_total_in_a_terminal(atm: Atm) -> None:
    atm("withdraw", "1", "1000.50")
    assert atm.in_terminal("accounts") == (
        "Account                     Balance\n"
        "0                           1000.00\n"
        "1                             -0.50\n"
        "-----------------------------------\n"
        "2 accounts                   999.50\n"
    )


def test_long_table_is_shown_in_the_pager(atm: Atm) -> None:
    with open_store(str(atm.folder / "many.db"), create=True) as accounts:
        for number in range(8):
            open_account(accounts, str(number))
    shown = atm.in_terminal("accounts", "--store", "many.db").splitlines()
    assert shown[:2] == ["paged:Account                     Balance", "paged:0                              0.00"]
    assert "paged:8 accounts                     0.00" in shown


def test_total_in_json_is_exact(atm: Atm) -> None:
    """The total has more digits than a double holds."""
    with open_store(str(atm.folder / "rich.db"), create=True) as accounts:
        for number in range(1200):
            open_account(accounts, str(number), "9999999999999.99")
    code, output, _ = atm("accounts", "--store", "rich.db", "--json")
    document = json.loads(output, parse_float=Decimal)
    assert (code, document["count"], document["total"]) == (0, 1200, Decimal("11999999999999988.00"))
    assert len({account["account_number"] for account in document["accounts"]}) == 1200
    assert sum(account["balance"] for account in document["accounts"]) == document["total"]


def test_memory_for_a_listing_is_bounded(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "many.db"), create=True) as accounts:
        assert isinstance(accounts, ListableStore)
        assert isinstance(accounts, BatchRepository)
        accounts.execute_batch([Opening(f"{number:06d}", 1) for number in range(20_000)])
        tracemalloc.start()
        try:
            lines = sum(text.count("\n") for text in format_json(iter_pages(accounts)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert lines == 20_002
    assert peak < 1_000_000


def test_verify_reads_every_account_and_changes_nothing(atm: Atm) -> None:
    atm.environment["ATM_STORE"] = "accounts.db"
    atm.init("accounts.db")
    atm("deposit", "0", "100")
    atm("withdraw", "1", "5", "--key", "k")
    before = (atm.folder / "accounts.db").read_bytes()
    verdict = "Read 2 accounts and 4 journal entries: every account matches its journal.\n"
    assert atm("verify") == (0, verdict, "")
    assert atm("verify", "--json") == (0, '{"wrong":[],"accounts":2,"entries":4}\n', "")
    assert (atm.folder / "accounts.db").read_bytes() == before


# The name of each account is the damage to it. All have the same journal: an opening with 0.00, a deposit of 1.00
# under the key "a", a withdrawal of 1.00, and a deposit of 2.00 under the key "b".
DAMAGE = {
    "entry amount": "UPDATE entry SET amount = 201 WHERE entry = 4",
    "entry balance": "UPDATE entry SET balance = 1 WHERE entry = 3",
    "balance": "UPDATE account SET balance = 201",
    "overdraft limit": "UPDATE account SET overdraft_limit = 500",
    "withdrawal limit": "UPDATE account SET withdrawal_limit = 0",
    "closed": "UPDATE account SET closed = TRUE",
    "deleted opening": "DELETE FROM entry WHERE entry = 1",
    "deleted deposit": "DELETE FROM entry WHERE entry = 2",
    "deleted pair": "DELETE FROM entry WHERE entry IN (2, 3)",
    "deleted last": "DELETE FROM entry WHERE entry = 4",
    "deleted account": "DELETE FROM account",
    "deleted journal": "DELETE FROM entry",
    "repeated key": "UPDATE entry SET key = 'a' WHERE entry = 4",
    "unknown kind": "UPDATE entry SET kind = 'gift' WHERE entry = 4",
}
FINDINGS = """\
Account balance: Its balance is 2.01, but its journal leads to 2.00.
Account closed: Its status is closed, but its journal leads to open.
Account deleted-account: It does not exist, or its row is damaged. It has 4 journal entries.
Account deleted-deposit: Its balance is 2.00, but its journal leads to 1.00. \
Its last entry is 4, but its journal leads to 3. Entry 3 is the first that does not follow from those before it.
Account deleted-journal: Its journal has no valid opening.
Account deleted-last: Its balance is 2.00, but its journal leads to 0.00. \
Its last entry is 4, but its journal leads to 3.
Account deleted-opening: Its journal has no valid opening. \
Entry 2 is the first that does not follow from those before it.
Account deleted-pair: Its last entry is 4, but its journal leads to 2. \
Entry 4 is the first that does not follow from those before it.
Account entry-amount: Its balance is 2.00, but its journal leads to 2.01. \
Entry 4 is the first that does not follow from those before it.
Account entry-balance: Entry 3 is the first that does not follow from those before it.
Account overdraft-limit: Its overdraft limit is 5.00, but its journal leads to unlimited.
Account repeated-key: Entry 4 is the first that does not follow from those before it.
Account unknown-kind: Its balance is 2.00, but its journal leads to 0.00. \
Its last entry is 4, but its journal leads to 3. Entry 4 is the first that does not follow from those before it.
Account withdrawal-limit: Its withdrawal limit is 0.00, but its journal leads to unlimited.
Read 14 accounts and 51 journal entries: 14 accounts failed.
"""


def _fill(url: str) -> None:
    with open_store(url, create=True) as accounts:
        for number in ("good", *map(_number, DAMAGE)):
            open_account(accounts, number)
            deposit(accounts, number, 1, "a")
            withdraw(accounts, number, 1)
            deposit(accounts, number, 2, "b")


def _number(damage: str) -> str:
    return damage.replace(" ", "-")


def _statements() -> Iterator[str]:
    """Yield the statements, each limited to its account. Without the index, a key can occur twice."""
    yield "DROP INDEX entry_key"
    for damage, statement in DAMAGE.items():
        condition = "AND" if "WHERE" in statement else "WHERE"
        yield f"{statement} {condition} account_number = '{_number(damage)}'"


def test_verify_finds_every_damage_in_sqlite(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    shutil.copy(atm.folder / "sound.db", atm.folder / "damaged.db")
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.executescript(";".join(_statements()))
    assert atm("verify", "--store", "sound.db")[0] == 0
    assert atm("verify", "--store", "damaged.db") == (1, FINDINGS, "")


def test_verify_finds_every_damage_in_postgresql(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        _fill(url)
        assert atm("verify", "--store", url)[0] == 0
        with psycopg.connect(url) as connection:
            for statement in _statements():
                connection.execute(statement.encode())
        assert atm("verify", "--store", url) == (1, FINDINGS, "")


def test_verify_reports_damage_in_json(atm: Atm) -> None:
    _fill(str(atm.folder / "damaged.db"))
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.executescript(
            "UPDATE account SET overdraft_limit = 500 WHERE account_number = 'good';"
            "UPDATE entry SET account_number = '9' WHERE account_number = 'balance' AND entry = 4"
        )
    code, output, _ = atm("verify", "--store", "damaged.db", "--json")
    found = json.loads(output, parse_float=str)
    assert (code, found["accounts"], found["entries"]) == (1, 15, 60)
    unlimited = {"available": None, "overdraft_limit": None, "withdrawal_limit": None, "closed": False}
    good = {"account_number": "good", "balance": "2.00", **unlimited, "entry": 4}
    assert found["wrong"] == [
        {"account_number": "9", "account": None, "expected": None, "entries": 1, "first_mismatch": 4},
        {
            "account_number": "balance",
            "account": {**good, "account_number": "balance"},
            "expected": {**good, "account_number": "balance", "balance": "0.00", "entry": 3},
            "entries": 3,
            "first_mismatch": None,
        },
        {
            "account_number": "good",
            "account": {**good, "available": "7.00", "overdraft_limit": "5.00"},
            "expected": good,
            "entries": 4,
            "first_mismatch": None,
        },
    ]


def test_findings_are_not_mixed_with_the_progress_bar(atm: Atm) -> None:
    atm.init("damaged.db")
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.execute("UPDATE account SET closed = 1")
        connection.commit()
    with (atm.folder / "findings").open("w") as file:
        shown = atm.in_terminal("verify", "--store", "damaged.db", stdout=file.fileno())
    assert "Verifying" in shown
    assert "Account" not in shown
    assert (atm.folder / "findings").read_text() == (
        "Account 0: Its status is closed, but its journal leads to open.\n"
        "Account 1: Its status is closed, but its journal leads to open.\n"
        "Read 2 accounts and 2 journal entries: 2 accounts failed.\n"
    )
    shown = atm.in_terminal("verify", "--store", "damaged.db")
    assert re.findall("(?<=\x1b\\[2K)Account .*", shown) == [  # each is printed on an empty line
        "Account 0: Its status is closed, but its journal leads to open.",
        "Account 1: Its status is closed, but its journal leads to open.",
    ]


@pytest.mark.parametrize("format_audit", [audit_report, audit_document])
def test_memory_for_findings_is_bounded(format_audit: Callable[[Audit], Iterator[str]]) -> None:
    wrong = (AuditedAccount(f"{number:06}", Account("0", 1), None, 1, None) for number in range(20_000))
    tracemalloc.start()
    try:
        lines = sum(text.count("\n") for text in format_audit(Audit(wrong)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lines >= 20_000
    assert peak < 1_000_000


def test_corrupt_sqlite_file_is_unavailable(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    sound = (atm.folder / "sound.db").read_bytes()
    (atm.folder / "overwritten.db").write_bytes(sound[:2048] + b"x" * 1024 + sound[3072:])
    shutil.copy(atm.folder / "sound.db", atm.folder / "without_index.db")
    with closing(sqlite3.connect(atm.folder / "without_index.db")) as connection:  # without it, keys are not unique
        connection.executescript("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'entry_key'")
    for name in ("overwritten.db", "without_index.db"):
        code, output, message = atm("verify", "--store", name)
        assert (code, output) == (4, "")
        assert message.startswith(f"atm: The store {atm.folder / name} is unavailable: the file is damaged: ")
        assert message.count("\n") == 1


def test_verify_refuses_memory(atm: Atm) -> None:
    code, output, message = atm("verify", "--store", "memory:")
    assert (code, output) == (2, "")
    assert message.startswith("atm: The store memory: has no journal that this command can read.")


def test_server_as_store_cannot_be_listed_or_verified(atm: Atm, tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        for command, reason in (
            ("accounts", "does not list its accounts: "),
            ("verify", "has no journal that this command can read."),
        ):
            code, output, message = atm(command, "--store", server.address)
            assert (code, output) == (2, "")
            assert message.startswith(f"atm: The store {server.address} {reason}")


def test_verify_shows_progress_in_a_terminal(atm: Atm) -> None:
    atm.init("accounts.db")
    shown = atm.in_terminal("verify", "--store", str(atm.folder / "accounts.db"))
    assert "Verifying" in shown
    assert "100%" in shown
    assert shown.endswith("Read 2 accounts and 2 journal entries: every account matches its journal.\n")
