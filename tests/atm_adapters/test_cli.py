"""The ``atm`` command, as a person or a script types it."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.server import ATM


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
        ("balance 9", 3, "atm: There is no account 9."),
        ("deposit 9 5", 3, "atm: There is no account 9."),
        ("open 0", 3, "atm: Account 0 exists already."),
        ("deposit 0 9999999999999.99", 3, "atm: The balance of account 0 would leave the range"),
        ("balance 0 --store nowhere/x.db", 4, "there is no folder "),
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
    for command in ("balance", "deposit", "withdraw", "open", "serve", "check"):
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


def test_reading_a_balance_imports_neither_litestar_nor_uvicorn(environment: dict[str, str]) -> None:
    program = """
import sys
from atm_adapters.cli import app
try:
    app(["balance", "0"])
except SystemExit as end:
    assert not end.code
print(sorted({name.partition(".")[0] for name in sys.modules} & {"litestar", "uvicorn", "asyncio", "msgspec", "httpx"}))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout == "1000.00\n[]\n"
