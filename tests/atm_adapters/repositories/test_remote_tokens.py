"""RemoteAccountRepository, the command, and a server in front, with a server that requires access tokens."""

import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from support.atm_process import run_atm
from support.proxy import cutting_proxy
from support.server import Server, running_server
from support.stores import demo_store
from support.waiting import until

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.wire.errors import NotAllowed, NotAuthenticated
from atm_core import (
    AtmError,
    OutcomeUnknown,
    StoreUnavailable,
    close_account,
    deposit,
    get_account,
    open_account,
    read_history,
    set_limits,
    withdraw,
)

CALLS: dict[str, Callable[[RemoteAccountRepository], object]] = {
    "deposit": lambda accounts: deposit(accounts, "0", 1),
    "withdraw": lambda accounts: withdraw(accounts, "0", 1),
    "open": lambda accounts: open_account(accounts, "42"),
    "limits": lambda accounts: set_limits(accounts, "0", None, None),
    "close": lambda accounts: close_account(accounts, "0"),
    "balance of another": lambda accounts: get_account(accounts, "1"),
    "history of another": lambda accounts: read_history(accounts, "1"),
    "balance of an unknown": lambda accounts: get_account(accounts, "9"),
}
WORD = "t-1"
REFUSED_CALLS = [
    ("GET", "/accounts/1/balance"), ("GET", "/accounts/1"), ("GET", "/accounts/1/history"),
    ("GET", "/accounts/9/balance"), ("POST", "/accounts/0/deposit"), ("POST", "/accounts/0/withdraw"),
    ("POST", "/accounts"), ("PUT", "/accounts/0/limits"), ("POST", "/accounts/0/close"), ("GET", "/metrics"),
]  # fmt: skip


class Tokens:
    """The tokens file of a running server."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()

    def __call__(self, command: str, name: str, *options: str) -> str:
        """Run ``atm token``, and return what it prints."""
        done = run_atm("token", command, name, *options, "--tokens", str(self.file))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.toml")


@pytest.fixture
def reader(tokens: Tokens) -> str:
    """Return a token that may read account 0 only."""
    return tokens("add", "reader", "--may", "read", "--account", "0")


@pytest.fixture
def server(tmp_path: Path, tokens: Tokens, reader: str) -> Iterator[Server]:  # noqa: ARG001 - made before the start
    store = demo_store(tmp_path / "accounts.sqlite3")
    with running_server(store, tmp_path, "--tokens", str(tokens.file), "--log-level", "debug") as running:
        yield running


def atm(store: str, token: str, *command: str) -> "subprocess.CompletedProcess[str]":
    return run_atm(*command, env={**os.environ, "ATM_STORE": store, "ATM_TOKEN": token})


def test_token_reads_its_account_and_nothing_else(server: Server, reader: str) -> None:
    assert atm(server.address, reader, "balance", "0").stdout == "1000.00\n"
    assert atm(server.address, reader, "history", "0").returncode == 0
    for command in ("balance 1", "history 1", "show 9", "deposit 0 1", "withdraw 0 1", "open 42", "close 0"):
        done = atm(server.address, reader, *command.split())
        assert (done.returncode, done.stdout) == (6, ""), command
        assert done.stderr.startswith("atm: The access token does not allow this. It needs the verb "), command

    with closing(RemoteAccountRepository(server.address, token=reader)) as accounts:
        assert get_account(accounts, "0").balance == 1000
        assert [name for name, call in CALLS.items() if not fails_with(NotAllowed, partial(call, accounts))] == []

    with httpx.Client(base_url=server.address, headers={"Authorization": f"Bearer {reader}"}) as client:
        assert {client.get(f"/accounts/0{path}").status_code for path in ("", "/balance", "/history")} == {200}
        answers = {call: client.request(*call, json={"amount": 1}) for call in REFUSED_CALLS}
    assert {call: answer.status_code for call, answer in answers.items()} == dict.fromkeys(REFUSED_CALLS, 403)
    existing, unknown = (answers["GET", f"/accounts/{number}/balance"] for number in "19")
    assert existing.text == unknown.text


def test_revoked_token_ends_within_two_seconds(server: Server, tokens: Tokens, reader: str) -> None:
    with closing(RemoteAccountRepository(server.address, token=reader)) as accounts:
        assert get_account(accounts, "0").balance == 1000
        tokens("revoke", "reader")
        until(lambda: fails_with(NotAuthenticated, lambda: get_account(accounts, "0")), seconds=2)
    assert httpx.get(f"{server.address}/accounts/0/balance", headers=bearer(reader)).status_code == 401
    done = atm(server.address, reader, "balance", "0", "--json")
    assert done.returncode == 6
    assert json.loads(done.stderr)["error"]["code"] == "not-authenticated"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def fails_with(error: type[AtmError], call: Callable[[], object]) -> bool:
    try:
        call()
    except error:
        return True
    return False


def test_token_of_a_file_replaces_that_of_the_environment(server: Server, reader: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{reader}\n")
    assert atm(server.address, "wrong", "balance", "0").returncode == 6
    assert atm(server.address, "wrong", "balance", "0", "--token-file", str(file)).stdout == "1000.00\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"", "is empty. It must contain an access token, as atm token add prints it."),
        (b" \n", "is empty. It must contain"),
        (b"\xff\xfe", "cannot be read: It is not the text that atm token add prints."),
        ("тайна".encode(), "cannot be read: It is not the text that atm token add prints."),
    ],
)
def test_unusable_token_file_is_reported(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    done = run_atm("balance", "0", "--token-file", str(file), env={**os.environ, "COLUMNS": "300"})
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Invalid value for '--token-file'" in done.stderr


@pytest.mark.parametrize("token", ["two words", "two\nlines", "naïve", "\x1b[31m", "a:b"])
def test_malformed_token_is_reported_without_it(token: str) -> None:
    done = atm("http://127.0.0.1:1", token, "balance", "0")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        "atm: The store http://127.0.0.1:1 is unavailable: the access token is malformed; it must be one word, "
        "as atm token add printed it.\n"
    )


class Recorder(BaseHTTPRequestHandler):
    """Records requests, and answers all of them as its server says."""

    server: Any

    def answer(self) -> None:
        self.server.seen.append((self.path, self.headers.get_all("Authorization")))
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(self.server.status)
        for name, value in self.server.fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def recording(status: int, **fields: str) -> Iterator[Any]:
    """Run a server that answers everything with a status, and yield it. ``seen`` has its requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as running:
        running.seen, running.status, running.fields = [], status, fields  # type: ignore[attr-defined]
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def url_of(running: Any) -> str:
    return f"http://127.0.0.1:{running.server_port}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_an_error_and_gets_no_token(status: int) -> None:
    with recording(200) as other, recording(status, Location=f"{url_of(other)}/accounts/0/balance") as first:
        with closing(RemoteAccountRepository(url_of(first), token=WORD, retry_timeout=0)) as accounts:
            with pytest.raises(StoreUnavailable, match=f"it answered {status}"):
                get_account(accounts, "0")
            with pytest.raises(StoreUnavailable, match=f"it answered {status}"):
                deposit(accounts, "0", 1)
        assert [authorization for _, authorization in first.seen] == [[f"Bearer {WORD}"]] * 2
        assert other.seen == []


