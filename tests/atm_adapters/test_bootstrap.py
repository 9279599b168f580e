"""From a store URL to a repository."""

import asyncio
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.stores import demo_store

from atm_adapters.bootstrap import (
    default_store_url,
    open_async_store,
    open_store,
    open_threaded_store,
    redact_url,
    store_kind,
)
from atm_adapters.repositories.bridges import InlineBridge, ThreadPoolBridge
from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.wire.errors import UnknownStore
from atm_core import StoreUnavailable, deposit, get_account
from atm_core.ports import Store


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATM_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_memory_is_a_new_store_each_time() -> None:
    accounts = open_store("memory:")
    assert isinstance(accounts, InMemoryAccountRepository)
    deposit(accounts, "0", 1)
    assert get_account(open_store("memory:"), "0").balance == 1000


@pytest.fixture
def x_db() -> str:
    """Create the store ``x.db``."""
    return demo_store("x.db")


@pytest.mark.parametrize(
    ("url", "threaded", "asynchronous"),
    [
        ("memory:", InMemoryAccountRepository, InlineBridge),
        ("x.db", ThreadedGroupCommit, GroupCommit),
        ("http://127.0.0.1:1", RemoteAccountRepository, ThreadPoolBridge),
    ],
)
@pytest.mark.usefixtures("x_db")
def test_callers_share_commits_where_commits_cost_time(url: str, threaded: type, asynchronous: type) -> None:
    async def run() -> None:
        async with open_async_store(url) as accounts:
            assert type(accounts) is asynchronous

    asyncio.run(run())
    with open_threaded_store(url) as accounts:
        assert type(accounts) is threaded


@pytest.mark.usefixtures("x_db")
@pytest.mark.parametrize("open_", [open_store, open_threaded_store])
@pytest.mark.parametrize("url", ["x.db", "http://127.0.0.1:1"])
def test_with_statement_closes_the_store(open_: Callable[[str], Store], url: str) -> None:
    with open_(url) as accounts:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        deposit(accounts, "0", 1)


@pytest.mark.usefixtures("x_db")
@pytest.mark.parametrize("url", ["x.db", "http://127.0.0.1:1"])
def test_async_with_statement_closes_the_store(url: str) -> None:
    async def run() -> None:
        async with open_async_store(url) as accounts:
            pass
        with pytest.raises(StoreUnavailable, match="closed"):
            await deposit(accounts, "0", 1)

    asyncio.run(run())


@pytest.mark.parametrize("url", ["x.db", "./x.db", "sqlite:///x.db", "{here}/x.db", "sqlite:///{here}/x.db"])
def test_path_and_sqlite_url_name_the_same_file(url: str, tmp_path: Path, x_db: str) -> None:
    with closing(open_store(url.format(here=tmp_path))) as accounts:
        deposit(accounts, "0", 1)
    with closing(open_store(x_db)) as accounts:
        assert get_account(accounts, "0").balance == 1001


@pytest.mark.parametrize(
    "url",
    [
        "", ":memory:", "memory://", "memory:x", "sqlite:", "sqlite://", "sqlite:x.db", "sqlite://host/x.db",
        "sqlite:///", "sqlite:///:memory:", "file:x.db", "redis://localhost", "folder/", "mysql://u:p@h/db", "x\0y",
    ],
)  # fmt: skip
def test_unknown_url_is_refused_with_the_known_forms(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownStore, match=r"is not a store URL\. Use memory:, a file path, sqlite:///path") as refusal:
        open_store(url)
    assert refusal.value.url == redact_url(url)
    assert ":p@" not in str(refusal.value)  # the password
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "atm.example.org:80/accounts"])
def test_host_and_port_is_refused_with_the_url_of_a_server(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownStore, match=f"If it is a server, write http://{url}"):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_password_in_host_and_port_is_not_shown() -> None:
    with pytest.raises(UnknownStore, match=r"write http://me:\*\*\*@127.0.0.1:8000") as refusal:
        open_store("me:secret@127.0.0.1:8000")
    assert "secret" not in str(refusal.value)


