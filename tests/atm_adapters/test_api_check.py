"""The check of a server: our own passes on every store, a wrong one fails where it is wrong, and none crashes it."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from support.postgres import Postgres, fresh_schema
from support.reference_api import Answer, Fault, ReferenceApi, Request, serving
from support.server import ATM, running_server

from atm_adapters.api_check import client, run
from atm_adapters.api_check.checks import CHECKS
from atm_adapters.api_check.report import as_table, to_json
from atm_adapters.api_check.run import ABOUT_REQUESTS, AccountsUnusable, Report, ServerUnreachable, check_api

FOUND_BY: dict[Fault, str] = {
    "floats": "Cents stay exact",
    "Infinity accepted": "Amounts that no account can hold are refused",
    "get, then save": "Concurrent transactions all count",
    "keys beside the money": "Concurrent retries under one key count once",
    "500 for an unknown account": "Accounts that do not exist are refused",
}
KEY_CHECKS = {
    "A retry under its key counts once",
    "Concurrent retries under one key count once",
    "A key belongs to one transaction",
    "Ill-formed keys are refused",
}
# What the reference neither does nor announces.
LACKS = {"Errors are problem documents (RFC 9457)", "Large bodies are refused", "Pages of other sites are refused"}


def checked(address: str, *accounts: str) -> tuple[Report, str]:
    """Check, and give the report and what was said."""
    said: list[str] = []
    report = check_api(address, accounts or ("0", "1"), say=said.append, step=lambda _: None)
    return report, "\n".join(said)


def named(report: Report, outcome: str) -> set[str]:
    """The names of the checks with this outcome."""
    return {result.name for result in report.checks if result.outcome == outcome}


def failures(report: Report) -> set[str]:
    """The names of the failed checks, each of which says what was sent, came back and was expected."""
    failed = [result for result in report.checks if result.outcome == "failed"]
    assert all(result.sent and result.received and result.expected for result in failed)
    return {result.name for result in failed}


@pytest.mark.parametrize("store", ["memory", "SQLite", "PostgreSQL"])
def test_our_server_passes_entirely_on_every_store_and_gets_its_accounts_back(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with store_url(store, tmp_path, request) as url, running_server(url, tmp_path, "--log-level", "error") as server:
        report, said = checked(server.address)
    assert failures(report) == named(report, "not supported") == set()
    assert (report.passed, report.notes) == (len(CHECKS), [])
    for account in report.accounts:
        assert account.found == account.left == 1000
    assert "Account 1 is back at 1000.00." in said
    requests = re.search(r"^([0-9,]+) requests were sent", said, re.MULTILINE)
    assert requests is not None
    assert int(requests[1].replace(",", "")) == pytest.approx(ABOUT_REQUESTS, rel=0.1)


@contextmanager
def store_url(store: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if store == "PostgreSQL":
        postgres: Postgres = request.getfixturevalue("postgres")
        with fresh_schema(postgres) as url:
            yield url
    else:
        yield "memory:" if store == "memory" else str(folder / "accounts.sqlite3")


def test_a_server_that_is_right_fails_nothing_and_what_it_lacks_is_not_supported() -> None:
    with serving(ReferenceApi()) as address:
        report, _ = checked(address)
    assert failures(report) == set()
    assert named(report, "not supported") == LACKS
    assert all(result.reason for result in report.checks if result.outcome == "not supported")


def test_a_server_that_ignores_keys_and_announces_none_does_not_support_them() -> None:
    with serving(ReferenceApi(has_keys=False)) as address:
        report, _ = checked(address)
    assert failures(report) == set()
    assert named(report, "not supported") == LACKS | KEY_CHECKS


@pytest.mark.parametrize("fault", get_args(Fault))
def test_each_fault_alone_is_found_by_exactly_its_check(fault: Fault) -> None:
    with serving(ReferenceApi(fault)) as address:
        report, _ = checked(address)
    assert failures(report) == {FOUND_BY[fault]}


def test_a_server_with_all_five_faults_gets_exactly_those_five_reported() -> None:
    with serving(ReferenceApi(*get_args(Fault))) as address:
        report, _ = checked(address)
    assert failures(report) == set(FOUND_BY.values())
    assert len(FOUND_BY) == report.failed == 5


async def _announcing(api: ReferenceApi, request: Request) -> Answer:
    if request.path == "/schema/openapi.json":
        key = {"name": "Idempotency-Key", "in": "header"}
        errors = {"415": None, "404": {"content": {"application/problem+json": None}}}
        deposit = {"post": {"parameters": [key], "responses": errors}}
        return Answer(200, json.dumps({"openapi": "3.1.0", "paths": {"/deposit": deposit}}).encode())
    path = request.path.removeprefix("/v1")
    headers = [(name, b"application/json" if name == b"content-type" else value) for name, value in request.headers]
    return await api.answer(request._replace(path=path, headers=headers))


def test_what_a_server_announces_and_does_not_do_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    announced = {
        "A retry under its key counts once",
        "Errors are problem documents (RFC 9457)",
        "Bodies that are not JSON by their type are refused",
    }
    monkeypatch.setattr(run, "CHECKS", [check for check in CHECKS if check.name in announced | KEY_CHECKS])
    with serving(ReferenceApi(has_keys=False, instead=_announcing)) as address:
        for url in (address, f"{address}/v1/"):  # the document is at the root of the host all the same
            report, _ = checked(url)
            assert failures(report) == announced
            assert named(report, "not supported") == KEY_CHECKS - announced


async def _created(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    return answer._replace(status=201) if request.path.endswith("deposit") and answer.status == 200 else answer


async def _withdrawal_unchanged(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    if answer.status == 200 and request.path.endswith("withdraw"):
        read = json.loads(answer.body)
        return answer._replace(body=json.dumps({**read, "balance": read["balance"] + 1}).encode())
    return answer


async def _strings_break(api: ReferenceApi, request: Request) -> Answer:
    return Answer(500, b"") if b'"10.25"' in request.body else await api.answer(request)


async def _both_accounts(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    if request.path == "/accounts/0/deposit" and b"10.25" in request.body:
        api.balances["1"] += 1
    return answer


async def _overdraft_breaks(api: ReferenceApi, request: Request) -> Answer:
    return Answer(500, b"") if b"1001" in request.body else await api.answer(request)


async def _answered_by_a_later_read(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    if b'"amount": 0.01}' in request.body:
        await asyncio.sleep(0.01)
        return await api.answer(request._replace(method="GET", path="/accounts/0/balance"))
    return answer


async def _small_withdrawals_lost(api: ReferenceApi, request: Request) -> Answer:
    if request.path.endswith("withdraw") and b'"amount": 0.01}' in request.body:
        return await api.answer(request._replace(method="GET", path="/accounts/0/balance"))
    return await api.answer(request)


async def _retry_refused(api: ReferenceApi, request: Request) -> Answer:
    keys = request.values(b"idempotency-key")
    is_again = keys and any(keys[0] == key for _, key in api.answered)
    return Answer(409, b"{}") if is_again else await api.answer(request)


async def _key_reused(api: ReferenceApi, request: Request) -> Answer:
    for (number, key), (*_, answer) in api.answered.items():
        if [key] == request.values(b"idempotency-key") and f"/{number}/" in request.path:
            return answer
    return await api.answer(request)


async def _long_key_breaks(api: ReferenceApi, request: Request) -> Answer:
    too_long = any(len(key) > 255 for key in request.values(b"idempotency-key"))
    return Answer(500, b"") if too_long else await api.answer(request)


async def _accounts_spring_up(api: ReferenceApi, request: Request) -> Answer:
    if request.method == "POST":
        api.balances.setdefault(request.path.split("/")[2], Decimal())
    return await api.answer(request)


async def _get_moves(api: ReferenceApi, request: Request) -> Answer:
    if request.method == "GET" and request.path.endswith("deposit"):
        return await api.answer(request._replace(method="POST", body=b'{"amount": 1}'))
    return await api.answer(request)


async def _half_a_problem(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    return answer._replace(content_type="application/problem+json") if answer.status == 404 else answer


async def _empty_body_breaks(api: ReferenceApi, request: Request) -> Answer:
    return Answer(500, b"") if request.method == "POST" and not request.body else await api.answer(request)


async def _negative_accepted(api: ReferenceApi, request: Request) -> Answer:
    if request.body == b'{"amount": -5}':
        call = {"deposit": "withdraw", "withdraw": "deposit"}[request.path.rpartition("/")[2]]
        path = request.path.rpartition("/")[0] + f"/{call}"
        return await api.answer(request._replace(path=path, body=b'{"amount": 5}'))
    return await api.answer(request)


async def _true_is_one(api: ReferenceApi, request: Request) -> Answer:
    return await api.answer(request._replace(body=request.body.replace(b"true", b"1")))


async def _rounding(api: ReferenceApi, request: Request) -> Answer:
    return await api.answer(request._replace(body=request.body.replace(b"10.255", b"10.26")))


async def _limit_breaks(api: ReferenceApi, request: Request) -> Answer:
    answer = await api.answer(request)
    return Answer(500, b"") if b"9999999999999.99" in request.body and answer.status == 422 else answer


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (_created, "A deposit answers the new balance"),
        (_withdrawal_unchanged, "A withdrawal answers the new balance"),
        (_strings_break, "An amount may be a string"),
        (_overdraft_breaks, "An account may go below zero"),
        (_both_accounts, "Accounts are kept apart"),
        (_answered_by_a_later_read, "Concurrent transactions all count"),
        (_small_withdrawals_lost, "Concurrent transactions all count"),
        (_retry_refused, "A retry under its key counts once"),
        (_key_reused, "A key belongs to one transaction"),
        (_long_key_breaks, "Ill-formed keys are refused"),
        (_accounts_spring_up, "Accounts that do not exist are refused"),
        (_get_moves, "Reading moves no money"),
        (_half_a_problem, "Errors are problem documents (RFC 9457)"),
        (_empty_body_breaks, "Bodies without an amount are refused"),
        (_negative_accepted, "Amounts that are not positive are refused"),
        (_true_is_one, "Amounts that are no numbers are refused"),
        (_rounding, "Fractions of a cent are not rounded"),
        (_limit_breaks, "Balances have a limit"),
    ],
)
def test_each_check_fails_on_a_server_that_is_wrong_there_and_the_accounts_are_put_back(
    wrong: Callable[[ReferenceApi, Request], Awaitable[Answer]], found_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CHECKS", [check for check in CHECKS if check.name == found_by])
    api = ReferenceApi(instead=wrong)
    with serving(api) as address:
        report, _ = checked(address)
    assert failures(report) == {found_by}
    assert api.balances["0"] == api.balances["1"] == 1000


BALANCES = [
    b"null", b"true", b'"1000.00"', b"NaN", b"Infinity", b"1e400", b"1e999999999", b"1e9999999999999999999",
    b"9" * 5_000, b"0." + b"3" * 5_000,
]  # fmt: skip
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
CANNED = {
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>",
    "JSON without a type": b'HTTP/1.1 200 OK\r\n\r\n{"account_number": "0", "balance": 1000.00}',
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "an internal error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "not the JSON it says": JSON_HEAD + b"{]}\xff",
    "nested JSON": JSON_HEAD + b"[" * 90_000,
    "a list": JSON_HEAD + b"[]",
    "another account": JSON_HEAD + b'{"account_number": "7", "balance": 1000.00}',
    **{
        f"the balance {balance[:20].decode()}": JSON_HEAD + b'{"account_number": "0", "balance": %s}' % balance
        for balance in BALANCES
    },
}
SILENT = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "too much": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (client.MAX_ANSWER_BYTES + 1),
}


@contextmanager
def answering(canned: Iterable[bytes]) -> Iterator[str]:
    """Answer whatever comes with these pieces, hang up, and give the address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    connection.recv(65536)
                    for piece in canned:
                        connection.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize("canned", CANNED.values(), ids=CANNED)
