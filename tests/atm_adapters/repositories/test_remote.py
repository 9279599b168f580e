"""RemoteAccountRepository beyond the contract: lost answers, refusals, and servers that are not Mini-ATM."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.atm_process import AtmProcess, run_atm
from support.postgres import free_port
from support.proxy import Moment, Proxy, cutting_proxy
from support.server import Server, running_server, serving
from support.stores import demo_store
from support.waiting import until

from atm_adapters.bootstrap import open_store
from atm_adapters.repositories import remote
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_adapters.wire.errors import UnknownRefusal
from atm_core import (
    MAX_MONEY,
    Account,
    AtmError,
    Closing,
    Deposit,
    LimitChange,
    Opening,
    OutcomeUnknown,
    Page,
    Reopening,
    StoreUnavailable,
    Transaction,
    Withdrawal,
    close_account,
    deposit,
    get_account,
    open_account,
    read_history,
    reopen_account,
    set_limits,
    withdraw,
)

NO_SERVER = "http://127.0.0.1:1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(demo_store(tmp_path / "accounts.sqlite3"), tmp_path, "--log-level", "error") as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with cutting_proxy(server.host_and_port[1]) as proxy:
        yield proxy


@pytest.fixture
def accounts(proxy: Proxy) -> Iterator[RemoteAccountRepository]:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", retry_timeout=5)) as accounts:
        yield accounts


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("key", [None, "key"])
def test_transaction_is_repeated_after_a_lost_answer_and_counts_once(
    moment: Moment, key: str | None, proxy: Proxy, accounts: RemoteAccountRepository
) -> None:
    proxy.cut_at(b"/deposit", moment)
    assert deposit(accounts, "0", 1, key).balance == 1001
    assert proxy.has_cut()
    assert get_account(accounts, "0").balance == 1001


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_transaction_counts_once_when_its_server_is_killed(moment: Moment, tmp_path: Path) -> None:
    store, port = demo_store(tmp_path / "accounts.sqlite3"), free_port()
    with cutting_proxy(port) as proxy, ThreadPoolExecutor() as threads:
        with running_server(store, tmp_path, "--port", str(port)) as server:
            accounts = RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", retry_timeout=60)
            assert get_account(accounts, "0").balance == 1000
            proxy.cut_at(b"/deposit", moment, and_stay_away=True)
            deposited = threads.submit(deposit, accounts, "0", 1)
            until(proxy.has_cut)
            server.kill()
        with running_server(store, tmp_path, "--port", str(port)):
            proxy.come_back()
            assert deposited.result(timeout=60).balance == 1001
            assert get_account(accounts, "0").balance == 1001
        accounts.close()


def test_unknown_outcome_names_the_key_to_repeat(server: Server, proxy: Proxy) -> None:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", retry_timeout=0.1)) as accounts:
        proxy.cut_at(b"/withdraw", "after", and_stay_away=True)
        with pytest.raises(OutcomeUnknown, match=r"with the idempotency key '[0-9a-f]{32}'") as unknown:
            withdraw(accounts, "0", 1)
        key = unknown.value.advice.split("'")[1]
        proxy.come_back()
        assert withdraw(accounts, "0", 1, key).balance == 999
    with closing(open_store(server.address)) as accounts:
        assert get_account(accounts, "0").balance == 999


KINDS: dict[str, Transaction] = {
    "POST /accounts ": Opening("2", "7.50", 500, 400, note="new"),
    "/accounts/1/deposit": Deposit("1", "0.50", note="cash"),
    "/accounts/1/withdraw": Withdrawal("1", "0.50", note="rent"),
    "PUT /accounts/1/limits": LimitChange("1", 0, None, note="new contract"),
    "/accounts/empty/close": Closing("empty", note="moved away"),
    "/accounts/closed/reopen": Reopening("closed", note="came back"),
}
every_kind = pytest.mark.parametrize(("message", "transaction"), KINDS.items(), ids=[t.kind for t in KINDS.values()])


@every_kind
@pytest.mark.parametrize("moment", ["before", "after"])
def test_every_kind_is_executed_once_if_its_answer_is_lost(
    message: str, transaction: Transaction, moment: Moment
) -> None:
    memory = _memory()
    expected = _memory().execute(transaction)
    with (
        serving(memory) as (_, port),
        cutting_proxy(port) as proxy,
        RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", retry_timeout=5) as accounts,
    ):
        proxy.cut_at(message.encode(), moment)
        answer = accounts.execute(transaction)
        assert proxy.has_cut()
        for account in (answer, accounts.get(transaction.account_number), memory.get(transaction.account_number)):
            assert (account, account.last_entry) == (expected, expected.last_entry)


def test_every_kind_of_transaction_has_its_call() -> None:
    kinds = {each.kind for each in Transaction.__subclasses__() if each.__module__ == Transaction.__module__}
    assert kinds == set(remote._CALLS) == {transaction.kind for transaction in KINDS.values()}


def test_history_arrives_complete() -> None:
    memory = _memory()
    with serving(memory) as (host, port), RemoteAccountRepository(f"http://{host}:{port}") as accounts:
        for transaction in KINDS.values():
            accounts.execute(transaction)
            recorded = read_history(memory, transaction.account_number).entries[0].transaction
            assert recorded == replace(transaction, key=recorded.key)
        for number in ("1", "2", "empty", "closed"):
            for cursor in ({}, {"before": 3}, {"after": 1}, {"limit": 1}, {"after": 99}):
                page, expected = (read_history(store, number, **cursor) for store in (accounts, memory))
                assert _facts(page) == _facts(expected)


def test_largest_page_is_read() -> None:
    memory = InMemoryAccountRepository([Account("0", 1000)])
    note, key = "\U0001f600" * 140, '"' * 251
    memory.execute_batch([Deposit("0", MAX_MONEY / 1000 // 1, f"{key}{n:04}", note) for n in range(999)])
    with serving(memory) as (host, port), RemoteAccountRepository(f"http://{host}:{port}") as accounts:
        page = read_history(accounts, "0", limit=1000)
        assert (len(page.entries), page.has_more) == (1000, False)
        assert _facts(page) == _facts(read_history(memory, "0", limit=1000))


def _memory() -> InMemoryAccountRepository:
    memory = InMemoryAccountRepository([Account("1", 1000), Account("empty", 0), Account("closed", 0)])
    memory.execute(Closing("closed"))
    return memory


def _facts(page: Page) -> list[object]:
    """Return all facts of a page, with times in milliseconds, as the API has them."""
    return [page.has_more] + [
        (transaction, account, account.last_entry, at and int(at.timestamp() * 1000))
        for transaction, account, at in page.entries
    ]


def test_known_server_is_waited_for_during_an_outage(proxy: Proxy, accounts: RemoteAccountRepository) -> None:
    get_account(accounts, "0")
    proxy.cut_at(b"/balance", "before", and_stay_away=True)
    threading.Timer(0.3, proxy.come_back).start()
    assert get_account(accounts, "0").balance == 1000


def test_lost_request_is_repeated_at_least_once(proxy: Proxy) -> None:
    with closing(RemoteAccountRepository(f"http://127.0.0.1:{proxy.port}", retry_timeout=0)) as accounts:
        proxy.cut_at(b"/deposit", "after")
        assert deposit(accounts, "0", 1).balance == 1001


def test_missing_server_is_reported_with_the_command_to_start_one() -> None:
    with pytest.raises(StoreUnavailable, match=r"no server answers there .*Connection refused.*atm serve starts one"):
        get_account(RemoteAccountRepository(NO_SERVER), "0")


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "http://[::1", "http://127.0.0.1:99999"])
def test_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="its URL should be like http://"):
        open_store(url)


def test_password_in_the_url_is_sent_and_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = server.address.replace("http://", "http://me:secret@")
    with closing(open_store(url)) as accounts:
        assert isinstance(accounts, RemoteAccountRepository)
        assert accounts._http.auth is not None
        get_account(accounts, "0")
    assert "/accounts/0/balance" in caplog.text
    assert "secret" not in caplog.text


def test_closed_store_is_unavailable(accounts: RemoteAccountRepository) -> None:
    accounts.close()
    with pytest.raises(StoreUnavailable, match="it was closed"):
        get_account(accounts, "0")


OTHER_PAGE = (
    b'{"account_number": "1", "entries": [{"entry": 1, "kind": "opening", "amount": 5, "balance": 5, "note": null,'
    b' "recorded_at": null}], "next": null}'
)


class OtherApplication(BaseHTTPRequestHandler):
    """A server that a mistaken URL may reach. The account number chooses its answer."""

    def do_GET(self) -> None:
        answers = {
            "html": (200, b"<html>Welcome!</html>"),
            "elsewhere": (307, b""),
            "other": (200, b'{"account_number": "1", "balance": 5}'),
            "nan": (200, b'{"account_number": "nan", "balance": NaN}'),
            "missing": (404, b'{"detail": "Not Found"}'),
            "proxy": (502, b"Bad Gateway"),
            "refused": (
                403,
                b'{"type": "urn:mini-atm:error:test-of-a-later-release", "detail": "Not today.", "limit": 5}',
            ),
            "nested": (200, b"[" * 100_000),
            "plain": (200, b'{"account_number": "plain", "balance": 5}'),
            "no-method": (405, b'{"detail": "Method Not Allowed"}'),
            "other-page": (200, OTHER_PAGE),
        }
        status, body = answers.get(self.path.split("/")[-2], (404, b""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture
def other_application() -> Iterator[RemoteAccountRepository]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OtherApplication)
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(RemoteAccountRepository(url, retry_timeout=0.1)) as accounts:
            yield accounts
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("account_number", ["html", "elsewhere", "other", "nan", "missing", "proxy", "nested"])
def test_answer_of_another_application_is_no_balance(
    account_number: str, other_application: RemoteAccountRepository
) -> None:
    with pytest.raises(StoreUnavailable):
        get_account(other_application, account_number)


@pytest.mark.parametrize("account_number", ["html", "elsewhere", "other-page", "plain", "proxy", "nested"])
def test_answer_of_another_application_is_no_history(
    account_number: str, other_application: RemoteAccountRepository
) -> None:
    with pytest.raises(StoreUnavailable):
        read_history(other_application, account_number)


def test_server_with_the_balance_alone_gets_default_facts(other_application: RemoteAccountRepository) -> None:
    for account in (get_account(other_application, "plain"), deposit(other_application, "plain", 1)):
        assert (account, account.last_entry) == (Account("plain", 5), 0)


@pytest.mark.parametrize("account_number", ["missing", "no-method"])
def test_call_that_a_server_does_not_offer_is_reported(
    account_number: str, other_application: RemoteAccountRepository
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "POST /accounts": lambda: open_account(other_application, account_number),
        f"PUT /accounts/{account_number}/limits": lambda: set_limits(other_application, account_number, 0, 0),
        f"POST /accounts/{account_number}/close": lambda: close_account(other_application, account_number),
        f"POST /accounts/{account_number}/reopen": lambda: reopen_account(other_application, account_number),
        f"GET /accounts/{account_number}/history": lambda: read_history(other_application, account_number),
    }
    for call, make in calls.items():
        with pytest.raises(StoreUnavailable, match=f"the server does not offer {call}\\.$"):
            make()


@pytest.mark.parametrize("account_number", ["html", "other", "nan", "proxy", "nested"])
def test_unclear_answer_to_a_deposit_is_an_unknown_outcome(
    account_number: str, other_application: RemoteAccountRepository
) -> None:
    with pytest.raises(OutcomeUnknown):
        deposit(other_application, account_number, 1)


def test_unknown_code_arrives_with_the_server_s_sentence(other_application: RemoteAccountRepository) -> None:
    calls: list[Callable[[], Account]] = [
        lambda: get_account(other_application, "refused"),
        lambda: deposit(other_application, "refused", 1),
    ]
    for call in calls:
        with pytest.raises(UnknownRefusal) as refusal:
            call()
        assert str(refusal.value) == refusal.value.detail == "Not today."


class DailyLimitReached(AtmError):
    """A refusal that only this module defines."""

    code = "test-daily-limit-reached"
    account_number: str
    limit: Decimal
    remaining: Decimal

    def __str__(self) -> str:
        return f"Account {self.account_number} has {self.remaining} left of {self.limit}."


class AccountFrozen(AtmError):
    """A refusal with its own constructor."""

    code = "test-account-suspended"

    def __init__(self, account_number: str, days: int | None) -> None:
        super().__init__()
        self.account_number = account_number
        self.days = days

    def __str__(self) -> str:
        return f"Account {self.account_number} is frozen."


class Refusing(InMemoryAccountRepository):
    """A repository that refuses every transaction."""

    def __init__(self, refusal: AtmError) -> None:
        super().__init__([Account("0", 1000)])
        self._refusal = refusal

    def execute(self, _transaction: Transaction, /) -> Account:
        raise self._refusal


@pytest.mark.parametrize(
    "refusal",
    [DailyLimitReached("0", Decimal("500.00"), Decimal("0.10")), AccountFrozen("0", 30), AccountFrozen("0", None)],
    ids=["fields", "own constructor", "optional fact"],
)
def test_refusal_of_a_server_arrives_as_the_same_class_with_equal_facts(refusal: AtmError) -> None:
    with (
        serving(Refusing(refusal)) as (host, port),
        closing(RemoteAccountRepository(f"http://{host}:{port}")) as accounts,
        pytest.raises(type(refusal)) as raised,
    ):
        deposit(accounts, "0", 1)
    assert type(raised.value) is type(refusal)
    assert vars(raised.value) == vars(refusal)
    assert str(raised.value) == str(refusal)


class LosesFirstAnswer(BaseHTTPRequestHandler):
    """A server that loses its answer to the first deposit, and answers the next ones with another status."""

    description = b"{}"
    then = 200
    deposits = 0

    def do_GET(self) -> None:
        self._answer(200, LosesFirstAnswer.description)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        LosesFirstAnswer.deposits += 1
        if LosesFirstAnswer.deposits == 1:
            self.close_connection = True
        else:
            self._answer(LosesFirstAnswer.then, b'{"account_number": "0", "balance": 1200}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.mark.parametrize(
    ("description", "then", "deposits"),
    [
        (b"{}", 200, 1),
        (b"Idempotency-Key", 429, 2),
        (b"Idempotency-Key", 401, 2),
        (b"Idempotency-Key".rjust(1_000_000), 404, 2),
        (b"Idempotency-Key".rjust(2_000_000), 404, 1),  # more than the client reads
    ],
    ids=["without keys", "429", "401", "404", "too long"],
)
def test_refusal_after_a_lost_answer_leaves_the_outcome_unknown(description: bytes, then: int, deposits: int) -> None:
    LosesFirstAnswer.description, LosesFirstAnswer.then, LosesFirstAnswer.deposits = description, then, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), LosesFirstAnswer)
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(RemoteAccountRepository(url, retry_timeout=1)) as accounts, pytest.raises(OutcomeUnknown):
            deposit(accounts, "0", 100)
    finally:
        server.shutdown()
        server.server_close()
    assert LosesFirstAnswer.deposits == deposits


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_deposit_reports_unknown_outcome_and_key(proxy: Proxy, number: int) -> None:
    proxy.cut_at(b"/deposit", "before", and_stay_away=True)
    store = f"http://127.0.0.1:{proxy.port}"
    with AtmProcess("deposit", "0", "1", "--store", store, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        until(proxy.has_cut)
        command.send_signal(number)
        output, message = command.communicate(timeout=60)
    assert (command.returncode, output) == (5, "")
    assert "it was interrupted" in message
    assert "with the idempotency key" in " ".join(message.split())


def serve(host: str, store: str) -> "subprocess.CompletedProcess[str]":
    return run_atm("serve", "--no-auth", "--host", host, "--port", "8765", "--store", store)


@pytest.mark.parametrize(
    ("host", "store"),
    [
        ("127.0.0.1", "http://localhost:8765/"),
        ("LOCALHOST", "http://127.0.0.1:8765"),
        ("0.0.0.0", "http://127.0.0.1:8765"),  # noqa: S104 - refused before it listens
        ("192.0.2.1", "http://192.0.2.1:8765"),
    ],
)
def test_server_cannot_be_its_own_store(host: str, store: str) -> None:
    done = serve(host, store)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be its own store" in done.stderr


def test_server_at_another_address_with_the_same_port_may_be_a_store() -> None:
    done = serve("192.0.2.1", "http://127.0.0.1:8765")  # reserved (RFC 5737): no interface has it
    assert done.returncode == 1
    assert "Cannot listen on 192.0.2.1:8765" in done.stderr


def test_wait_for_a_silent_server_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with closing(RemoteAccountRepository(url, retry_timeout=0.1, timeout=0.1)) as accounts:
            with pytest.raises(StoreUnavailable, match="it gave no answer"):
                get_account(accounts, "0")
            with pytest.raises(OutcomeUnknown, match="it gave no answer"):
                deposit(accounts, "0", 1)


def test_command_prints_the_same_for_a_server_as_for_a_file(server: Server, tmp_path: Path) -> None:
    commands = [
        "balance 0", "deposit 0 10.25", "withdraw 0 5000 --key a", "withdraw 0 5000 --key a", "withdraw 0 1 --key a",
        "balance 9", "deposit 9 1", "open 42 --balance -5 --json", "open 42", f"deposit 42 {MAX_MONEY}",
        "deposit 0 -1", "deposit 0 1e5", "deposit a.b 1", "balance 42 --json",
    ]  # fmt: skip
    assert _results(commands, server.address) == _results(commands, demo_store(tmp_path / "other.sqlite3"))


def _results(commands: list[str], store: str) -> list[tuple[int, str, str]]:
    return [
        (done.returncode, done.stdout, done.stderr)
        for command in commands
        for done in [run_atm(*command.split(), env={**os.environ, "ATM_STORE": store})]
    ]


def test_server_may_be_the_store_of_another_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "front").mkdir()
    with running_server(server.address, tmp_path / "front") as front, closing(open_store(front.address)) as accounts:
        assert deposit(accounts, "0", 1, "key").balance == deposit(accounts, "0", 1, "key").balance == 1001
    with closing(open_store(server.address)) as accounts:
        assert get_account(accounts, "0").balance == 1001