def test_missing_driver_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "atm_adapters.repositories.postgres", raising=False)
    with pytest.raises(StoreUnavailable, match=r"psycopg; install it with: pip install 'psycopg\[binary,pool\]'"):
        open_store("postgresql://localhost/atm")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h/db", "postgresql://u:***@h/db"),
        ("postgresql://:secret@h1:1,h2:2/db?x=y", "postgresql://:***@h1:1,h2:2/db?x=y"),
        ("postgresql://u:sec@re:t/x@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?password=secret&x=y", "postgresql://u@h/db?password=***&x=y"),
        ("postgresql:///db?sslpassword=secret", "postgresql:///db?sslpassword=***"),
        ("postgresql://u@h/db?pass%77ord=secret", "postgresql://u@h/db?pass%77ord=***"),
        ("postgresql://u@h/db?x=y&oauth_client_secret=a secret", "postgresql://u@h/db?x=y&oauth_client_secret=***"),
        ("postgresql:/u:sec/ret@h", "postgresql:/u:***@h"),
        ("postgresql://me@corp:secret@h/db", "postgresql://me@corp:***@h/db"),
        ("postgresql://a/b?c#d:secret@h/db", "postgresql://a/b?c#d:***@h/db"),
        ("postgresql://h:1/db?password=sec@ret&x=y", "postgresql://h:***&x=y"),
        ("postgresql://u:sec?pass=ret@h/db&x=y", "postgresql://u:***&x=y"),
        ("http://u:sec#r@et@h", "http://u:***@h"),
        ("postgresql://u@h1:1,h2:2/db", "postgresql://u@h1:1,h2:2/db"),
        ("sqlite:///a:b.db", "sqlite:///a:b.db"),
        ("memory:", "memory:"),
    ],
)
def test_redacted_url_has_no_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("user", ["postgresql://u", "postgresql://me@corp", "http://u", "http://me@corp"])
@pytest.mark.parametrize(
    "password", ["qqq@xxx", "qqq/xxx", "qqq?xxx", "qqq#xxx", "40917/xxx", "40917?xxx", "4?qqq@xxx", "4/qqq?xxx"]
)
def test_no_message_shows_a_piece_of_a_password(user: str, password: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"{user}:{password}@127.0.0.1:1"
    with pytest.raises(StoreUnavailable) as failure, closing(open_store(url)) as store:
        get_account(store, "0")
    shown = "".join(traceback.format_exception(failure.value)) + caplog.text
    assert not re.search("qqq|xxx|40917", shown), shown


@pytest.mark.parametrize("password", ["se@cret", "se/cret", "12/cret"])
def test_password_that_needs_escaping_is_refused_with_how_to_write_it(password: str) -> None:
    with pytest.raises(StoreUnavailable, match="write %40 for @, %2F for /"):
        open_store(f"postgresql://u:{password}@127.0.0.1:1/db")


def test_default_store_is_a_file_in_the_user_data_folder(tmp_path: Path) -> None:
    assert default_store_url() == str(tmp_path / "data" / "mini-atm" / "accounts.sqlite3")
    with closing(open_store()) as accounts:
        deposit(accounts, "0", 1)
    with closing(open_store(default_store_url())) as accounts:
        assert get_account(accounts, "0").balance == 1001


def test_environment_variable_changes_the_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATM_STORE", "memory:")
    assert isinstance(open_store(), InMemoryAccountRepository)
    assert list(tmp_path.iterdir()) == []


def test_missing_home_folder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.getuid", lambda: 999_999_999)  # a user that the system does not know
    with pytest.raises(StoreUnavailable, match="name a store"):
        open_store()


@pytest.mark.parametrize("url", ["x" * 5000, "sqlite:///" + "x" * 5000, "x" * 5000 + "/y"])
def test_path_too_long_for_the_file_system_is_unavailable(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(url)


def test_relative_path_in_a_deleted_folder_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(StoreUnavailable, match="the current folder cannot be read"):
        open_store("x.db")


def test_data_folder_that_cannot_be_created_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "a-file"))
    with pytest.raises(StoreUnavailable, match="the folder cannot be created"):
        open_store()


_SCHEMES = st.sampled_from(
    [
        "",
        "memory:",
        "sqlite:///",
        "sqlite:////",
        "sqlite:",
        "sqlite://",
        "postgresql://",
        "postgres://",
        "http://",
        "https://",
        "file:",
        "C:",
    ]
)
_LONG = 10_000


@given(_SCHEMES, st.text())
@example("", "x" * _LONG)
@example("", "\ud800")
@example("sqlite:///", "\0")
@example("postgresql://", "\0")
@example("postgresql://", ":@" * _LONG)
@example("postgresql://", "?pass" * _LONG)
@example("postgresql://", "?" + "pass" * _LONG)
def test_store_kind_of_any_url_is_found_or_refused_within_10_ms(scheme: str, rest: str) -> None:
    kind, message = None, ""
    began = time.thread_time()
    try:
        kind = store_kind(scheme + rest)
    except UnknownStore as refusal:
        message = str(refusal)
    assert time.thread_time() - began < 0.010
    assert kind in ("memory", "postgresql", "remote", "sqlite") or "is not a store URL. Use memory:, " in message
    if scheme.startswith("postgres") and "\0" not in rest:
        assert kind == "postgresql"


@given(st.text(), st.text())
@example("", "pass" * _LONG)
@example("", "?" * _LONG)
def test_any_url_is_redacted_within_10_ms(scheme: str, rest: str) -> None:
    began = time.thread_time()
    redact_url(f"{scheme}://h/db?{rest}")
    assert time.thread_time() - began < 0.010