def test_where_no_balance_can_be_read_that_has_failed_and_nothing_is_sent_that_moves_money(canned: bytes) -> None:
    with answering([canned]) as address:
        report, said = checked(address)
    assert failures(report) == {"A balance is answered as JSON"}
    assert len(report.checks) == 1
    assert report.notes == [said]
    assert said.startswith("Nothing else was checked and nothing was moved")
    assert_printable(report)


@pytest.mark.parametrize("canned", SILENT.values(), ids=SILENT)
def test_a_server_that_gives_no_whole_answer_is_unreachable(canned: bytes) -> None:
    with answering([canned]) as address, pytest.raises(ServerUnreachable, match="can't be checked: "):
        checked(address)


def test_a_server_without_the_tls_that_its_url_says_is_unreachable() -> None:
    with (
        answering([SILENT["no HTTP"]]) as address,
        pytest.raises(ServerUnreachable, match="can't be checked: no TLS: "),
    ):
        checked(address.replace("http:", "https:"))


async def _amounts_have_a_limit_and_balances_none(api: ReferenceApi, request: Request) -> Answer:
    amount = re.fullmatch(rb'{"amount": ([0-9.]+)}', request.body)
    number, _, call = request.path.removeprefix("/accounts/").partition("/")
    if amount is None or Decimal(amount[1].decode()) != Decimal("9999999999999.99"):
        return await api.answer(request)
    api.balances[number] += Decimal(amount[1].decode()) * (1 if call == "deposit" else -1)
    return await api.answer(request._replace(method="GET", path=f"/accounts/{number}/balance"))


