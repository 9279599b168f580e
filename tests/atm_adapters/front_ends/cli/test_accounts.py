"""The commands for accounts and money."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from support.server import running_server


def test_commands_print_the_new_balance(atm: Atm) -> None:
    assert atm("balance", "0") == (0, "1000.00\n", "")
    assert atm("deposit", "0", "100") == (0, "1100.00\n", "")
    assert atm("withdraw", "0", "50.25") == (0, "1049.75\n", "")
    assert atm("balance", "0") == (0, "1049.75\n", "")
    assert atm("open", "42", "--balance", "5") == (0, "5.00\n", "")
    assert atm("open", "overdrawn", "--balance", "-5.5") == (0, "-5.50\n", "")
    assert atm("open", "empty") == (0, "0.00\n", "")


def test_json_output_is_exact(atm: Atm) -> None:
    limits = '"overdraft_limit":0.50,"withdrawal_limit":null'
    for command, output in (
        ("open 42 --balance 5", '{"account_number":"42","balance":5.00,"entry":1}'),
        ("deposit 42 0.10", '{"account_number":"42","balance":5.10,"entry":2}'),
        ("withdraw 42 5.1", '{"account_number":"42","balance":0.00,"entry":3}'),
        ("balance 42", '{"account_number":"42","balance":0.00}'),
        (
            "limits 42 --overdraft-limit 0.5 --withdrawal-limit none",
            f'{{"account_number":"42","balance":0.00,"available":0.50,{limits},"closed":false,"entry":4}}',
        ),
        ("close 42", f'{{"account_number":"42","balance":0.00,"available":0.00,{limits},"closed":true,"entry":5}}'),
        ("show 42", f'{{"account_number":"42","balance":0.00,"available":0.00,{limits},"closed":true}}'),
        ("reopen 42", f'{{"account_number":"42","balance":0.00,"available":0.50,{limits},"closed":false,"entry":6}}'),
    ):
        assert atm(*command.split(), "--json") == (0, f"{output}\n", "")


def test_show_prints_every_fact_of_an_account(atm: Atm) -> None:
    atm("open", "42", "--balance", "-5", "--overdraft-limit", "100", "--withdrawal-limit", "20.5")
    assert atm("show", "42") == (
        0,
        "Account           42\n"
        "Balance           -5.00\n"
        "Available         95.00\n"
        "Overdraft limit   100.00\n"
        "Withdrawal limit  20.50\n"
        "Status            open\n",
        "",
    )


def test_limits_apply_to_withdrawals(atm: Atm) -> None:
    atm("open", "42", "--balance", "5", "--overdraft-limit", "0", "--withdrawal-limit", "4")
    code, output, message = atm("withdraw", "42", "4.01")
    assert (code, output) == (3, "")
    assert message == "atm: One withdrawal from account 42 can take at most 4.00. Nothing was changed.\n"
    assert atm("withdraw", "42", "4") == (0, "1.00\n", "")
    code, output, message = atm("withdraw", "42", "1.01")
    assert (code, output) == (3, "")
    assert message == "atm: At most 1.00 can be withdrawn from account 42 now. Nothing was changed.\n"
    code, output, _ = atm("limits", "42", "--overdraft-limit", "500", "--withdrawal-limit", "none")
    assert code == 0
    assert "Overdraft limit   500.00\nWithdrawal limit  unlimited\n" in output
    assert atm("withdraw", "42", "501") == (0, "-500.00\n", "")


@pytest.mark.parametrize(
    ("given", "missing"),
    [("--overdraft-limit 5", "--withdrawal-limit"), ("--withdrawal-limit none", "--overdraft-limit")],
)
def test_limits_must_be_given_together(atm: Atm, given: str, missing: str) -> None:
    atm.assert_fails(
        f"limits 0 {given}",
        2,
        f"Invalid value for '{missing}': it is missing. The command replaces both limits, so give both: an amount, "
        "or none for unlimited.",
    )
    assert "Overdraft limit   unlimited\n" in atm("show", "0")[1]


def test_closed_account_can_be_read_and_reopened(atm: Atm) -> None:
    atm("open", "42", "--balance", "5")
    assert atm("close", "42")[0] == 3
    atm("withdraw", "42", "5")
    code, output, _ = atm("close", "42")
    assert (code, "Status            closed\n" in output) == (0, True)
    for command in ("deposit 42 1", "withdraw 42 1", "close 42"):
        assert atm(*command.split()) == (3, "", "atm: Account 42 is closed. Nothing was changed.\n")
    assert atm("balance", "42") == (0, "0.00\n", "")
    code, output, _ = atm("reopen", "42")
    assert (code, "Status            open\n" in output) == (0, True)
    assert atm("deposit", "42", "1") == (0, "1.00\n", "")


def test_every_change_takes_a_key_and_a_note(atm: Atm) -> None:
    changes = [
        "open 42 --balance 5",
        "deposit 42 0.10",
        "withdraw 42 5.1",
        "limits 42 --overdraft-limit 1 --withdrawal-limit 2",
        "close 42",
        "reopen 42",
    ]
    for change in changes:
        command = [*change.split(), "--key", f"key of {change}", "--note", f"note of {change}"]
        first = atm(*command)
        assert first[0] == 0
        assert atm(*command) == first
    rows = [line.split("\t") for line in atm("history", "42")[1].splitlines()]
    assert [row[5].rpartition("; ")[2] for row in reversed(rows)] == [f"note of {change}" for change in changes]


def test_key_is_refused_for_another_transaction(atm: Atm) -> None:
    assert atm("deposit", "0", "100", "--key", "k")[1] == "1100.00\n"
    assert atm("deposit", "0", "100.00", "--key", "k")[1] == "1100.00\n"
    for command in (["withdraw", "0", "100"], ["deposit", "0", "100", "--note", "a note"]):
        code, output, message = atm(*command, "--key", "k")
        assert (code, output) == (3, "")
        assert "'k' was used on account 0 for another transaction" in message


def test_concurrent_buyers_do_not_overdraw(atm: Atm) -> None:
    atm("open", "42", "--balance", "10", "--overdraft-limit", "0")
    with ThreadPoolExecutor(20) as buyers:
        results = list(buyers.map(lambda _: atm("withdraw", "42", "6"), range(20)))
    refused = (3, "", "atm: At most 4.00 can be withdrawn from account 42 now. Nothing was changed.\n")
    assert sorted(results) == [(0, "4.00\n", ""), *[refused] * 19]
    assert atm("balance", "42") == (0, "4.00\n", "")


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
        ("open 2 --overdraft-limit -5", 2, "atm: The overdraft limit '-5' must not be negative"),
        ("open 2 --withdrawal-limit unlimited", 2, "atm: The withdrawal limit 'unlimited' is not a plain decimal"),
        ("limits 0 --overdraft-limit 0.001 --withdrawal-limit none", 2, "at most two decimals"),
        ("deposit 0 1 --note=", 2, "atm: The note '' must be a string of 1 to 140 characters"),
        ("close 0", 3, "atm: Account 0 has a balance of 1000.00. Only an account with a balance of zero can be"),
        ("reopen 0", 3, "atm: Account 0 is not closed."),
        ("history 0 --limit 0", 2, "atm: The argument limit (0) must be a whole number from 1 to 1,000."),
        ("history 0 --before x", 2, "Invalid value for '--before'"),
        ("history 9", 3, "atm: There is no account 9."),
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
    "command",
    [
        "deposit --help 5",
        "withdraw -h 5",
        "balance --help 5",
        "open --help --balance 5",
        "deposit -- -h 5",
        "close -h --json",
    ],
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
    atm.init("my$accounts.db")
    for command, hint in (
        ("balance 9", "atm accounts"),
        ("deposit 9 5 --store memory:", "atm accounts --store memory:"),
        ("withdraw 9 5 --store sqlite:///my$accounts.db", "atm accounts --store 'sqlite:///my$accounts.db'"),
    ):
        assert atm(*command.split())[2] == f"atm: There is no account 9. To list the accounts: {hint}\n"


def test_unknown_account_error_hides_password_of_store(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        atm.init(url)
        message = atm("balance", "9", "--store", url.replace("postgres@", "postgres:secret@"))[2]
    assert "To list the accounts: atm accounts --store 'postgresql://postgres:***@" in message


def test_unprinted_result_is_reported_with_the_new_balance(atm: Atm) -> None:
    code, message = atm.with_full_disk("deposit", "0", "5")
    assert code == 1
    assert message == "atm: Done (1005.00), but the result could not be printed: No space left on device.\n"


def fill(atm: Atm) -> None:
    """Open account 42, and record four more entries, the last with a note."""
    for command in ("open 42 --balance 5", "deposit 42 10.50", "withdraw 42 3", "deposit 42 1"):
        assert atm(*command.split())[0] == 0
    assert atm("limits", "42", "--overdraft-limit", "0", "--withdrawal-limit", "none", "--note", "order 7")[0] == 0


def test_history_is_tab_separated_in_a_pipe(atm: Atm) -> None:
    fill(atm)
    code, output, _ = atm("history", "42")
    rows = [line.split("\t") for line in output.splitlines()]
    assert code == 0
    assert [[entry, *facts] for entry, _, *facts in rows] == [
        ["5", "limit-change", "", "13.50", "overdraft limit 0.00, withdrawal limit unlimited; order 7"],
        ["4", "deposit", "1.00", "13.50", ""],
        ["3", "withdrawal", "-3.00", "12.50", ""],
        ["2", "deposit", "10.50", "15.50", ""],
        ["1", "opening", "5.00", "5.00", ""],
    ]
    times = [row[1] for row in rows]
    assert times == sorted(times, reverse=True)
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)


def test_history_has_pages(atm: Atm) -> None:
    fill(atm)
    pages = [atm("history", "42", "--limit", "2", *before)[1] for before in ([], ["--before", "4"], ["--before", "2"])]
    assert "".join(pages) == atm("history", "42")[1]
    assert atm("history", "42", "--before", "1") == (0, "", "")


def test_history_in_json_names_the_next_page(atm: Atm) -> None:
    fill(atm)
    code, output, _ = atm("history", "42", "--limit", "2", "--json")
    page = json.loads(output, parse_float=str)
    assert (code, page["account_number"], page["next"]) == (0, "42", "/accounts/42/history?before=4&limit=2")
    assert [(entry["entry"], entry["amount"], entry["note"]) for entry in page["entries"]] == [
        (5, None, "order 7"),
        (4, "1.00", None),
    ]
    assert json.loads(atm("history", "42", "--limit", "2", "--before", "3", "--json")[1])["next"] is None


def test_json_is_that_of_the_http_api(atm: Atm, tmp_path: Path) -> None:
    with running_server("memory:", tmp_path) as server:
        atm.environment["ATM_STORE"] = server.address
        fill(atm)
        for command, path in (
            ("balance 42", "/accounts/42/balance"),
            ("show 42", "/accounts/42"),
            ("history 42 --limit 3", "/accounts/42/history?limit=3"),
            ("history 42 --limit 3 --before 3", "/accounts/42/history?limit=3&before=3"),
        ):
            assert atm(*command.split(), "--json") == (0, f"{httpx.get(server.address + path).text}\n", "")


def test_history_is_a_table_in_a_terminal(atm: Atm) -> None:
    fill(atm)
    shown = atm.in_terminal("history", "42", "--limit", "3", "--store", str(atm.default_store)).splitlines()
    assert [re.sub(r"20\S{21}Z|Time {20}", "T", line) for line in shown] == [
        "Entry  T  Kind          Amount  Balance  Note",
        "    5  T  limit-change            13.50  overdraft limit 0.00, withdrawal limit unlimited; order 7",
        "    4  T  deposit         1.00    13.50",
        "    3  T  withdrawal     -3.00    12.50",
        f"Older entries: atm history 42 --limit 3 --store {atm.default_store} --before 3",
    ]
    assert "Older" not in atm.in_terminal("history", "42")


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
