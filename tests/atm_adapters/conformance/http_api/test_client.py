"""The client reports any response of a server, and the lack of one, without a crash."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from support.http_api_check import JSON_HEAD, assert_printable, canned_server, check, failures, with_outcome
from support.reference_api import ReferenceApi, Request, Response, serving

from atm_adapters.conformance.http_api import client, run
from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.conformance.http_api.run import ServerUnreachable

BALANCES = [
    b"null", b"true", b'"1000.00"', b"NaN", b"Infinity", b"1e400", b"1e999999999", b"1e9999999999999999999",
    b"9" * 5_000, b"0." + b"3" * 5_000,
]  # fmt: skip
WITHOUT_BALANCE = {
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>",
    "JSON without a Content-Type": b'HTTP/1.1 200 OK\r\n\r\n{"account_number": "0", "balance": 1000.00}',
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "internal error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "malformed JSON": JSON_HEAD + b"{]}\xff",
    "nested JSON": JSON_HEAD + b"[" * 90_000,
    "list": JSON_HEAD + b"[]",
    "other account": JSON_HEAD + b'{"account_number": "7", "balance": 1000.00}',
    **{
        f"balance {balance[:20].decode()}": JSON_HEAD + b'{"account_number": "0", "balance": %s}' % balance
        for balance in BALANCES
    },
}
INCOMPLETE = {
    "nothing": b"",
    "not HTTP": b"hello\r\n\r\n",
    "half a response": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "too large": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (client.MAX_RESPONSE_BYTES + 1),
}


@pytest.mark.parametrize("response", WITHOUT_BALANCE.values(), ids=WITHOUT_BALANCE)
def test_unreadable_balance_fails_without_transactions(response: bytes) -> None:
    with canned_server([response]) as address:
        report, messages = check(address)
    assert failures(report) == {"Balances are returned as JSON"}
    assert len(report.checks) == 1
    assert report.notes == [messages]
    assert messages.startswith("Skipped all other checks and sent no transactions")
    assert_printable(report)


@pytest.mark.parametrize("response", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete_response_is_unreachable(response: bytes) -> None:
    with canned_server([response]) as address, pytest.raises(ServerUnreachable, match="Cannot check http://127"):
        check(address)


def test_https_url_of_a_server_without_tls_is_unreachable() -> None:
    with (
        canned_server([INCOMPLETE["not HTTP"]]) as address,
        pytest.raises(ServerUnreachable, match=r"Cannot check https://.*: TLS error \("),
    ):
        check(address.replace("http:", "https:"))


def test_endless_slow_response_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_bytes() -> Iterator[bytes]:
        yield JSON_HEAD
        while True:
            threading.Event().wait(0.02)
            yield b" "

    monkeypatch.setattr(client, "RESPONSE_TIMEOUT", 0.2)
    with canned_server(slow_bytes()) as address, pytest.raises(ServerUnreachable, match="no complete response within"):
        check(address)


async def _hanging_withdrawals(api: ReferenceApi, request: Request) -> Response:
    if request.path.endswith("withdraw"):
        await asyncio.Event().wait()
    return await api.respond(request)


def test_hanging_request_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESPONSE_TIMEOUT", 0.2)
    monkeypatch.setattr(run, "CHECKS", CHECKS[:5])
    with serving(ReferenceApi(handler=_hanging_withdrawals)) as address:
        report, messages = check(address)
    assert "A withdrawal returns the new balance" in failures(report)
    assert "A deposit returns the new balance" in with_outcome(report, "passed")
    (result,) = [result for result in report.checks if result.name == "A withdrawal returns the new balance"]
    assert result.received == "no complete response within 0.2 seconds"
    assert "Could not restore account 0: its balance was 1000.00, now 1" in messages
    assert report.accounts[1].left == 1000
