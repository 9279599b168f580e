"""The command ``atm backup``."""

import json
import sqlite3
import stat
from contextlib import closing

import pytest
from support.cli import Atm
from support.postgres import Postgres, fresh_schema


@pytest.fixture
def files(atm: Atm) -> set[str]:
    """Create a store, and return the names of all files in its folder."""
    atm.init("a.db")
    atm("deposit", "0", "5", "--key", "k", "--store", "a.db")
    return {path.name for path in atm.folder.iterdir()}


def damage(atm: Atm) -> None:
    with closing(sqlite3.connect(atm.folder / "a.db")) as connection:
        connection.execute("UPDATE account SET balance = 1 WHERE account_number = '1'")
        connection.commit()


def test_backup_is_the_whole_store_in_a_private_file(atm: Atm, files: set[str]) -> None:
    written = "Backed up 2 accounts to copy.db. Every account matches its journal.\n"
    assert atm("backup", "copy.db", "--store", "a.db") == (0, written, "")
    assert {path.name for path in atm.folder.iterdir()} == files | {"copy.db"}
    assert stat.S_IMODE((atm.folder / "copy.db").stat().st_mode) == 0o600
    assert atm("export", "--store", "copy.db") == atm("export", "--store", "a.db")


def test_existing_file_is_replaced_only_with_force(atm: Atm, files: set[str]) -> None:
    (atm.folder / "copy.db").write_text("precious")
    for options in ([], ["--no-verify"]):
        assert atm("backup", "copy.db", *options, "--store", "a.db") == (
            3,
            "",
            "atm: There is a file copy.db already. Name another one, or replace it with --force.\n",
        )
    assert (atm.folder / "copy.db").read_text() == "precious"
    assert atm("backup", "copy.db", "--force", "--store", "a.db")[0] == 0
    assert atm("balance", "0", "--store", "copy.db") == (0, "1005.00\n", "")
    assert {path.name for path in atm.folder.iterdir()} == files | {"copy.db"}


def test_backup_of_a_damaged_store_writes_no_file(atm: Atm, files: set[str]) -> None:
    damage(atm)
    code, output, error = atm("backup", "copy.db", "--store", "a.db")
    assert (code, output) == (
        1,
        "Account 1: Its balance is 0.01, but its journal leads to 1000.00.\n"
        "Read 2 accounts and 3 journal entries: 1 account failed.\n",
    )
    assert error == (
        "atm: The copy has 1 wrong account, so copy.db was not written. To keep such a copy, use --no-verify.\n"
    )
    assert {path.name for path in atm.folder.iterdir()} == files


def test_no_verify_keeps_a_copy_of_a_damaged_store(atm: Atm, files: set[str]) -> None:
    damage(atm)
    written = "Backed up 2 accounts to copy.db. The copy was not verified.\n"
    assert atm("backup", "copy.db", "--no-verify", "--store", "a.db") == (0, written, "")
    assert {path.name for path in atm.folder.iterdir()} == files | {"copy.db"}
    assert atm("verify", "--store", "copy.db")[0] == 1


@pytest.mark.usefixtures("files")
def test_backup_reports_in_json(atm: Atm) -> None:
    code, output, _ = atm("backup", "copy.db", "--json", "--store", "a.db")
    assert (code, json.loads(output)) == (0, {"file": "copy.db", "accounts": 2, "verified": True})
    damage(atm)
    code, output, error = atm("backup", "copy.db", "--json", "--force", "--store", "a.db")
    assert (code, json.loads(error)["error"]["code"]) == (1, "inconsistent-backup")
    assert [wrong["account_number"] for wrong in json.loads(output)["wrong"]] == ["1"]
    assert atm("verify", "--store", "copy.db")[0] == 0


@pytest.mark.usefixtures("files")
def test_verification_shows_progress_in_a_terminal(atm: Atm) -> None:
    shown = atm.in_terminal("backup", "copy.db", "--store", "a.db")
    assert "Verifying" in shown
    assert shown.endswith("Backed up 2 accounts to copy.db. Every account matches its journal.\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("a.db --force", "name another file for the backup"),
        ("nowhere/copy.db", "there is no folder"),
        (". --force", "it is a folder"),
    ],
)
def test_file_that_cannot_be_written_is_explained(atm: Atm, file: str, message: str) -> None:
    code, output, error = atm("backup", *file.split(), "--store", "a.db")
    assert (code, output) == (4, "")
    assert message in error


def test_other_stores_are_refused(atm: Atm, postgres: Postgres) -> None:
    with fresh_schema(postgres) as url:
        atm("init", "--store", url)
        code, output, error = atm("backup", "copy.db", "--store", url)
    assert (code, output) == (2, "")
    assert "pg_dump copies one database, pg_basebackup a whole server." in error
    for store in ("memory:", "http://127.0.0.1:1"):
        code, output, error = atm("backup", "copy.db", "--store", store)
        assert (code, output) == (2, "")
        assert error.startswith(f"atm: The store {store} is not in a file.")
    assert not (atm.folder / "copy.db").exists()
