"""The commands for accounts and money."""

import json
import subprocess
import sys

import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema


def test_commands_print_the_new_balance(atm: Atm) -> None:
    assert atm("balance", "0") == (0, "1000.00\n", "")
    assert atm("deposit", "0", "100") == (0, "1100.00\n", "")
    assert atm("withdraw", "0", "50.25") == (0, "1049.75\n", "")
    assert atm("balance", "0") == (0, "1049.75\n", "")
    assert atm("open", "42", "--balance", "5") == (0, "5.00\n", "")
    assert atm("open", "overdrawn", "--balance", "-5.5") == (0, "-5.50\n", "")
    assert atm("open", "empty") == (0, "0.00\n", "")


def test_json_output_has_exact_balance(atm: Atm) -> None:
    for command in (["balance", "0"], ["deposit", "0", "1"], ["withdraw", "0", "1"], ["open", "2"]):
        code, output, _ = atm(*command, "--json")
        assert code == 0
        assert set(json.loads(output)) == {"account_number", "balance"}
    assert atm("balance", "0", "--json")[1] == '{"account_number":"0","balance":1000.00}\n'


def test_key_moves_money_once(atm: Atm) -> None:
    assert atm("deposit", "0", "100", "--key", "k")[1] == "1100.00\n"
    assert atm("deposit", "0", "100.00", "--key", "k")[1] == "1100.00\n"
    code, output, message = atm("withdraw", "0", "100", "--key", "k")
    assert (code, output) == (3, "")
    assert "'k' was used on account 0 for another transaction" in message


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
        ("deposit 0 -5h", 2, "atm: The amount '-5h' is not a plain decimal number"),
        ("open 2 --balance x", 2, "is not a plain decimal number"),
        ("deposit -5 1", 2, "'-5' is not an option of this command. An account number that begins with a hyphen"),
        ("withdraw --jsn 0 1", 2, "'--jsn' is not an option of this command."),
        ("balance -- -5", 2, "Use the HTTP API or the library for such an account."),
        ("open -- --help", 2, "Use the HTTP API or the library for such an account."),
        ("balance a.b", 2, "atm: The account number 'a.b' must be a string of 1 to 64 characters"),
        ("deposit 0 1 --key é", 2, "atm: The idempotency key"),
        ("deposit 0", 2, "Missing argument 'AMOUNT'"),
        ("deposit 0 5 --keyy=k", 2, "--keyy=k"),
        ("balance 9", 3, "atm: There is no account 9."),
        ("deposit 9 5", 3, "atm: There is no account 9."),
        ("open 0", 3, "atm: Account 0 exists already."),
        ("deposit 0 9999999999999.99", 3, "atm: The balance of account 0 would leave the range"),
    ],
)
def test_refused_command_explains_and_moves_no_money(atm: Atm, command: str, code: int, message: str) -> None:
    atm.assert_fails(command, code, message)


@pytest.mark.parametrize(
    "command", ["deposit --help 5", "withdraw -h 5", "balance --help 5", "open --help --balance 5", "deposit -- -h 5"]
)
def test_account_number_is_not_taken_for_the_help_option(atm: Atm, command: str) -> None:
    atm.assert_fails(command, 2, "must be the last argument. An account number that begins with a hyphen cannot be")


@pytest.mark.parametrize("command", ["deposit --help", "deposit 0 -h", "deposit 0 5 --help", "serve --help --port 1"])
def test_help_option_at_the_end_prints_help(atm: Atm, command: str) -> None:
    code, output, error = atm(*command.split())
    assert (code, error) == (0, "")
    assert "Usage: atm" in output
    assert atm("balance", "0")[1] == "1000.00\n"


def test_unknown_account_error_names_the_command_that_lists_accounts(atm: Atm) -> None:
    for command, hint in (
        ("balance 9", "atm accounts"),
        ("deposit 9 5 --store memory:", "atm accounts --store memory:"),
        ("withdraw 9 5 --store sqlite:///my$accounts.db", "atm accounts --store 'sqlite:///my$accounts.db'"),
    ):
        assert atm(*command.split())[2] == f"atm: There is no account 9. To list the accounts: {hint}\n"


def test_unknown_account_error_hides_password_of_store(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        message = atm("balance", "9", "--store", url.replace("postgres@", "postgres:secret@"))[2]
    assert "To list the accounts: atm accounts --store 'postgresql://postgres:***@" in message


def test_unprinted_result_is_reported_with_the_new_balance(atm: Atm) -> None:
    code, message = atm.with_full_disk("deposit", "0", "5")
    assert code == 1
    assert message == "atm: Done (1005.00), but the result could not be printed: No space left on device.\n"


def test_balance_command_imports_no_slow_module(atm: Atm) -> None:
    program = """
import sys
from atm_adapters.front_ends.cli import app
try:
    app(["balance", "0"])
except SystemExit as end:
    assert not end.code
slow = {"litestar", "uvicorn", "asyncio", "msgspec", "httpx", "rich", "click"}
print(sorted({name.partition(".")[0] for name in sys.modules} & slow))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=atm.environment, timeout=60
    )
    assert done.stdout == "1000.00\n[]\n"
