"""The history of an account over HTTP, on a running server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar.testing import TestClient
from support.problems import assert_problem

from atm_adapters.front_ends.http.app import create_app
from atm_core import Account, Transaction


@pytest.fixture
def number(client: httpx.Client) -> str:
    """Return the number of a new account with 7 entries, an entry of each kind."""
    number = uuid4().hex
    account = f"/accounts/{number}"
    limits = {"overdraft_limit": 500, "withdrawal_limit": None}
    client.post("/accounts", json={"account_number": number, "balance": 5, "overdraft_limit": 0})
    client.post(f"{account}/deposit", json={"amount": 100, "note": "order 1234"}, headers={"Idempotency-Key": "k"})
    client.post(f"{account}/withdraw", json={"amount": "105.00"})
    client.put(f"{account}/limits", json=limits)
    client.post(f"{account}/close", json={"note": "moved away"})
    client.post(f"{account}/reopen")
    assert client.post(f"{account}/deposit", json={"amount": "0.10"}).json()["entry"] == 7
    return number


def history(client: httpx.Client, number: str, query: str = "", **headers: str) -> dict[str, Any]:
    answer = client.get(f"/accounts/{number}/history{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    assert list(result) == ["account_number", "entries", "next"]
    assert result["account_number"] == number
    assert answer.headers.get("link") == (f'<{result["next"]}>; rel="next"' if result["next"] else None)
    return result


def numbers(page: dict[str, Any]) -> list[int]:
    return [entry["entry"] for entry in page["entries"]]


def pages(client: httpx.Client, url: str) -> Iterator[dict[str, Any]]:
    """Yield the page at a URL, and those that follow it by ``next``."""
    following: str | None = url
    while following is not None:
        page = client.get(following).json()
        yield page
        following = page["next"]


def test_every_kind_of_entry_has_the_documented_members(client: httpx.Client, number: str) -> None:
    entries = history(client, number)["entries"]
    for entry in entries:
        age = datetime.now(UTC) - datetime.strptime(entry.pop("recorded_at"), "%Y-%m-%dT%H:%M:%S.%f%z")
        assert timedelta(seconds=-1) < age < timedelta(minutes=10)
    unlimited = {"overdraft_limit": 500, "withdrawal_limit": None}
    assert entries == [
        {"entry": 7, "kind": "deposit", "amount": 0.1, "balance": 0.1, "note": None},
        {"entry": 6, "kind": "reopening", "amount": None, "balance": 0, "note": None},
        {"entry": 5, "kind": "closing", "amount": None, "balance": 0, "note": "moved away"},
        {"entry": 4, "kind": "limit-change", "amount": None, "balance": 0, "note": None, **unlimited},
        {"entry": 3, "kind": "withdrawal", "amount": 105, "balance": 0, "note": None},
        {"entry": 2, "kind": "deposit", "amount": 100, "balance": 105, "note": "order 1234"},
        {
            "entry": 1,
            "kind": "opening",
            "amount": 5,
            "balance": 5,
            "note": None,
            "overdraft_limit": 0,
            "withdrawal_limit": None,
        },
    ]


def test_page_has_the_bytes_that_are_documented(client: httpx.Client, number: str) -> None:
    text = client.get(f"/accounts/{number}/history?limit=1&before=3").text
    time = text.partition('"recorded_at":"')[2][:24]
    assert text == (
        f'{{"account_number":"{number}","entries":[{{"entry":2,"kind":"deposit","amount":100.00,"balance":105.00,'
        f'"note":"order 1234","recorded_at":"{time}"}}],"next":"/accounts/{number}/history?before=2&limit=1"}}'
    )
    assert datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%f%z").tzinfo is UTC


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_have_each_entry_once_while_deposits_go_on(client: httpx.Client, number: str, limit: int) -> None:
    seen: list[int] = []
    for page in pages(client, f"/accounts/{number}/history?limit={limit}"):
        seen += numbers(page)
        client.post(f"/accounts/{number}/deposit", json={"amount": 1})
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_follower_gets_each_entry_once_and_continues(client: httpx.Client, number: str) -> None:
    seen: list[int] = []
    for _ in range(3):
        for page in pages(client, f"/accounts/{number}/history?after={seen[-1] if seen else 0}&limit=2"):
            seen += numbers(page)
        client.post(f"/accounts/{number}/deposit", json={"amount": 1})
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_page_without_more_entries_is_the_last(client: httpx.Client, number: str) -> None:
    assert history(client, number, "?limit=7")["next"] is None
    assert history(client, number, "?limit=6")["next"] == f"/accounts/{number}/history?before=2&limit=6"
    assert history(client, number, "?limit=6&after=0")["next"] == f"/accounts/{number}/history?after=6&limit=6"
    assert numbers(history(client, number, "?before=1")) == []
    assert numbers(history(client, number, "?after=7")) == []
    assert numbers(history(client, number, "?after=9007199254740991")) == []
    assert numbers(history(client, number, "?before=9007199254740991&limit=1000")) == [7, 6, 5, 4, 3, 2, 1]


def test_page_has_50_entries_by_default(client: httpx.Client) -> None:
    number = uuid4().hex
    client.post("/accounts", json={"account_number": number})
    for _ in range(50):
        client.post(f"/accounts/{number}/deposit", json={"amount": 1})
    page = history(client, number)
    assert numbers(page) == [*range(51, 1, -1)]
    assert page["next"] == f"/accounts/{number}/history?before=2"
    assert numbers(client.get(page["next"]).json()) == [1]


def test_complete_entries_have_key_and_limits(client: httpx.Client, number: str) -> None:
    answer = client.get(f"/accounts/{number}/history", headers={"Prefer": "return=representation"})
    assert answer.headers["preference-applied"] == "return=representation"
    entries = {entry["entry"]: entry for entry in answer.json()["entries"]}
    assert all({"key", "overdraft_limit", "withdrawal_limit", "closed"} <= entry.keys() for entry in entries.values())
    assert {number: entry["key"] for number, entry in entries.items() if entry["key"]} == {2: "k"}
    assert [number for number, entry in entries.items() if entry["closed"]] == [5]
    assert (entries[3]["overdraft_limit"], entries[7]["overdraft_limit"]) == (0, 500)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "The argument limit (0) must be a whole number from 1 to 1,000."),
        ("limit=1001", "must be a whole number from 1 to 1,000"),
        ("limit=", "must be a whole number"),
        ("limit", "must be a whole number"),
        ("limit=-1", "must be a whole number"),
        ("limit=%2B1", "must be a whole number"),
        ("limit=1.0", "must be a whole number"),
        ("limit=1_0", "must be a whole number"),
        ("limit=%D9%A1", "must be a whole number"),
        ("limit=ten", "The argument limit ('ten') must be a whole number"),
        ("limit=5&limit=5", "The argument limit must be sent once"),
        ("before=0", "The argument before (0) must be a whole number from 1 to 9,007,199,254,740,991."),
        ("before=" + "9" * 5000, "must be a whole number"),
        ("after=-1", "must be a whole number from 0 to"),
        ("after=9007199254740992", "must be a whole number"),
        ("before=1&after=1", "The argument before (1) cannot be combined with after: use one of them."),
    ],
    ids=lambda text: text[:30],
)
def test_wrong_page_is_422_and_says_what_is_right(client: httpx.Client, query: str, words: str) -> None:
    answer = client.get(f"/accounts/0/history?{query}")
    assert_problem(answer, 422, "invalid-page")
    assert words in answer.json()["detail"]


def test_unknown_query_parameters_are_ignored(client: httpx.Client) -> None:
    assert history(client, "0", "?page=2&page=3&Limit=0&limit=1") == history(client, "0", "?limit=1")


def test_history_of_an_unknown_account_is_404(client: httpx.Client) -> None:
    assert_problem(client.get("/accounts/9/history"), 404, "account-not-found")
    assert_problem(client.get("/accounts/a.b/history"), 422, "invalid-account-number")


class WithoutHistory:
    """A repository without history."""

    async def get(self, account_number: str, /) -> Account:
        return Account(account_number, 1)

    async def execute(self, transaction: Transaction, /) -> Account:
        return Account(transaction.account_number, 1)


def test_repository_without_history_has_no_route_for_it() -> None:
    with TestClient(create_app(WithoutHistory())) as client:
        assert client.get("/accounts/0").status_code == 200
        assert client.get("/accounts/0/history").status_code == 404
        assert "/accounts/{account_number}/history" not in client.get("/openapi.json").json()["paths"]
