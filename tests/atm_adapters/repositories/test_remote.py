"""What the remote repository promises beyond the contract: answers that are lost, and servers that are none."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.postgres import free_port
from support.proxy import Moment, Proxy, cutting_proxy
from support.server import ATM, Server, running_server
from support.waiting import until

from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.stores import open_store
from atm_core import (
    LARGEST_SUM,
    OutcomeUnknown,
    StoreUnavailable,
    check_balance,
    deposit,
    open_account,
    withdraw,
)

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(str(tmp_path / "accounts.sqlite3"), tmp_path, "--log-level", "error") as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with cutting_proxy(server.host_and_port[1]) as proxy:
        yield proxy


@pytest.fixture
def accounts(proxy: Proxy) -> Iterator[RemoteAccountRepository]:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", patience=5)) as accounts:
        yield accounts


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("key", [None, "key"])
def test_a_transaction_whose_answer_was_lost_is_sent_again_and_counts_once(
    moment: Moment, key: str | None, proxy: Proxy, accounts: RemoteAccountRepository
) -> None:
    proxy.cut_at(b"/deposit", moment)
    assert deposit(accounts, "0", 1, key).balance == 1001
    assert proxy.has_cut()
    assert check_balance(accounts, "0").balance == 1001


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_server_killed_between_request_and_answer_and_started_again_has_moved_the_money_once(
    moment: Moment, tmp_path: Path
) -> None:
    store, port = str(tmp_path / "accounts.sqlite3"), free_port()
    with cutting_proxy(port) as proxy, ThreadPoolExecutor() as threads:
        with running_server(store, tmp_path, "--port", str(port)) as server:
            accounts = RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", patience=60)
            assert check_balance(accounts, "0").balance == 1000
            proxy.cut_at(b"/deposit", moment, and_stay_away=True)
            deposited = threads.submit(deposit, accounts, "0", 1)
            until(proxy.has_cut)
            server.kill()
        with running_server(store, tmp_path, "--port", str(port)):
            proxy.come_back()
            assert deposited.result(timeout=60).balance == 1001
            assert check_balance(accounts, "0").balance == 1001
        accounts.close()


def test_what_stays_unknown_is_said_with_the_key_that_settles_it(server: Server, proxy: Proxy) -> None:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", patience=0.1)) as accounts:
        proxy.cut_at(b"/withdraw", "after", and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match=r"again under the idempotency key '[0-9a-f]{32}'") as unknown:
            withdraw(accounts, "0", 1)
        key = unknown.value.advice.split("'")[1]
        proxy.come_back()
        assert withdraw(accounts, "0", 1, key).balance == 999
    with closing(open_store(server.address)) as accounts:
        assert check_balance(accounts, "0").balance == 999


def test_an_account_is_opened_although_the_first_request_got_lost_on_its_way(
    proxy: Proxy, accounts: RemoteAccountRepository
) -> None:
    proxy.cut_at(b"POST /accounts ", "before")
    assert open_account(accounts, "2", "7.50").balance == check_balance(accounts, "2").balance


def test_an_opening_whose_answer_was_lost_is_unknown_and_the_balance_settles_it(
    proxy: Proxy, accounts: RemoteAccountRepository
) -> None:
    proxy.cut_at(b"POST /accounts ", "after")
    with pytest.raises(OutcomeUnknown, match="Read its balance"):
        open_account(accounts, "2", "7.50")
    assert str(check_balance(accounts, "2").balance) == "7.50"


def test_a_server_that_is_away_for_a_moment_is_waited_for_once_it_was_reached(
    proxy: Proxy, accounts: RemoteAccountRepository
) -> None:
    check_balance(accounts, "0")
    proxy.cut_at(b"/balance", "before", and_stay_away=True)
    threading.Timer(0.3, proxy.come_back).start()
    assert check_balance(accounts, "0").balance == 1000


def test_an_answer_that_took_all_patience_is_asked_for_once_more(proxy: Proxy) -> None:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", patience=0)) as accounts:
        proxy.cut_at(b"/deposit", "after")
        assert deposit(accounts, "0", 1).balance == 1001


def test_where_no_server_answers_it_is_told_at_once_with_the_command_that_starts_one() -> None:
    with pytest.raises(StoreUnavailable, match=r"no server answers there .*Connection refused.*atm serve starts one"):
        check_balance(RemoteAccountRepository(NOBODY), "0")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:port", "http://[::1", "http://127.0.0.1:99999", "http://me:se/cret@127.0.0.1"]
)
def test_a_url_that_is_not_well_formed_is_told(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="its URL should be like http://"):
        open_store(url)


def test_a_password_in_the_url_is_sent_and_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = server.address.replace("http://", "http://me:secret@")
    with closing(open_store(url)) as accounts:
        assert isinstance(accounts, RemoteAccountRepository)
        assert accounts._http.auth is not None
        check_balance(accounts, "0")
    assert "/accounts/0/balance" in caplog.text
    assert "secret" not in caplog.text


def test_a_closed_store_is_unavailable(accounts: RemoteAccountRepository) -> None:
    accounts.close()
    with pytest.raises(StoreUnavailable, match="it was closed"):
        check_balance(accounts, "0")


class SomethingElse(BaseHTTPRequestHandler):
    """A server that is none of ours, and answers by the account number: how a mistaken URL may look."""

    def do_GET(self) -> None:
        answers = {
            "html": (200, b"<html>Welcome!</html>"),
            "elsewhere": (307, b""),
            "other": (200, b'{"account_number": "1", "balance": 5}'),
            "nan": (200, b'{"account_number": "nan", "balance": NaN}'),
            "missing": (404, b'{"detail": "Not Found"}'),
            "proxy": (502, b"Bad Gateway"),
            "nested": (200, b"[" * 100_000),
        }
        status, body = answers.get(self.path.split("/")[-2], (404, b""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as http.server has it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def something_else() -> Iterator[RemoteAccountRepository]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SomethingElse)
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(RemoteAccountRepository(url, patience=0.1)) as accounts:
            yield accounts
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("account_number", ["html", "elsewhere", "other", "nan", "missing", "proxy", "nested"])
def test_an_answer_that_is_no_mini_atm_s_is_never_taken_for_a_balance(
    account_number: str, something_else: RemoteAccountRepository
) -> None:
    with pytest.raises(StoreUnavailable):
        check_balance(something_else, account_number)


@pytest.mark.parametrize("account_number", ["html", "other", "nan", "proxy", "nested"])
def test_an_answer_that_leaves_in_doubt_whether_money_moved_is_an_unknown_outcome(
    account_number: str, something_else: RemoteAccountRepository
) -> None:
    with pytest.raises(OutcomeUnknown):
        deposit(something_else, account_number, 1)


class Forgetful(BaseHTTPRequestHandler):
    """A server that loses its answer to the first deposit, and says something else to the ones after it."""

    description = b"{}"
    then = 200
    deposits = 0

    def do_GET(self) -> None:
        self._answer(200, Forgetful.description)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Forgetful.deposits += 1
        if Forgetful.deposits == 1:
            self.close_connection = True
        else:
            self._answer(Forgetful.then, b'{"account_number": "0", "balance": 1200}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("description", "then", "deposits"),
    [(b"{}", 200, 1), (b"Idempotency-Key", 429, 2), (b"Idempotency-Key", 401, 2), (b"Idempotency-Key", 404, 2)],
)
def test_after_a_lost_answer_nothing_but_an_account_settles_it_and_only_a_server_with_keys_is_asked_again(
    description: bytes, then: int, deposits: int
) -> None:
    Forgetful.description, Forgetful.then, Forgetful.deposits = description, then, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(RemoteAccountRepository(url, patience=1)) as accounts, pytest.raises(OutcomeUnknown):
            deposit(accounts, "0", 100)
    finally:
        server.shutdown()
        server.server_close()
    assert Forgetful.deposits == deposits


def test_who_is_interrupted_is_told_the_key_and_that_the_outcome_is_unknown(proxy: Proxy) -> None:
    proxy.cut_at(b"/deposit", "before", and_stay_away=True)
    store = f"http://127.0.0.1:{proxy.port}"
    with subprocess.Popen(  # noqa: S603 - our own command
        [ATM, "deposit", "0", "1", "--store", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        until(proxy.has_cut)
        command.send_signal(signal.SIGINT)
        output, message = command.communicate(timeout=60)
    assert (command.returncode, output) == (4, "")
    assert "it was interrupted" in message
    assert "again under the idempotency key" in message


def serve(host: str, store: str) -> "subprocess.CompletedProcess[str]":
    command = [ATM, "serve", "--host", host, "--port", "8765", "--store", store]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603 - our own command


@pytest.mark.parametrize(
    ("host", "store"),
    [
        ("127.0.0.1", "http://localhost:8765/"),
        ("LOCALHOST", "http://127.0.0.1:8765"),
        ("0.0.0.0", "http://127.0.0.1:8765"),  # noqa: S104 - refused before it listens
        ("192.0.2.1", "http://192.0.2.1:8765"),
    ],
)
def test_a_server_can_not_be_its_own_store(host: str, store: str) -> None:
    done = serve(host, store)
    assert (done.returncode, done.stdout) == (2, "")
    assert "can't be its own store" in done.stderr


def test_a_server_at_another_address_with_the_same_port_may_be_a_store() -> None:
    done = serve("192.0.2.1", "http://127.0.0.1:8765")  # kept for documentation (RFC 5737), so it can't be listened on
    assert done.returncode == 1
    assert "can't listen on 192.0.2.1:8765" in done.stderr


def test_a_server_that_is_silent_is_not_waited_for_without_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with closing(RemoteAccountRepository(url, patience=0.1, timeout=0.1)) as accounts:
            with pytest.raises(StoreUnavailable, match="it gave no answer"):
                check_balance(accounts, "0")
            with pytest.raises(OutcomeUnknown, match="it gave no answer"):
                deposit(accounts, "0", 1)


def test_the_command_says_the_same_of_a_server_as_of_a_file(server: Server, tmp_path: Path) -> None:
    commands = [
        "balance 0", "deposit 0 10.25", "withdraw 0 5000 --key a", "withdraw 0 5000 --key a", "withdraw 0 1 --key a",
        "balance 9", "deposit 9 1", "open 42 --balance -5 --json", "open 42", f"deposit 42 {LARGEST_SUM}",
        "deposit 0 -1", "deposit 0 1e5", "deposit a.b 1", "balance 42 --json",
    ]  # fmt: skip
    assert _says(commands, server.address) == _says(commands, str(tmp_path / "other.sqlite3"))


def _says(commands: list[str], store: str) -> list[tuple[int, str, str]]:
    return [
        (done.returncode, done.stdout, done.stderr)
        for command in commands
        for done in [
            subprocess.run(  # noqa: S603 - our own command
                [ATM, *command.split()], capture_output=True, text=True, env={**os.environ, "ATM_STORE": store}
            )
        ]
    ]


def test_a_server_may_have_another_server_for_its_store(server: Server, tmp_path: Path) -> None:
    (tmp_path / "front").mkdir()
    with running_server(server.address, tmp_path / "front") as front, closing(open_store(front.address)) as accounts:
        assert deposit(accounts, "0", 1, "key").balance == deposit(accounts, "0", 1, "key").balance == 1001
    with closing(open_store(server.address)) as accounts:
        assert check_balance(accounts, "0").balance == 1001