def test_accounts_are_put_back_also_where_that_takes_more_than_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKS", [check for check in CHECKS if check.name == "Balances have a limit"])
    with serving(ReferenceApi(instead=_amounts_have_a_limit_and_balances_none)) as address:
        report, _ = checked(address)
    assert named(report, "not supported") == {"Balances have a limit"}
    assert report.accounts[1].left == 1000


def test_a_server_that_answers_without_end_drop_by_drop_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def drops() -> Iterator[bytes]:
        yield JSON_HEAD
        while True:
            threading.Event().wait(0.02)
            yield b" "

    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    with answering(drops()) as address, pytest.raises(ServerUnreachable, match="no whole answer within"):
        checked(address)


def assert_printable(report: Report) -> None:
    """Neither the table nor the JSON holds what could mislead a terminal."""
    assert to_json(report).isascii()
    assert to_json(report).isprintable()
    for line in as_table(report).splitlines():
        assert len(line) <= 80
        assert line.isprintable()


async def _long_and_strange(api: ReferenceApi, request: Request) -> Answer:
    if request.method == "GET":
        return await api.answer(request)
    return Answer(418, b"\x1b[2J[red]\r\n\xe2\x80\xae\xff" * 1_000, "text/[red]plain")


def test_what_a_strange_server_answers_does_not_reach_the_terminal_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(run, "CHECKS", CHECKS[:8])
    with serving(ReferenceApi(instead=_long_and_strange)) as address:
        report, _ = checked(address)
    assert "A deposit answers the new balance" in failures(report)
    assert_printable(report)
    text = " ".join(as_table(report).split())
    assert (
        'failed A deposit answers the new balance sent POST /accounts/0/deposit {"amount": 10.25} came back 418' in text
    )
    assert "(text/[red]plain) \\x1b[2J[red]\\r\\n\\u202e\\xff" in text
    assert 'expected 200 with JSON such as {"account_number": "0", "balance": 1000.00}' in text


