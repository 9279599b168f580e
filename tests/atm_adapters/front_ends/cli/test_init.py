"""The command ``atm init``, and stores that other commands refuse until it has run."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from typer.main import get_command

from atm_adapters.front_ends.cli import app

VERSION_1 = Path(__file__).parents[2] / "repositories" / "version_1.sql"
OPENED = "Opened account 0 with 1000.00.\nOpened account 1 with 1000.00.\n"
UP_TO_DATE = "The store x.db exists, and its schema is that of this release.\n"


def make_old(atm: Atm, name: str) -> None:
    """Create a store with the schema of an earlier release."""
    with closing(sqlite3.connect(atm.folder / name)) as connection:
        connection.executescript(VERSION_1.read_text())


def test_new_store_has_no_accounts(atm: Atm) -> None:
    advice = "It has no accounts. To open one: atm open 42 --store x.db\n"
    assert atm("init", "--store", "x.db") == (0, f"Created the store x.db.\n{advice}", "")
    assert atm("accounts", "--store", "x.db") == (0, "", "")
    assert atm("init", "--store", "x.db") == (0, UP_TO_DATE, "")


def test_demo_accounts_are_added_once(atm: Atm) -> None:
    assert atm("init", "--demo", "--store", "x.db") == (0, f"Created the store x.db.\n{OPENED}", "")
    atm("deposit", "1", "5", "--store", "x.db")
    existing = "Account 0 exists already, and was not changed.\nAccount 1 exists already, and was not changed.\n"
    assert atm("init", "--demo", "--store", "x.db") == (0, UP_TO_DATE + existing, "")
    assert atm("accounts", "--store", "x.db")[1] == "0\t1000.00\topen\n1\t1005.00\topen\n"


def test_demo_account_that_is_missing_is_added(atm: Atm) -> None:
    atm("init", "--store", "x.db")
    atm("open", "0", "--store", "x.db")
    added = "Opened account 1 with 1000.00.\nAccount 0 exists already, and was not changed.\n"
    assert atm("init", "--demo", "--store", "x.db") == (0, UP_TO_DATE + added, "")
    assert atm("accounts", "--store", "x.db")[1] == "0\t0.00\topen\n1\t1000.00\topen\n"


@pytest.mark.parametrize("options", [[], ["--demo"]])
def test_default_file_is_created_with_its_accounts(atm: Atm, options: list[str]) -> None:
    assert atm("init", *options) == (0, f"Created the store {atm.default_store}.\n{OPENED}", "")
    assert atm("init")[1] == f"The store {atm.default_store} exists, and its schema is that of this release.\n"


def test_old_store_is_upgraded(atm: Atm) -> None:
    make_old(atm, "old.db")
    assert atm("init", "--store", "old.db") == (0, "Upgraded the store old.db from schema version 1.\n", "")
    assert atm("balance", "0", "--store", "old.db") == (0, "1050.00\n", "")
    assert atm("verify", "--store", "old.db")[0] == 0


def test_init_reports_in_json(atm: Atm) -> None:
    make_old(atm, "old.db")
    for store, options, created, version, opened in (
        ("x.db", [], True, None, []),
        ("x.db", ["--demo"], False, None, ["0", "1"]),
        ("old.db", [], False, 1, []),
    ):
        code, output, _ = atm("init", "--json", "--store", store, *options)
        report = {"store": store, "created": created, "upgraded_from": version, "opened": opened}
        assert (code, json.loads(output)) == (0, report)


def test_postgresql_is_prepared_without_showing_the_password(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        url = url.replace("postgres@", "postgres:secret@")
        assert atm("balance", "0", "--store", url)[0] == 4
        code, output, _ = atm("init", "--demo", "--store", url)
        assert (code, output.splitlines()[1:]) == (0, OPENED.splitlines())
        assert output.startswith("Created the store postgresql://postgres:***@")
        code, output, _ = atm("init", "--store", url)
        assert (code, output.endswith(" exists, and its schema is that of this release.\n")) == (0, True)
        assert atm("balance", "0", "--store", url) == (0, "1000.00\n", "")


def test_concurrent_inits_make_one_store(atm: Atm) -> None:
    with ThreadPoolExecutor(8) as inits:
        results = list(inits.map(lambda _: atm("init", "--demo", "--store", "x.db"), range(8)))
    assert [(code, error) for code, _, error in results] == [(0, "")] * 8
    assert "".join(output for _, output, _ in results).count("Opened account") == 2
    assert atm("accounts", "--store", "x.db")[1] == "0\t1000.00\topen\n1\t1000.00\topen\n"


@pytest.mark.parametrize(
    ("store", "code", "message"),
    [
        ("memory:", 2, "The store memory: exists by itself"),
        ("http://127.0.0.1:1", 2, "The store http://127.0.0.1:1 is a server."),
        ("nowhere/x.db", 4, "there is no folder"),
        (".", 4, "it is a folder, not a file"),
        ("postgresql://atm:secret@127.0.0.1:1/atm", 4, "atm: The store postgresql://atm:***@127.0.0.1:1/atm is un"),
    ],
)
def test_store_that_cannot_be_created_is_explained(atm: Atm, store: str, code: int, message: str) -> None:
    atm.assert_fails(f"init --store {store}", code, message)
    assert sorted(path.name for path in atm.folder.iterdir()) == ["data"]  # of the default store


# Every command that opens a store, with the arguments that it requires.
VALUES = {"ACCOUNT": "0", "AMOUNT": "1"}
ARGUMENTS = {
    "limits": ["0", "--overdraft-limit", "1", "--withdrawal-limit", "1"],
    "import": ["journal.jsonl"],
    "backup": ["copy.db"],
    "serve": ["--port", "0"],
}
COMMANDS = {
    name: [name, *(ARGUMENTS.get(name) or [VALUES[each.metavar] for each in command.params if each.required])]
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined] # a group
    if name != "init" and any("--store" in each.opts for each in command.params)
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("store", "verb"), [("typo.db", "create"), ("old.db", "upgrade")])
def test_store_that_needs_init_is_refused_unchanged(atm: Atm, command: str, store: str, verb: str) -> None:
    make_old(atm, "old.db")
    (atm.folder / "journal.jsonl").write_text('{"accounts":0,"entries":0}\n')
    before = {path: path.read_bytes() for path in atm.folder.iterdir()}
    code, output, error = atm(*COMMANDS[command], "--store", store)
    assert (code, output) == (4, "")
    assert f"(to {verb} it, run: atm init --store {store})" in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in atm.folder.iterdir()} == before


def test_every_command_refuses_postgresql_without_tables(atm: Atm, postgres: Postgres) -> None:
    (atm.folder / "journal.jsonl").write_text('{"accounts":0,"entries":0}\n')
    with fresh_schema(postgres) as url:
        for command in COMMANDS.values():
            code, output, error = atm(*command, "--store", url)
            assert (code, output, "run: atm init --store " in error) == (4, "", True), command


def test_default_file_needs_no_init(atm: Atm) -> None:
    assert atm("balance", "0") == (0, "1000.00\n", "")
    atm.default_store.unlink()
    with closing(sqlite3.connect(atm.default_store)) as connection:
        connection.executescript(VERSION_1.read_text())
    assert atm("balance", "0") == (0, "1050.00\n", "")
