"""The parts that all commands share: help, stores, usage errors and output."""

import re
from importlib.metadata import version
from typing import Any

import pytest
from support.cli import Atm
from typer.main import get_command

from atm_adapters.front_ends.cli import app

GROUP: Any = get_command(app)
TOKEN_COMMANDS = [f"token {name}" for name in GROUP.commands["token"].commands]
COMMANDS = [*(name for name in GROUP.commands if name != "token"), *TOKEN_COMMANDS]
USES_SERVERS = [command for command in COMMANDS if command not in TOKEN_COMMANDS]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_overview_lists_every_command(atm: Atm, option: str) -> None:
    code, output, _ = atm(option)
    assert code == 0
    for command in GROUP.commands:
        assert f"│ {command} " in output
    assert "Exit codes" in output


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(atm: Atm, command: str, option: str) -> None:
    code, output, _ = atm(*command.split(), option)
    assert code == 0
    assert f"Example: atm {command}" in output
    assert ("--token-file" in output) == (command in USES_SERVERS)
    if command in TOKEN_COMMANDS:
        assert output.count("[env var: ATM_TOKENS_FILE]") == 1
    elif command != "check":
        assert "--store" in output
        assert output.count("[env var: ATM_STORE]") == 1


@pytest.mark.parametrize("command", ["", "serve", "token"])
def test_help_is_readable_in_80_columns(atm: Atm, command: str) -> None:
    atm.environment["COLUMNS"] = "80"
    code, output, _ = atm(*command.split(), "-h")
    assert code == 0
    assert max(map(len, output.splitlines())) <= 80
    assert re.findall(r"[<{]|TEXT|INTEGER|(?<!out of )range", output) == []


def test_version_is_that_of_the_package(atm: Atm) -> None:
    assert atm("--version") == (0, f"atm {version('mini-atm')}\n", "")


def test_shell_completes_commands(atm: Atm) -> None:
    atm.environment |= {"_ATM_COMPLETE": "complete_bash", "COMP_WORDS": "atm de", "COMP_CWORD": "1"}
    code, output, _ = atm()
    assert (code, output.strip()) == (0, "deposit")


def test_store_option_overrides_the_environment(atm: Atm) -> None:
    atm.init("one.db")
    atm("deposit", "0", "1", "--store", "one.db")
    assert atm("balance", "0", "--store", "sqlite:///one.db")[1] == "1001.00\n"
    atm.environment["ATM_STORE"] = "one.db"
    assert atm("balance", "0")[1] == "1001.00\n"
    assert atm("balance", "0", "--store", "memory:")[1] == "1000.00\n"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("balance 0 --nope", 2, "No such option: --nope"),
        ("transfer 0 1 5", 2, "No such command 'transfer'"),
        ("acounts", 2, "Did you mean 'accounts'?"),
        ("balance 0 --store redis://x", 2, "'redis://x' is not a store URL. Use memory:, a file path, sqlite:///path"),
        ("balance 0 --store ./", 2, "A path that ends in a slash is a folder. Name a file in it."),
        ("balance 0 --store .", 4, "it is a folder, not a file"),
        ("balance 0 --store nowhere/x.db", 4, "there is no folder "),
        (
            "balance 0 --store postgresql://atm:secret@127.0.0.1:1/atm",
            4,
            "atm: The store postgresql://atm:***@127.0.0.1:1",
        ),
    ],
)
def test_wrong_usage_and_unusable_store_are_explained(atm: Atm, command: str, code: int, message: str) -> None:
    atm.assert_fails(command, code, message)


@pytest.mark.parametrize("command", ["--help", "accounts", "export", "verify", "balance --help"])
def test_unwritable_output_is_reported_in_one_line(atm: Atm, command: str) -> None:
    assert atm("balance", "0")[0] == 0  # creates the file
    code, message = atm.with_full_disk(*command.split())
    assert code == 1
    assert message == "atm: The output could not be written: No space left on device.\n"