def test_every_request_has_the_token_once() -> None:
    with recording(404) as running, closing(RemoteAccountRepository(url_of(running), token=WORD)) as accounts:
        for call in CALLS.values():
            with pytest.raises(AtmError):
                call(accounts)
        assert [authorization for _, authorization in running.seen] == [[f"Bearer {WORD}"]] * len(CALLS)


def test_token_is_in_no_log_error_or_repr(server: Server, reader: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    with closing(RemoteAccountRepository(server.address, token=reader)) as accounts:
        get_account(accounts, "0")
        texts += [repr(accounts), str(vars(accounts)), repr(accounts._http.headers)]
        for call in CALLS.values():
            with pytest.raises(NotAllowed) as refused:
                call(accounts)
            texts.append(repr(refused.value) + str(refused.value))
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    server.stop()  # writes the log
    texts += [caplog.text, server.log.read_text()]
    assert [text for text in texts if reader.rpartition("_")[2] in text] == []
    assert "reader" in server.log.read_text()


def test_refusal_after_a_lost_answer_is_an_unknown_outcome(server: Server, tokens: Tokens) -> None:
    mover = tokens("add", "mover", "--may", "read,move", "--account", "0")
    until(lambda: httpx.get(f"{server.address}/accounts/0", headers=bearer(mover)).status_code == 200, seconds=2)
    with (
        cutting_proxy(server.host_and_port[1]) as proxy,
        closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", token=mover, retry_timeout=10)) as accounts,
    ):
        deposit(accounts, "0", 1)
        proxy.cut_at(b"/deposit", "after", and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match="A valid access token is needed"):
            deposit_while(accounts, lambda: revoke_and_return(proxy, tokens, server, mover))


def deposit_while(accounts: RemoteAccountRepository, action: Callable[[], None]) -> None:
    thread = Thread(target=action)
    thread.start()
    try:
        deposit(accounts, "0", 1)
    finally:
        thread.join()


def revoke_and_return(proxy: Any, tokens: Tokens, server: Server, token: str) -> None:
    until(proxy.has_cut)
    tokens("revoke", "mover")
    until(lambda: httpx.get(f"{server.address}/accounts/0", headers=bearer(token)).status_code == 401, seconds=2)
    proxy.come_back()


@pytest.mark.parametrize("is_reader", [True, False])
def test_front_server_does_not_blame_its_clients(server: Server, reader: str, tmp_path: Path, is_reader: bool) -> None:
    (tmp_path / "front").mkdir()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ATM_TOKEN", reader if is_reader else "wrong")
        with running_server(server.address, tmp_path / "front") as front:
            balance = httpx.get(f"{front.address}/accounts/0/balance")
            ready = httpx.get(f"{front.address}/health/ready")
            refused = httpx.post(f"{front.address}/accounts/0/deposit", json={"amount": 1})
            log = front.log.read_text
            assert refused.status_code == 503
            assert refused.json()["type"] == "urn:mini-atm:error:store-unavailable"
            assert "WWW-Authenticate" not in refused.headers
            until(lambda: "it refused the ATM_TOKEN of this server. " in log(), seconds=10)
    assert (balance.status_code, ready.status_code) == ((200, 200) if is_reader else (503, 503))


def test_library_takes_the_token_of_the_environment(
    server: Server, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATM_TOKEN", reader)
    with closing(open_store(server.address)) as accounts:
        assert get_account(accounts, "0").balance == 1000
    monkeypatch.setenv("ATM_TOKEN", "")
    with closing(open_store(server.address)) as accounts, pytest.raises(NotAuthenticated):
        get_account(accounts, "0")
