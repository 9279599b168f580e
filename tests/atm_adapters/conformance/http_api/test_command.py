"""The command ``atm check``, in a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from support.atm_process import AtmProcess, run_atm
from support.reference_api import ReferenceApi, Request, Response, serving

from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.wire.error_responses import FAILED, INVALID, REFUSED, UNAVAILABLE


class Atm:
    """Runs ``atm check``."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        self.folder = folder

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, standard output, and standard error."""
        done = run_atm("check", *arguments, env=self.environment, cwd=self.folder)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def atm(tmp_path: Path) -> Atm:
    return Atm(tmp_path)


def test_plan_table_and_totals_are_printed(atm: Atm) -> None:
    api = ReferenceApi()
    api.balances["savings"] = Decimal("12.34")
    with serving(api) as address:
        code, output, messages = atm(address, "--account", "0", "--account", "savings")
    assert code == 0
    assert f"Checking {address} with account 0 (balance 1000.00) and account savings (balance 12.34)." in messages
    assert "Do not use the accounts until then." in messages
    assert "All entries stay in the journal for ever, so do not check with accounts of production." in messages
    assert messages.index("Do not use") < messages.index("Restored account savings to a balance of 12.34.")
    for check in CHECKS:
        assert check.name in output
    assert f"{len(CHECKS) - 9} passed, 0 failed, 9 not supported." in output
    assert api.balances == {"0": 1000, "1": 1000, "savings": Decimal("12.34")}


def test_json_report_with_a_failure(atm: Atm) -> None:
    with serving(ReferenceApi("float balances", has_keys=False)) as address:
        code, output, messages = atm(address, "--json")
    assert code == FAILED
    report = json.loads(output)
    assert set(report) == {"server", "accounts", "passed", "failed", "not_supported", "notes", "checks"}
    assert report["server"] == address
    assert report["accounts"][1] == {"account_number": "1", "found": 1000, "left": 1000}
    assert (report["passed"], report["failed"], report["not_supported"]) == (len(CHECKS) - 14, 1, 13)
    assert [check["name"] for check in report["checks"]] == [check.name for check in CHECKS]
    (failed,) = [check for check in report["checks"] if check["outcome"] == "failed"]
    assert failed == {
        "name": "Balances are exact to the cent",
        "outcome": "failed",
        "sent": 'POST /accounts/0/deposit {"amount": 0.10}',
        "received": '200 {"account_number": "0", "balance": 1000.3000000000001}',
        "expected": "a balance of exactly 1000.30",
        "reason": None,
    }
    assert "Checking" in messages


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            "127.0.0.1:8000",
            INVALID,
            "'127.0.0.1:8000' is not the URL of a server. Use a URL like http://127.0.0.1:8000.",
        ),
        ("http://127.0.0.1:1 --account 0", INVALID, "two different accounts are needed"),
        ("http://127.0.0.1:1 --account 0 --account 0", INVALID, "two different accounts are needed"),
        (
            "http://127.0.0.1:1 --account 0 --account a/b",
            INVALID,
            "atm: The account number 'a/b' must be a string of 1 to 64",
        ),
        (
            "http://192.0.2.1",  # an address without a host (RFC 5737)
            INVALID,
            "it is missing. The server is not on this machine, and the check leaves entries in the journal for ever. "
            "Name two accounts that were opened for tests, such as --account test-1 --account test-2.",
        ),
        ("https://atm.example.org:8000/api --account 0", INVALID, "two different accounts are needed"),
        ("http://[::1]:1", UNAVAILABLE, "atm: Cannot check http://[::1]:1: no response ("),
        ("http://localhost:1", UNAVAILABLE, "atm: Cannot check http://localhost:1: no response ("),
        ("http://127.0.0.1:1", UNAVAILABLE, "atm: Cannot check http://127.0.0.1:1: no response (connection refused)."),
        ("http://me:secret@127.0.0.1:1", UNAVAILABLE, "atm: Cannot check http://me:***@127.0.0.1:1: no response ("),
    ],
)
def test_errors_have_a_message_and_an_exit_code(atm: Atm, arguments: str, code: int, message: str) -> None:
    exit_code, output, messages = atm(*arguments.split(" "))
    assert (exit_code, output) == (code, "")
    assert message in " ".join(messages.replace("│", "").split())
    assert code == INVALID or messages.count("\n") == 1


def test_unknown_account_is_refused(atm: Atm) -> None:
    with serving(ReferenceApi()) as address:
        code, output, messages = atm(address, "--account", "0", "--account", "9")
    assert (code, output) == (REFUSED, "")
    assert messages.startswith(
        f"atm: {address} responds with 404 to GET /accounts/9/balance. Name two existing accounts"
    )


def test_ctrl_c_restores_balances_after_a_pending_response(atm: Atm) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def slow_once(api: ReferenceApi, request: Request) -> Response:
        if b'"amount": 0.01}' not in request.body or begun.is_set():
            return await api.respond(request)
        begun.set()
        await asyncio.sleep(0.5)  # Ctrl-C arrives during this deposit
        response = await api.respond(request)
        ended.set()
        return response

    api = ReferenceApi(handler=slow_once)
    with (
        serving(api) as address,
        AtmProcess(
            "check", address, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=atm.environment
        ) as process,
    ):
        assert begun.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=60)
        assert ended.wait(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in messages
    assert "Restored account 0 to a balance of 1000.00." in messages
    assert api.balances == {"0": 1000, "1": 1000}
