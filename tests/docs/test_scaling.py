"""The commands of docs/scaling.md that need a database do what the page says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from support.documentation import blocks, commands
from support.postgres import Postgres

from atm_adapters import open_store
from atm_core import close_account, deposit, get_account, open_account, read_history, withdraw

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.fixture
def host(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with the page's roles and its database, which is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{postgres.programs}:{os.environ['PATH']}")
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE atm_owner LOGIN")
        admin.execute("CREATE ROLE atm LOGIN")
        admin.execute("CREATE DATABASE atm OWNER atm_owner ENCODING 'UTF8' TEMPLATE template0")
        yield f"127.0.0.1:{postgres.port}"
        admin.execute("DROP DATABASE atm WITH (FORCE)")
        admin.execute("DROP ROLE atm_owner")
        admin.execute("DROP ROLE atm")


def run(program: str, host: str) -> None:
    """Run the page's commands of a program, with this server in the place of the page's."""
    found = [command.text for block in blocks(PAGE) for command in commands(block) if command.text.startswith(program)]
    assert found, program
    for text in found:
        shown = text.replace("db.internal", host).replace("?sslmode=verify-full", "")
        subprocess.run(["/bin/sh", "-ec", shown], check=True, timeout=60)  # noqa: S603 - our own page


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount = 0",
        "DELETE FROM entry",
        "DELETE FROM account",
        "UPDATE mini_atm SET schema_version = 0",
    ],
)
def test_role_of_servers_cannot_rewrite_the_journal(host: str, statement: LiteralString) -> None:
    run("atm init --store 'postgresql:", host)
    run("psql ", host)
    with psycopg.connect(f"postgresql://atm@{host}/atm") as server, pytest.raises(psycopg.errors.InsufficientPrivilege):
        server.execute(statement)


def test_role_of_servers_can_do_everything_else(host: str) -> None:
    run("atm init --store 'postgresql:", host)
    run("psql ", host)
    with open_store(f"postgresql://atm@{host}/atm") as accounts:
        open_account(accounts, "42", 5)
        assert deposit(accounts, "42", 1, "key") == deposit(accounts, "42", 1, "key")
        assert len(read_history(accounts, "42").entries) == 2
        assert accounts.durability().store == "postgresql"  # type: ignore[attr-defined]
        assert [found.is_consistent for found in accounts.audit()] == [True]  # type: ignore[attr-defined]


def test_moving_keeps_balances_history_and_keys(host: str) -> None:
    with open_store("accounts.sqlite3", create=True) as old:
        open_account(old, "42", 5, overdraft_limit=0, note="prepaid card")
        open_account(old, "43")
        close_account(old, "43")
        first = withdraw(old, "42", 2, "order-1")
        history = read_history(old, "42").entries
    for program in ("atm init --store 'postgresql:", "atm export ", "atm verify "):
        run(program, host)
    with open_store(f"postgresql://atm_owner@{host}/atm") as new:
        assert withdraw(new, "42", 2, "order-1") == first
        assert get_account(new, "42").available == 3
        assert get_account(new, "43").closed
        assert read_history(new, "42").entries == history
