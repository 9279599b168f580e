"""Failures as JSON, for programs that run the ``atm`` command, and outputs that cannot be written."""

import json
import subprocess

import pytest
from support.atm_process import ATM
from support.cli import Atm


def error_of(result: tuple[int, str, str]) -> tuple[int, dict[str, object]]:
    """Return the exit code and the error of a command that printed only this error."""
    code, output, message = result
    assert output == ""
    assert message.count("\n") == 1
    document = json.loads(message)
    assert set(document) == {"error"}
    return code, document["error"]


@pytest.mark.parametrize(
    ("command", "code", "facts"),
    [
        ("withdraw low 10.01", 3, {"code": "insufficient-funds", "account_number": "low", "available": "10.00"}),
        ("withdraw low 21", 3, {"code": "withdrawal-limit-exceeded", "account_number": "low", "limit": "20.00"}),
        ("close low", 3, {"code": "balance-not-zero", "account_number": "low", "balance": "10.00"}),
        ("balance 9", 3, {"code": "account-not-found", "account_number": "9"}),
        ("deposit low 2 --key k", 3, {"code": "key-reused", "account_number": "low", "key": "k"}),
        ("open 2 --balance x", 2, {"code": "invalid-amount", "parameter": "balance"}),
        ("history low --limit 0", 2, {"code": "invalid-page", "parameter": "limit"}),
        ("balance 0 --store .", 4, {"code": "store-unavailable", "reason": "it is a folder, not a file"}),
        ("balance 0 --store redis://x", 2, {"code": "unknown-store", "url": "redis://x"}),
        ("balance 0 --store typo.db", 4, {"code": "store-not-initialized", "schema_version": 0}),
        ("verify --store memory:", 2, {"code": "not-supported"}),
        ("import journal.jsonl", 2, {"code": "unreadable-file"}),
        ("import /dev/null", 3, {"code": "store-not-empty"}),
        ("backup .", 3, {"code": "file-exists"}),
        ("deposit low", 2, {"code": "wrong-usage"}),
        ("deposit low 1 --keyy=k", 2, {"code": "wrong-usage"}),
        ("deposit -- -5 1", 2, {"code": "wrong-usage"}),
        ("dposit low 1", 2, {"code": "wrong-usage"}),
        ("check http://127.0.0.1:1", 4, {"code": "server-unreachable"}),
        ("check nowhere", 2, {"code": "wrong-usage"}),
    ],
)
def test_failure_is_one_json_object(atm: Atm, command: str, code: int, facts: dict[str, object]) -> None:
    atm("open", "low", "--balance", "9", "--overdraft-limit", "0", "--withdrawal-limit", "20")
    atm("deposit", "low", "1", "--key", "k")
    name, *arguments = command.split()
    exit_code, error = error_of(atm(name, "--json", *arguments))
    assert exit_code == code
    assert error.pop("detail") != ""
    assert error == error | facts


def test_rejected_input_is_no_fact(atm: Atm) -> None:
    _, error = error_of(atm("deposit", "0", "1e5", "--json"))
    assert set(error) == {"code", "detail", "parameter", "reason"}


def test_unwritable_output_is_reported_in_json(atm: Atm) -> None:
    code, message = atm.with_full_disk("deposit", "0", "5", "--json")
    assert (code, json.loads(message)["error"]["code"]) == (1, "output-failed")
    code, message = atm.with_full_disk("accounts", "--json")
    assert (code, json.loads(message)["error"]["code"]) == (1, "output-failed")


@pytest.mark.parametrize("command", ["accounts", "history 0", "verify", "export", "balance 0"])
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_output_causes_no_traceback(atm: Atm, command: str, closed: str) -> None:
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/sh", "-c", f"{ATM} {command} {closed}"], env=atm.environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_note_that_the_terminal_cannot_encode_is_escaped(atm: Atm) -> None:
    atm("deposit", "0", "1", "--note", "漢")
    atm.environment["PYTHONIOENCODING"] = "latin-1"
    code, output, error = atm("history", "0")
    assert (code, error) == (0, "")
    assert r"\u6f22" in output
