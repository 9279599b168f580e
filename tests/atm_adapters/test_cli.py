"""The ``atm`` command, as a person or a script types it."""

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest
from support.postgres import Postgres, fresh_schema
from support.server import ATM, running_server

from atm_adapters.capabilities import ListableStore
from atm_adapters.listing import json_document, pages_of
from atm_adapters.stores import open_store
from atm_core import deposit, open_account


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "ATM_STORE"}
    return {**kept, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


class Atm:
    """Types commands, each in a process of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Give the exit code, what was printed to standard output, and to standard error."""
        done = subprocess.run(  # noqa: S603 - our own command
            [ATM, *arguments], capture_output=True, text=True, timeout=60, env=self.environment, cwd=self.folder
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def atm(environment: dict[str, str], tmp_path: Path) -> Atm:
    return Atm(environment, tmp_path)


def test_each_command_prints_the_balance_as_it_then_stands_and_the_next_process_sees_it(atm: Atm) -> None:
    assert atm("balance", "0") == (0, "1000.00\n", "")
    assert atm("deposit", "0", "100") == (0, "1100.00\n", "")
    assert atm("withdraw", "0", "50.25") == (0, "1049.75\n", "")
    assert atm("balance", "0") == (0, "1049.75\n", "")
    assert atm("open", "42", "--balance", "5") == (0, "5.00\n", "")
    assert atm("open", "overdrawn", "--balance", "-5.5") == (0, "-5.50\n", "")
    assert atm("open", "empty") == (0, "0.00\n", "")


def test_json_is_printed_on_demand_with_the_balance_as_an_exact_number(atm: Atm) -> None:
    for command in (["balance", "0"], ["deposit", "0", "1"], ["withdraw", "0", "1"], ["open", "2"]):
        code, output, _ = atm(*command, "--json")
        assert code == 0
        assert set(json.loads(output)) == {"account_number", "balance"}
    assert atm("balance", "0", "--json")[1] == '{"account_number":"0","balance":1000.00}\n'


def test_a_key_moves_money_once_and_is_refused_for_another_transaction(atm: Atm) -> None:
    assert atm("deposit", "0", "100", "--key", "k")[1] == "1100.00\n"
    assert atm("deposit", "0", "100.00", "--key", "k")[1] == "1100.00\n"
    code, output, message = atm("withdraw", "0", "100", "--key", "k")
    assert (code, output) == (3, "")
    assert "'k' was used on account 0 for another transaction" in message


def test_the_store_is_named_by_option_or_environment_and_the_option_wins(atm: Atm) -> None:
    atm("deposit", "0", "1", "--store", "one.db")
    assert atm("balance", "0", "--store", "sqlite:///one.db")[1] == "1001.00\n"
    atm.environment["ATM_STORE"] = "one.db"
    assert atm("balance", "0")[1] == "1001.00\n"
    assert atm("balance", "0", "--store", "memory:")[1] == "1000.00\n"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("deposit 0 -5", 2, "atm: The amount '-5' must be positive"),
        ("withdraw 0 -0.01", 2, "atm: The amount '-0.01' must be positive"),
        ("deposit 0 0", 2, "must be positive"),
        ("deposit 0 abc", 2, "atm: The amount 'abc' is not a plain decimal number: write it like 100 or 10.25."),
        ("deposit 0 1e400", 2, "is not a plain decimal number"),
        ("deposit 0 NaN", 2, "is not a plain decimal number"),
        ("deposit 0 10.255", 2, "at most two decimals"),
        ("deposit 0 99999999999999", 2, "must be at most 9,999,999,999,999.99"),
        ("deposit 9 -5", 2, "must be positive"),
        ("open 2 --balance x", 2, "is not a plain decimal number"),
        ("balance a.b", 2, "atm: The account number 'a.b' must be a string of 1 to 64 characters"),
        ("deposit 0 1 --key é", 2, "atm: The idempotency key"),
        ("deposit 0", 2, "Missing argument 'AMOUNT'"),
        ("deposit 0 5 --keyy=k", 2, "--keyy=k"),
        ("balance 0 --nope", 2, "No such option: --nope"),
        ("transfer 0 1 5", 2, "No such command 'transfer'"),
        ("serve --workers 2 --store memory:", 2, "memory: lives in one process"),
        ("serve --log-level loud", 2, "'loud' is not one of"),
        ("serve --port 65536", 2, "--port"),
        ("balance 0 --store redis://x", 2, "Known are: memory:, a file path, sqlite:///path"),
        ("acounts", 2, "Did you mean 'accounts'?"),
        ("balance 9", 3, "atm: There is no account 9."),
        ("deposit 9 5", 3, "atm: There is no account 9."),
        ("open 0", 3, "atm: Account 0 exists already."),
        ("deposit 0 9999999999999.99", 3, "atm: The balance of account 0 would leave the range"),
        ("balance 0 --store nowhere/x.db", 4, "there is no folder "),
        ("balance 0 --store ./", 2, "A path that ends in a slash is a folder: name a file in it."),
        ("balance 0 --store .", 4, "it is a folder, not a file"),
        (
            "balance 0 --store postgresql://atm:secret@127.0.0.1:1/atm",
            4,
            "atm: The store postgresql://atm:***@127.0.0.1:1",
        ),
        ("serve --store nowhere/x.db", 4, "there is no folder "),
        ("serve --host 256.1.1.1", 1, "atm: can't listen on 256.1.1.1:8000: Name or service not known."),
        ("serve --host=", 1, "an empty host would be every network"),
        ("serve --store=", 2, "'' is not a store"),
        ("deposit 0 -5h", 2, "'-5h' is not a plain decimal number"),
    ],
)
def test_what_can_not_be_done_says_why_on_standard_error_and_by_its_exit_code(
    atm: Atm, command: str, code: int, message: str
) -> None:
    exit_code, output, error = atm(*command.split())
    assert (exit_code, output) == (code, "")
    assert message in " ".join(error.split())
    assert atm("balance", "0")[1] == "1000.00\n"


