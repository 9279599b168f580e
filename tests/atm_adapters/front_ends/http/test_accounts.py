"""Limits, closing and reopening over HTTP, on a running server."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.problems import assert_problem
from support.server import Server, running_server
from support.stores import demo_store

COMPLETE = {"Prefer": "return=representation"}


@pytest.fixture
def number(client: httpx.Client) -> str:
    """Return the number of a new account with 10.00 and an overdraft limit of 0."""
    return opened(client)


def opened(client: httpx.Client) -> str:
    number = uuid4().hex
    body = {"account_number": number, "balance": 10, "overdraft_limit": 0, "note": "welcome"}
    assert client.post("/accounts", json=body).status_code == 201
    return number


def test_account_has_exactly_the_documented_members(client: httpx.Client, number: str) -> None:
    assert client.get(f"/accounts/{number}").text == (
        f'{{"account_number":"{number}","balance":10.00,"available":10.00,'
        '"overdraft_limit":0.00,"withdrawal_limit":null,"closed":false}'
    )


def test_20_buyers_cannot_spend_more_than_there_is(server: Server) -> None:
    assert_one_of_20_buyers_succeeds(server)


def test_20_buyers_of_two_workers_cannot_either(tmp_path: Path) -> None:
    with running_server(demo_store(tmp_path / "accounts.sqlite3"), tmp_path, "--workers", "2") as server:
        assert_one_of_20_buyers_succeeds(server)


def assert_one_of_20_buyers_succeeds(server: Server) -> None:
    with httpx.Client(base_url=server.address, timeout=30) as client:
        number = opened(client)

        def buy(_: int) -> httpx.Response:
            return httpx.post(f"{server.address}/accounts/{number}/withdraw", json={"amount": "6.00"}, timeout=30)

        with ThreadPoolExecutor(20) as buyers:
            answers = sorted(buyers.map(buy, range(20)), key=lambda answer: answer.status_code)
        assert answers[0].text == f'{{"account_number":"{number}","balance":4.00,"entry":2}}'
        for answer in answers[1:]:
            assert_problem(answer, 409, "insufficient-funds")
            assert answer.json(parse_float=Decimal)["available"] == Decimal("4.00")
        assert client.get(f"/accounts/{number}").json()["balance"] == 4


def test_limits_are_replaced_and_obeyed(client: httpx.Client, number: str) -> None:
    limits = f"/accounts/{number}/limits"
    answer = client.put(limits, json={"overdraft_limit": "500", "withdrawal_limit": 400.00})
    assert answer.status_code == 200
    assert answer.text == (
        f'{{"account_number":"{number}","balance":10.00,"available":510.00,'
        '"overdraft_limit":500.00,"withdrawal_limit":400.00,"closed":false,"entry":2}'
    )
    refusal = client.post(f"/accounts/{number}/withdraw", json={"amount": "400.01"})
    assert_problem(refusal, 409, "withdrawal-limit-exceeded")
    assert refusal.json()["limit"] == 400
    unlimited = client.put(limits, json={"overdraft_limit": None, "withdrawal_limit": None}).json()
    assert (unlimited["available"], unlimited["overdraft_limit"], unlimited["withdrawal_limit"]) == (None, None, None)
    assert client.post(f"/accounts/{number}/withdraw", json={"amount": "4000"}).json()["balance"] == -3990


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"overdraft_limit": 5}, "invalid-body", "#/withdrawal_limit"),
        ({"withdrawal_limit": 5}, "invalid-body", "#/overdraft_limit"),
        ({"overdraft_limit": -5, "withdrawal_limit": 5}, "invalid-amount", "#/overdraft_limit"),
        ({"overdraft_limit": 5, "withdrawal_limit": "0.001"}, "invalid-amount", "#/withdrawal_limit"),
        ({"overdraft_limit": 5, "withdrawal_limit": False}, "invalid-amount", "#/withdrawal_limit"),
        ({"overdraft_limit": 5, "withdrawal_limit": 5, "note": ""}, "invalid-note", "#/note"),
        ({"overdraft_limit": 5, "withdrawal_limit": 5, "note": 5}, "invalid-body", "#/note"),
    ],
)
def test_wrong_limits_are_422_and_change_nothing(
    client: httpx.Client, number: str, body: dict[str, object], code: str, pointer: str
) -> None:
    before = client.get(f"/accounts/{number}", headers=COMPLETE).text
    refusal = client.put(f"/accounts/{number}/limits", json=body)
    assert_problem(refusal, 422, code)
    assert refusal.json()["errors"][0]["pointer"] == pointer
    assert client.get(f"/accounts/{number}", headers=COMPLETE).text == before


def test_account_is_closed_at_zero_and_reopened(client: httpx.Client, number: str) -> None:
    account = f"/accounts/{number}"
    refusal = client.post(f"{account}/close")
    assert_problem(refusal, 409, "balance-not-zero")
    assert refusal.json()["balance"] == 10
    assert_problem(client.post(f"{account}/reopen"), 409, "account-not-closed")
    client.post(f"{account}/withdraw", json={"amount": 10})
    closed = client.post(f"{account}/close", json={"note": "moved away"})
    assert (closed.status_code, closed.json()["closed"], closed.json()["entry"]) == (200, True, 3)
    assert client.get(f"{account}/balance").json()["balance"] == 0
    assert client.get(account).json()["available"] == 0
    for call, body in (("deposit", {"amount": 1}), ("withdraw", {"amount": 1}), ("close", None)):
        assert_problem(client.post(f"{account}/{call}", json=body), 409, "account-closed")
    assert_problem(client.post("/accounts", json={"account_number": number}), 409, "account-already-exists")
    reopened = client.post(f"{account}/reopen", json={})
    assert (reopened.status_code, reopened.json()["closed"], reopened.json()["overdraft_limit"]) == (200, False, 0)
    assert client.post(f"{account}/deposit", json={"amount": 1}).json()["entry"] == 5


def test_repeated_key_returns_the_first_answer_of_every_call(client: httpx.Client, number: str) -> None:
    calls: list[tuple[str, str, dict[str, object] | None]] = [
        ("POST", "/accounts", {"account_number": f"{number}-2", "withdrawal_limit": 5}),
        ("POST", f"/accounts/{number}/deposit", {"amount": 2, "note": "a"}),
        ("PUT", f"/accounts/{number}/limits", {"overdraft_limit": 5, "withdrawal_limit": 12}),
        ("POST", f"/accounts/{number}/withdraw", {"amount": 12}),
        ("POST", f"/accounts/{number}/close", None),
        ("POST", f"/accounts/{number}/reopen", {"note": "b"}),
    ]
    keyed = [(*call, {"Idempotency-Key": f"key-{index}", **COMPLETE}) for index, call in enumerate(calls)]
    first = [client.request(method, path, json=body, headers=headers) for method, path, body, headers in keyed]
    assert [answer.status_code for answer in first] == [201, 200, 200, 200, 200, 200]
    client.post(f"/accounts/{number}/deposit", json={"amount": 7})
    for answer, (method, path, body, headers) in zip(first, keyed, strict=True):
        again = client.request(method, path, json=body, headers=headers)
        assert (again.status_code, again.text) == (answer.status_code, answer.text)
        changed = {**(body or {}), "note": "another"}
        assert_problem(client.request(method, path, json=changed, headers=headers), 422, "key-reused")
    assert client.get(f"/accounts/{number}", headers=COMPLETE).json()["entry"] == 7


@pytest.mark.parametrize(
    "prefer",
    [
        "return=representation",
        "respond-async, return=representation",
        'Return = "representation"; x=1',
        "a,return=representation,b",
    ],
)
def test_client_may_prefer_complete_answers(client: httpx.Client, number: str, prefer: str) -> None:
    headers = {"Prefer": prefer}
    answers = [
        client.post(f"/accounts/{number}/deposit", json={"amount": 1}, headers=headers),
        client.get(f"/accounts/{number}/balance", headers=headers),
        client.get(f"/accounts/{number}", headers=headers),
    ]
    for answer in answers:
        assert answer.headers["preference-applied"] == "return=representation"
        assert answer.json() == {
            "account_number": number,
            "balance": 11,
            "available": 11,
            "overdraft_limit": 0,
            "withdrawal_limit": None,
            "closed": False,
            "entry": 2,
        }


@pytest.mark.parametrize("prefer", ["return=minimal", "no-return=representation", "return=representations", ""])
def test_other_preferences_are_ignored(client: httpx.Client, number: str, prefer: str) -> None:
    answer = client.get(f"/accounts/{number}/balance", headers={"Prefer": prefer})
    assert "preference-applied" not in answer.headers
    assert answer.text == f'{{"account_number":"{number}","balance":10.00}}'


@pytest.mark.parametrize(
    "path",
    [
        "/", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/metrics", "/health/live", "/health/ready",
        "/accounts/0", "/accounts/0/balance", "/accounts/0/history", "/accounts/9", "/accounts/a.b", "/accounts",
        "/accounts/0/deposit", "/nothing", "/accounts/0/history?limit=0",
    ],
)  # fmt: skip
def test_head_is_answered_like_get_without_the_body(client: httpx.Client, path: str) -> None:
    get, head = client.get(path), client.head(path)
    changing = {"x-request-id", "date"}
    assert head.status_code == get.status_code
    assert {name: head.headers[name] for name in head.headers if name not in changing} == {
        name: get.headers[name] for name in get.headers if name not in changing
    }
    assert "content-length" in head.headers
    assert head.content == b""
    assert client.get("/health/live").json() == {"status": "live"}  # the connection is still in step


def test_options_and_405_name_head(client: httpx.Client) -> None:
    for answer in (client.options("/accounts/0"), client.delete("/accounts/0")):
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