async def _hanging_withdrawals(api: ReferenceApi, request: Request) -> Answer:
    if request.path.endswith("withdraw"):
        await asyncio.Event().wait()
    return await api.answer(request)


def test_a_server_that_hangs_fails_where_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(run, "CHECKS", CHECKS[:5])
    with serving(ReferenceApi(instead=_hanging_withdrawals)) as address:
        report, said = checked(address)
    assert "A withdrawal answers the new balance" in failures(report)
    assert "A deposit answers the new balance" in named(report, "passed")
    (result,) = [result for result in report.checks if result.name == "A withdrawal answers the new balance"]
    assert result.received == "no whole answer within 0.2 seconds"
    assert "Account 0 could not be put back: it had 1000.00, and it is left with 1" in said
    assert report.accounts[1].left == 1000


async def _dying(api: ReferenceApi, request: Request) -> Answer:
    if api.served > 50:
        await asyncio.Event().wait()
    return await api.answer(request)


def test_of_a_server_that_stops_to_answer_the_rest_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    with serving(ReferenceApi(instead=_dying)) as address:
        report, _ = checked(address)
    assert report.failed == 1
    assert report.notes[0].startswith("The server answers no more, so ")
    assert "its balance can't be read any more" in report.notes[1]
    assert [account.left for account in report.accounts] == [None, None]


