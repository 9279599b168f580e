"""Ctrl-C and SIGTERM during the commands that change a store, and during a backup."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from support.atm_process import AtmProcess
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from support.waiting import until

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
UNKNOWN_IMPORT = "It is not known whether the journal was imported."
NOT_KNOWN = "failed while it committed (it was interrupted). It is not known whether"

# Runs the command in argv[4:], and sends it the signal argv[1] at an event of sys.setprofile() in a function.
SIGNALLED = """
import os, sys
from atm_adapters.front_ends.cli import app

signal, event, function, *arguments = sys.argv[1:]

def send(frame, kind, _):
    if kind == event and frame.f_code.co_name == function:
        sys.setprofile(None)
        os.kill(os.getpid(), int(signal))

sys.setprofile(send)
app(arguments)
"""


def signalled(atm: Atm, number: int, event: str, function: str, command: str) -> tuple[int, str, str]:
    """Run a command that gets the signal at this event, and return its exit code, output and errors."""
    atm.init("a.db")
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", SIGNALLED, str(number), event, function, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env=atm.environment,
        cwd=atm.folder,
    )
    return done.returncode, done.stdout, done.stderr


@SIGNALS
@pytest.mark.parametrize(
    ("event", "function", "balance"),
    [("call", "execute_batch", "1000.00\n"), ("return", "_write", "1000.00\n"), ("return", "execute", "1005.00\n")],
    ids=["before the change", "during it", "after the commit"],
)
def test_interrupted_deposit_names_the_key_that_settles_it(
    atm: Atm, number: int, event: str, function: str, balance: str
) -> None:
    code, output, error = signalled(atm, number, event, function, "deposit 0 5 --store a.db")
    assert (code, output) == (5, "")
    assert NOT_KNOWN in error
    (key,) = re.findall(r"with the idempotency key '([0-9a-f]{32})'", error)
    assert atm("balance", "0", "--store", "a.db")[1] == balance
    assert atm("deposit", "0", "5", "--key", key, "--store", "a.db") == (0, "1005.00\n", "")
    assert atm("balance", "0", "--store", "a.db")[1] == "1005.00\n"


@SIGNALS
def test_interrupted_withdrawal_names_the_given_key(atm: Atm, number: int) -> None:
    code, output, error = signalled(atm, number, "return", "execute", "withdraw 0 5 --key rent --json --store a.db")
    assert (code, output) == (5, "")
    assert "with the idempotency key 'rent'" in error
    assert json.loads(error)["error"]["key"] == "rent"
    assert atm("withdraw", "0", "5", "--key", "rent", "--store", "a.db")[1] == "995.00\n"


@SIGNALS
@pytest.mark.parametrize("command", ["open 42", "limits 0 --overdraft-limit 1 --withdrawal-limit 1"])
def test_every_interrupted_change_can_be_repeated(atm: Atm, number: int, command: str) -> None:
    code, output, error = signalled(atm, number, "return", "execute", f"{command} --store a.db --json")
    assert (code, output) == (5, "")
    key = json.loads(error)["error"]["key"]
    assert len(key) == 32
    first = atm(*command.split(), "--key", key, "--store", "a.db")
    assert first[0] == 0
    assert atm(*command.split(), "--key", key, "--store", "a.db") == first
    account_number = command.split()[1]
    changes = 2 if account_number == "0" else 1
    assert len(atm("history", account_number, "--store", "a.db")[1].splitlines()) == changes


@SIGNALS
@pytest.mark.parametrize(("event", "function"), [("call", "_print_balance"), ("return", "echo"), ("call", "close")])
def test_signal_after_the_answer_does_not_hide_it(atm: Atm, number: int, event: str, function: str) -> None:
    done = signalled(atm, number, event, function, "deposit 0 5 --store a.db")
    assert done == (0, "1005.00\n", "")


@pytest.mark.parametrize("function", ["open_store", "deposit"])
def test_ctrl_c_before_the_store_is_called_exits_130(atm: Atm, function: str) -> None:
    done = signalled(atm, signal.SIGINT, "call", function, "deposit 0 5 --store a.db")
    assert done == (130, "", "")
    assert atm("balance", "0", "--store", "a.db")[1] == "1000.00\n"


def test_signal_that_the_parent_ignores_is_ignored(atm: Atm) -> None:
    program = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{SIGNALLED}"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, str(int(signal.SIGINT)), "call", "execute_batch", "deposit", "0", "5"],
        capture_output=True,
        text=True,
        timeout=60,
        env=atm.environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1005.00\n", "")


@SIGNALS
@pytest.mark.parametrize(
    ("event", "function", "code", "message", "is_filled"),
    [
        ("call", "decode_entry", 130, "Nothing was imported: the store new.db is still empty.", False),
        ("return", "write_entries", 5, f"{UNKNOWN_IMPORT} Import it again: a store that has it refuses it.", False),
        ("return", "import_entries", 5, UNKNOWN_IMPORT, True),
        ("call", "import_report", 0, "", True),
    ],
    ids=["while it reads", "before the commit", "after the commit", "after the import"],
)
def test_interrupted_import_says_what_is_known(
    atm: Atm, number: int, event: str, function: str, code: int, message: str, is_filled: bool
) -> None:
    (atm.folder / "journal.jsonl").write_text(atm("export")[1])
    atm("init", "--store", "new.db")
    done = signalled(atm, number, event, function, "import journal.jsonl --store new.db")
    assert (done[0], message in done[2]) == (code, True)
    assert done[1] == ("" if code else "Imported 2 entries of 2 accounts.\n")
    assert (atm("accounts", "--store", "new.db")[1] != "") == is_filled


@SIGNALS
@pytest.mark.parametrize("function", ["back_up", "audit_copy", "count_accounts"])
def test_interrupted_backup_writes_no_file(atm: Atm, number: int, function: str) -> None:
    done = signalled(atm, number, "call", function, "backup copy.db --store a.db")
    assert done == (130, "", "")
    assert sorted(path.name for path in atm.folder.iterdir()) == ["a.db"]


@contextmanager
def waiting_command(atm: Atm, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a command, and kill it at the end if it still runs."""
    with AtmProcess(
        *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=atm.environment, cwd=atm.folder
    ) as command:
        try:
            yield command
        finally:
            command.kill()


@SIGNALS
def test_deposit_that_waits_for_postgresql_can_be_interrupted(atm: Atm, postgres: Postgres, number: int) -> None:
    with fresh_schema(postgres) as url:
        atm.init(url)
        with psycopg.connect(url) as other:
            other.execute("SELECT 1 FROM account WHERE account_number = '0' FOR UPDATE")
            with waiting_command(atm, "deposit", "0", "5", "--store", url) as command:
                with psycopg.connect(url, autocommit=True) as observer:
                    waiters = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    until(lambda: observer.execute(waiters).fetchone() is not None)
                command.send_signal(number)
                output, error = command.communicate(timeout=30)
        assert (command.returncode, output) == (5, "")
        assert NOT_KNOWN in error
        (key,) = re.findall(r"with the idempotency key '([0-9a-f]{32})'", error)
        assert atm("deposit", "0", "5", "--key", key, "--store", url)[1] == "1005.00\n"


def test_ctrl_c_while_the_store_is_opened_exits_130(atm: Atm) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/atm"
        with waiting_command(atm, "deposit", "0", "5", "--store", url) as command:
            connection, _ = silent.accept()
            with connection:
                command.send_signal(signal.SIGINT)
                output, error = command.communicate(timeout=30)
    assert (command.returncode, output, error) == (130, "", "")
