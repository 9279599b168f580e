"""Only a store in memory and the default file exist by themselves. Other stores are created and upgraded on purpose."""

import asyncio
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from inspect import isawaitable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psycopg
import pytest
from support.postgres import fresh_schema
from support.stores import demo_store

from atm_adapters import bootstrap
from atm_adapters.bootstrap import (
    DEMO_ACCOUNTS,
    default_store_url,
    init_store,
    open_async_store,
    open_store,
    open_threaded_store,
    redact_url,
)
from atm_adapters.repositories import sqlite
from atm_core import Account, StoreNotInitialized, StoreUnavailable, deposit, get_account
from atm_core.ports import ListableStore

REPOSITORIES = Path(__file__).with_name("repositories")

every_opener = pytest.mark.parametrize("open_", [open_store, open_threaded_store, open_async_store])


class Uninitialized(NamedTuple):
    """A store that does not exist or has an older schema, and the reason why it is refused."""

    url: str
    reason: str
    schema_version: int
    contents: Callable[[], object]


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the user data folder and the current folder empty ones of this test."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("ATM_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(params=["missing file", "empty file", "older file", "empty database", "older database"])
def store(request: pytest.FixtureRequest) -> Iterator[Uninitialized]:
    """Yield a store that must be created or upgraded."""
    state, _, place = request.param.partition(" ")
    if place == "file":
        yield _file(state)
        return
    with fresh_schema(request.getfixturevalue("postgres")) as url:
        if state == "older":
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute((REPOSITORIES / "postgres_version_1.sql").read_text())
            yield Uninitialized(url, "its schema has version 1, older than 2", 1, lambda: _tables(url))
        else:
            yield Uninitialized(url, "it has no tables", 0, lambda: _tables(url))


def _file(state: str) -> Uninitialized:
    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in Path.cwd().iterdir()}

    if state == "missing":
        return Uninitialized("x.db", "there is no such file", 0, files)
    if state == "empty":
        Path("x.db").touch()
        return Uninitialized("x.db", "the file is empty", 0, files)
    make_version_1(Path("x.db"))
    return Uninitialized("x.db", "its schema has version 1, older than 2", 1, files)