async def _used_by_others(api: ReferenceApi, request: Request) -> Answer:
    api.balances["1"] += 1
    return await api.answer(request)


def test_an_account_that_somebody_uses_is_not_touched() -> None:
    api = ReferenceApi(instead=_used_by_others)
    with serving(api) as address, pytest.raises(AccountsUnusable, match="somebody is using it"):
        checked(address)
    assert api.balances["0"] == 1000


async def _used_later(api: ReferenceApi, request: Request) -> Answer:
    if request.values(b"idempotency-key") and not api.answered:
        api.balances["1"] += 1
    return await api.answer(request)


def test_somebody_who_uses_an_account_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKS", [check for check in CHECKS if check.name in KEY_CHECKS])
    with serving(ReferenceApi(instead=_used_later)) as address:
        report, _ = checked(address)
    (note,) = report.notes
    assert note.startswith(
        "Account 1 went from 1000.00 to 1001.00 while 'A retry under its key counts once' was checked"
    )


def test_a_balance_too_far_from_zero_for_large_amounts_is_refused() -> None:
    api = ReferenceApi()
    api.balances["1"] = Decimal("-9999999999999.99")
    with serving(api) as address, pytest.raises(AccountsUnusable, match=r"Account 1 has -9999999999999\.99, too far"):
        checked(address)
    assert api.balances["0"] == 1000