def test_every_command_and_every_option_has_help_with_an_example(atm: Atm) -> None:
    overview = atm("--help")[1]
    for command in ("balance", "deposit", "withdraw", "open", "accounts", "verify", "serve", "check"):
        assert command in overview
        code, output, _ = atm(command, "--help")
        assert code == 0
        assert f"Example: atm {command}" in output
        if command != "check":
            assert "--store" in output
            assert output.count("[env var: ATM_STORE]") == 1
    assert "Exit codes" in overview


def test_the_version_is_that_of_the_package(atm: Atm) -> None:
    assert atm("--version") == (0, f"atm {version('mini-atm')}\n", "")


def test_a_shell_completes_commands(atm: Atm) -> None:
    atm.environment |= {"_ATM_COMPLETE": "complete_bash", "COMP_WORDS": "atm de", "COMP_CWORD": "1"}
    code, output, _ = atm()
    assert (code, output.strip()) == (0, "deposit")


def test_a_result_that_can_not_be_printed_still_says_what_became_of_the_money(atm: Atm) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: S603 - our own command
            [ATM, "deposit", "0", "5"], stdout=full, stderr=subprocess.PIPE, text=True, env=atm.environment, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == "atm: done (1005.00), but that could not be printed: No space left on device.\n"


def test_reading_a_balance_imports_nothing_that_only_other_commands_need(environment: dict[str, str]) -> None:
    program = """
import sys
from atm_adapters.cli import app
try:
    app(["balance", "0"])
except SystemExit as end:
    assert not end.code
slow = {"litestar", "uvicorn", "asyncio", "msgspec", "httpx", "rich", "click"}
print(sorted({name.partition(".")[0] for name in sys.modules} & slow))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout == "1000.00\n[]\n"


@pytest.fixture
def in_terminal(atm: Atm) -> Callable[..., str]:
    """Type a command in a terminal of ten lines, and give what it shows there."""

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
            with suppress(OSError):  # how Linux says that the other end was closed
                while piece := screen.read(4096):
                    shown += piece
        return shown.decode().replace("\r\n", "\n")

    return run


def test_accounts_are_listed_for_programs_with_a_tab_and_without_anything_else(atm: Atm) -> None:
    atm("withdraw", "1", "1000.50")
    atm("open", "overdrawn", "--balance", "-9999999999999.99")
    assert atm("accounts") == (0, "0\t1000.00\n1\t-0.50\noverdrawn\t-9999999999999.99\n", "")
    assert atm("accounts", "--store", "memory:") == (0, "0\t1000.00\n1\t1000.00\n", "")


def test_accounts_are_listed_in_a_terminal_as_a_table_with_the_total(atm: Atm, in_terminal: Callable[..., str]) -> None:
    atm("withdraw", "1", "1000.50")
    assert in_terminal("accounts") == (
        "Account                     Balance\n"
        "0                           1000.00\n"
        "1                             -0.50\n"
        "-----------------------------------\n"
        "2 accounts                   999.50\n"
    )


def test_a_table_longer_than_the_screen_goes_to_the_pager(atm: Atm, in_terminal: Callable[..., str]) -> None:
    with closing(open_store(str(atm.folder / "many.db"))) as accounts:
        for number in range(2, 8):
            open_account(accounts, str(number))
    shown = in_terminal("accounts", "--store", "many.db").splitlines()
    assert shown[:2] == ["paged:Account                     Balance", "paged:0                           1000.00"]
    assert "paged:8 accounts                  2000.00" in shown


def test_accounts_are_listed_in_json_and_their_total_is_exact_beyond_what_a_double_holds(atm: Atm) -> None:
    with closing(open_store(str(atm.folder / "rich.db"))) as accounts:
        for number in range(2, 1200):
            open_account(accounts, str(number), "9999999999999.99")
    code, output, _ = atm("accounts", "--store", "rich.db", "--json")
    document = json.loads(output, parse_float=Decimal)
    assert (code, document["count"], document["total"]) == (0, 1200, "11980000000001988.02")
    assert len({account["account_number"] for account in document["accounts"]}) == 1200
    assert sum(account["balance"] for account in document["accounts"]) == Decimal(document["total"])


def test_listing_accounts_takes_no_more_memory_for_more_accounts(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "many.db"))) as accounts:
        assert isinstance(accounts, ListableStore)
        with closing(sqlite3.connect(tmp_path / "many.db")) as connection:
            connection.executemany("INSERT INTO account VALUES (?, 1, 1)", [(f"{n:06d}",) for n in range(20_000)])
            connection.commit()
        tracemalloc.start()
        try:
            lines = sum(text.count("\n") for text in json_document(pages_of(accounts)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert lines == 20_004
    assert peak < 1_000_000


def test_every_balance_is_verified_and_the_file_is_left_as_it_is(atm: Atm) -> None:
    atm.environment["ATM_STORE"] = "accounts.db"
    atm("deposit", "0", "100")
    atm("withdraw", "1", "5", "--key", "k")
    before = (atm.folder / "accounts.db").read_bytes()
    verdict = "2 accounts and 2 journal entries read: each balance is as its journal makes it.\n"
    assert atm("verify") == (0, verdict, "")
    assert atm("verify", "--json") == (0, '{"accounts":2,"entries":2,"wrong":[]}\n', "")
    assert (atm.folder / "accounts.db").read_bytes() == before


# Each to an account of its own, which was opened with 0, and given 1.00 and then 2.00.
DAMAGE = """
UPDATE journal SET amount = 101         WHERE account_number = 'amount' AND amount = 100;
UPDATE account SET balance = 301        WHERE account_number = 'balance';
UPDATE account SET opening = -1         WHERE account_number = 'opening';
DELETE FROM journal                     WHERE account_number = 'first' AND amount = 100;
DELETE FROM journal                     WHERE account_number = 'last' AND amount = 200;
UPDATE journal SET balance = 299        WHERE account_number = 'recorded' AND amount = 200;
UPDATE journal SET account_number = '9' WHERE account_number = 'elsewhere' AND amount = 200
"""
FOUND = """\
Account 9 does not exist, but has 1 journal entry.
Account amount: its balance is 3.00, but its opening balance and 2 journal entries make 3.01; \
journal entry {amount} is the first that records another balance than it left.
Account balance: its balance is 3.01, but its opening balance and 2 journal entries make 3.00.
Account elsewhere: its balance is 3.00, but its opening balance and 1 journal entry make 1.00.
Account first: its balance is 3.00, but its opening balance and 1 journal entry make 2.00; \
journal entry {first} is the first that records another balance than it left.
Account last: its balance is 3.00, but its opening balance and 1 journal entry make 1.00.
Account opening: its balance is 3.00, but its opening balance and 2 journal entries make 2.99; \
journal entry {opening} is the first that records another balance than it left.
Account recorded: its balance is 3.00, as its journal makes it; \
journal entry {recorded} is the first that records another balance than it left.
10 accounts and 14 journal entries read: 8 found wrong.
"""


def _fill(url: str) -> None:
    with closing(open_store(url)) as accounts:
        for number in ("amount", "balance", "elsewhere", "first", "good", "last", "opening", "recorded"):
            open_account(accounts, number)
            deposit(accounts, number, 1)
            deposit(accounts, number, 2)


def test_whatever_was_damaged_in_a_copy_of_a_file_is_found_and_named(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    shutil.copy(atm.folder / "sound.db", atm.folder / "damaged.db")
    with closing(sqlite3.connect(atm.folder / "damaged.db")) as connection:
        connection.executescript(DAMAGE)
    assert atm("verify", "--store", "sound.db")[0] == 0
    # Entries are numbered throughout the file, two for each account in the order above.
    assert atm("verify", "--store", "damaged.db") == (1, FOUND.format(amount=1, first=8, opening=13, recorded=16), "")


def test_whatever_was_damaged_in_postgresql_is_found_and_named(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        _fill(url)
        assert atm("verify", "--store", url)[0] == 0
        with psycopg.connect(url) as connection:
            for statement in DAMAGE.split(";"):
                connection.execute(statement.encode())
        assert atm("verify", "--store", url) == (1, FOUND.format(amount=1, first=2, opening=1, recorded=2), "")


def test_what_is_wrong_is_told_in_json_too(atm: Atm) -> None:
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
                {
                    "account_number": "9",
                    "balance": None,
                    "expected": "1.00",
                    "entries": 1,
                    "first_wrong_entry": None,
                },
                {
                    "account_number": "amount",
                    "balance": "3.00",
                    "expected": "2.00",
                    "entries": 1,
                    "first_wrong_entry": 2,
                },
            ],
        },
    )


def test_a_file_that_is_damaged_in_sqlite_s_own_terms_is_unavailable(atm: Atm) -> None:
    _fill(str(atm.folder / "sound.db"))
    sound = (atm.folder / "sound.db").read_bytes()
    (atm.folder / "scribbled.db").write_bytes(sound[:2048] + b"x" * 1024 + sound[3072:])
    shutil.copy(atm.folder / "sound.db", atm.folder / "forgetful.db")
    with closing(sqlite3.connect(atm.folder / "forgetful.db")) as connection:  # keys could be used again
        connection.executescript("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'journal_key'")
    for name in ("scribbled.db", "forgetful.db"):
        code, output, message = atm("verify", "--store", name)
        assert (code, output) == (4, "")
        assert message.startswith(f"atm: The store {atm.folder / name} is unavailable: the file is damaged: ")
        assert message.count("\n") == 1


def test_a_store_without_a_journal_is_not_called_right(atm: Atm) -> None:
    code, output, message = atm("verify", "--store", "memory:")
    assert (code, output) == (2, "")
    assert message.startswith("atm: The store memory: has no journal to verify: ")


def test_accounts_behind_a_server_are_listed_and_verified_where_it_keeps_them(atm: Atm, tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        for command, why in (("accounts", "does not list its accounts: "), ("verify", "has no journal to verify: ")):
            code, output, message = atm(command, "--store", server.address)
            assert (code, output) == (2, "")
            assert message.startswith(f"atm: The store {server.address} {why}")


def test_a_file_that_does_not_exist_is_not_called_right(atm: Atm) -> None:
    code, output, message = atm("verify", "--store", "typo.db")
    assert (code, output, message) == (4, "", "atm: The store typo.db is unavailable: there is no such file.\n")
    assert not (atm.folder / "typo.db").exists()


def test_a_terminal_is_shown_the_progress_and_then_the_verdict(atm: Atm, in_terminal: Callable[..., str]) -> None:
    assert atm("balance", "0", "--store", "accounts.db")[0] == 0  # which makes the file
    shown = in_terminal("verify", "--store", str(atm.folder / "accounts.db"))
    assert "Verifying" in shown
    assert "100%" in shown
    assert shown.endswith("2 accounts and 0 journal entries read: each balance is as its journal makes it.\n")


def test_who_names_an_unknown_account_is_told_how_to_list_those_of_the_same_store(atm: Atm) -> None:
    for command, hint in (
        ("balance 9", "atm accounts"),
        ("deposit 9 5 --store memory:", "atm accounts --store memory:"),
        ("withdraw 9 5 --store sqlite:///my$accounts.db", "atm accounts --store 'sqlite:///my$accounts.db'"),
    ):
        assert atm(*command.split())[2] == f"atm: There is no account 9. To list the accounts: {hint}\n"


def test_the_hint_shows_no_password(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        message = atm("balance", "9", "--store", url.replace("postgres@", "postgres:secret@"))[2]
    assert "To list the accounts: atm accounts --store 'postgresql://postgres:***@" in message


@pytest.mark.parametrize("command", ["--help", "accounts", "verify", "balance --help"])
def test_output_that_can_not_be_written_is_said_in_one_line(atm: Atm, command: str) -> None:
    assert atm("balance", "0")[0] == 0  # which makes the file
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: S603 - our own command
            [ATM, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, env=atm.environment, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == "atm: The output could not be written: No space left on device.\n"