def make_version_1(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((REPOSITORIES / "version_1.sql").read_text())


def _tables(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as admin:
        tables = "SELECT relname, relnatts FROM pg_class WHERE relnamespace = current_schema::regnamespace ORDER BY 1"
        return admin.execute(tables).fetchall()


def close(store: Any) -> None:
    async def run() -> None:
        closed = store.close()
        if isawaitable(closed):
            await closed

    asyncio.run(run())


def accounts_of(url: str | None) -> list[Account]:
    with open_store(url) as store:
        assert isinstance(store, ListableStore)
        return store.list_accounts("", 10)


@every_opener
def test_uninitialized_store_is_refused_unchanged_with_the_command_that_helps(
    open_: Callable[..., Any], store: Uninitialized
) -> None:
    before = store.contents()
    with pytest.raises(StoreNotInitialized) as refusal:
        open_(store.url)
    verb = "upgrade" if store.schema_version else "create"
    command = f"atm init --store {shlex.quote(redact_url(store.url))}"
    assert refusal.value.reason == f"{store.reason} (to {verb} it, run: {command})"
    assert refusal.value.schema_version == store.schema_version
    assert store.contents() == before


@every_opener
def test_store_is_created_or_upgraded_without_new_accounts(open_: Callable[..., Any], store: Uninitialized) -> None:
    close(open_(store.url, create=True))
    accounts = accounts_of(store.url)
    assert bool(accounts) == bool(store.schema_version)
    close(open_(store.url, create=True))
    close(open_(store.url))
    assert accounts_of(store.url) == accounts


def test_init_returns_what_it_did(store: Uninitialized) -> None:
    assert [init_store(store.url) for _ in range(3)] == [store.schema_version, None, None]


@pytest.mark.parametrize("store", ["empty database"], indirect=True)
def test_password_is_not_in_the_command_that_helps(store: Uninitialized) -> None:
    with pytest.raises(StoreNotInitialized, match=r"--store 'postgresql://postgres:\*\*\*@") as refusal:
        open_store(store.url.replace("postgres@", "postgres:sesame@", 1))
    assert "sesame" not in str(refusal.value)


def test_missing_store_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_STORE", "typo.db")
    with pytest.raises(StoreNotInitialized, match=r"\(to create it, run: atm init\)"):
        open_store()
    assert list(Path.cwd().iterdir()) == []


def test_file_in_a_missing_folder_is_refused_also_with_create() -> None:
    with pytest.raises(StoreNotInitialized, match="there is no folder"):
        open_store("nowhere/x.db")
    with pytest.raises(StoreUnavailable, match="there is no folder"):
        open_store("nowhere/x.db", create=True)
    assert list(Path.cwd().iterdir()) == []


every_name = pytest.mark.parametrize("name", [None, "{}", "sqlite:///{}"], ids=["no name", "path", "URL"])


@every_opener
@every_name
def test_default_file_comes_with_two_accounts(open_: Callable[..., Any], name: str | None) -> None:
    url = name and name.format(default_store_url())
    close(open_(url))
    assert accounts_of(url) == list(DEMO_ACCOUNTS)
    close(open_(url, create=True))
    assert accounts_of(url) == list(DEMO_ACCOUNTS)


@every_opener
@every_name
def test_default_file_is_upgraded_when_opened(open_: Callable[..., Any], name: str | None) -> None:
    make_version_1(Path(default_store_url()))
    close(open_(name and name.format(default_store_url())))
    assert [str(account.balance) for account in accounts_of(None)] == ["1050.00", "-899.90", "0.00", "-2.50"]


@every_opener
def test_default_file_is_not_created_if_the_caller_forbids_it(open_: Callable[..., Any]) -> None:
    file = Path(default_store_url())
    with pytest.raises(StoreNotInitialized, match="there is no such file"):
        open_(create=False)
    assert list(file.parent.iterdir()) == []


def test_file_beside_the_default_file_does_not_exist_by_itself() -> None:
    with pytest.raises(StoreNotInitialized):
        open_store(f"{default_store_url()}.copy")


def test_created_folder_and_files_are_private(data_folder: Path) -> None:
    old_mask = os.umask(0)
    try:
        with open_store() as accounts, open_store("x.db", create=True):
            deposit(accounts, "0", 1)
            modes = {file.name: file.stat().st_mode & 0o777 for file in (*data_folder.glob("**/*"), *Path().iterdir())}
    finally:
        os.umask(old_mask)
    assert modes.pop("mini-atm") == 0o700
    assert {name.partition("-")[0] for name in modes} == {"accounts.sqlite3", "x.db"}
    assert set(modes.values()) == {0o600}, modes


def test_demo_accounts_are_added_once() -> None:
    with open_store(demo_store("x.db")) as accounts:
        deposit(accounts, "0", 1)
    with open_store(demo_store("x.db")) as accounts:
        assert get_account(accounts, "0") == Account("0", 1001)


OPEN_DEFAULT_FILES = """
import os, sys
from atm_adapters import open_store
for folder in sys.stdin:
    os.environ["XDG_DATA_HOME"] = folder.strip()
    with open_store() as accounts:
        balances = {each.account_number: str(each.balance) for each in accounts.list_accounts("", 10)}
    print(balances, flush=True)
"""


def test_processes_that_open_a_missing_default_file_at_once_share_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN_DEFAULT_FILES]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our program
        for _ in range(3)
    ]
    try:
        for number in range(10):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{tmp_path / str(number)}\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "{'0': '1000.00', '1': '1000.00'}\n"
    finally:
        for process in processes:
            process.communicate(timeout=60)


def test_default_file_that_appears_at_any_line_of_the_opening_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in range(1, 1000):
        monkeypatch.setenv("XDG_DATA_HOME", str(Path.cwd() / str(line)))
        has_appeared = _open_while_another_opens(line)
        assert accounts_of(None) == list(DEMO_ACCOUNTS)
        if not has_appeared:
            break
    assert 30 < line < 1000


def _open_while_another_opens(at_line: int) -> bool:
    """Open the default file, and before a line of the opening, let another caller open and close it.

    :returns: whether so many lines come before the commit that creates the accounts, which takes the write lock.
    """
    lines_left = at_line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines_left
        if frame.f_code.co_name == "_commit":
            sys.settrace(None)
        elif frame.f_code.co_filename not in (bootstrap.__file__, sqlite.__file__):
            return None
        elif event == "line":
            lines_left -= 1
            if lines_left == 0:
                sys.settrace(None)
                open_store().close()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        open_store().close()
    finally:
        sys.settrace(before)
    return lines_left == 0