class Atm:
    """``atm check``, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        self.folder = folder

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Give the exit code, what was printed to standard output, and to standard error."""
        done = subprocess.run(  # noqa: S603 - our own command
            [ATM, "check", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment,
            cwd=self.folder,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def atm(tmp_path: Path) -> Atm:
    return Atm(tmp_path)


def test_the_command_says_what_it_will_do_prints_a_table_and_exits_with_0_if_nothing_failed(atm: Atm) -> None:
    api = ReferenceApi()
    api.balances["savings"] = Decimal("12.34")
    with serving(api) as address:
        code, output, messages = atm(address, "--account", "0", "--account", "savings")
    assert code == 0
    assert f"Checking {address} with its accounts 0 (balance 1000.00) and savings (balance 12.34)." in messages
    assert "Nobody else should use these two meanwhile" in messages
    assert messages.index("Nobody else") < messages.index("Account savings is back at 12.34.")
    for check in CHECKS:
        assert check.name in output
    assert f"{len(CHECKS) - 3} passed, 0 failed, 3 not supported." in output
    assert api.balances == {"0": 1000, "1": 1000, "savings": Decimal("12.34")}


def test_on_demand_json_is_all_that_goes_to_standard_output_and_the_exit_code_is_1_if_anything_failed(atm: Atm) -> None:
    with serving(ReferenceApi("floats", has_keys=False)) as address:
        code, output, messages = atm(address, "--json")
    assert code == 1
    report = json.loads(output)
    assert set(report) == {"server", "accounts", "passed", "failed", "not_supported", "notes", "checks"}
    assert report["server"] == address
    assert report["accounts"][1] == {"account_number": "1", "found": 1000, "left": 1000}
    assert (report["passed"], report["failed"], report["not_supported"]) == (len(CHECKS) - 8, 1, 7)
    assert [check["name"] for check in report["checks"]] == [check.name for check in CHECKS]
    (failed,) = [check for check in report["checks"] if check["outcome"] == "failed"]
    assert failed == {
        "name": "Cents stay exact",
        "outcome": "failed",
        "sent": 'POST /accounts/0/deposit {"amount": 0.10}',
        "received": '200 {"account_number": "0", "balance": 1000.3000000000001}',
        "expected": "a balance of exactly 1000.30",
        "reason": None,
    }
    assert "Checking" in messages


@pytest.mark.parametrize(
    "url",
    ["", "http", "ftp://127.0.0.1/", "http://", "http://:8000", "http://127.0.0.1:99999", "http://127.0.0.1:0",
     "http://127.0.0.1:x", "http://[::1", "http://a b/", "http://127.0.0.1/?a=b", "http://127.0.0.1/#a", "http://\u0661/"],
)  # fmt: skip
def test_a_url_that_no_server_can_be_at_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not where a server is: write it like http://127"):
        checked(url)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("127.0.0.1:8000", 2, "'127.0.0.1:8000' is not where a server is: write it like http://127.0.0.1:8000."),
        ("http://127.0.0.1:1 --account 0", 2, "two different accounts are needed"),
        ("http://127.0.0.1:1 --account 0 --account 0", 2, "two different accounts are needed"),
        (
            "http://127.0.0.1:1 --account 0 --account a/b",
            2,
            "atm: The account number 'a/b' must be a string of 1 to 64",
        ),
        ("http://127.0.0.1:1", 4, "atm: http://127.0.0.1:1 can't be checked: no answer: connection refused."),
        ("http://me:secret@127.0.0.1:1", 4, "atm: http://me:***@127.0.0.1:1 can't be checked: no answer: "),
    ],
)
def test_what_can_not_be_checked_says_why_on_standard_error_and_by_its_exit_code(
    atm: Atm, arguments: str, code: int, message: str
) -> None:
    exit_code, output, messages = atm(*arguments.split(" "))
    assert (exit_code, output) == (code, "")
    assert message in " ".join(messages.replace("│", "").split())
    assert code == 2 or messages.count("\n") == 1


def test_an_account_that_does_not_exist_is_exit_code_3(atm: Atm) -> None:
    with serving(ReferenceApi()) as address:
        code, output, messages = atm(address, "--account", "0", "--account", "9")
    assert (code, output) == (3, "")
    assert messages.startswith(f"atm: {address} answers 404 to GET /accounts/9/balance: name two accounts that exist")


def test_ctrl_c_puts_the_accounts_back_also_if_an_answer_is_still_to_come(atm: Atm) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def slow_once(api: ReferenceApi, request: Request) -> Answer:
        if b'"amount": 0.01}' not in request.body or begun.is_set():
            return await api.answer(request)
        begun.set()
        await asyncio.sleep(0.5)  # a slow server: Ctrl-C comes while this deposit is under way
        answer = await api.answer(request)
        ended.set()
        return answer

    api = ReferenceApi(instead=slow_once)
    with (
        serving(api) as address,
        subprocess.Popen(  # noqa: S603 - our own command
            [ATM, "check", address, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=atm.environment,
        ) as process,
    ):
        assert begun.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=60)
        assert ended.wait(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in messages
    assert "Account 0 is back at 1000.00." in messages
    assert api.balances == {"0": 1000, "1": 1000}
