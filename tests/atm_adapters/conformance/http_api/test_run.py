"""A run of all checks: Mini-ATM's server passes on every store, and the balances are restored."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from support.http_api_check import ACCESS_CHECK, KEY_CHECKS, check, failures, select_checks, with_outcome
from support.postgres import Postgres, fresh_schema
from support.reference_api import ReferenceApi, Request, Response, serving
from support.server import running_server
from support.stores import demo_store

from atm_adapters.conformance.http_api import client
from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.conformance.http_api.run import APPROXIMATE_REQUESTS, AccountsUnusable
from atm_core import MAX_MONEY


@pytest.mark.parametrize("store", ["memory", "SQLite", "PostgreSQL"])
def test_our_server_passes_every_check(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with _store_url(store, tmp_path, request) as url, running_server(url, tmp_path, "--log-level", "error") as server:
        report, messages = check(server.address)
    assert (failures(report), with_outcome(report, "not supported")) == (set(), {ACCESS_CHECK})
    assert (report.passed, report.notes) == (len(CHECKS) - 1, [])
    for account in report.accounts:
        assert account.found == account.left == 1000
    assert "Restored account 1 to a balance of 1000.00." in messages
    requests = re.search(r"^Sent ([0-9,]+) requests", messages, re.MULTILINE)
    assert requests is not None
    assert int(requests[1].replace(",", "")) == pytest.approx(APPROXIMATE_REQUESTS, rel=0.1)


@contextmanager
def _store_url(store: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if store == "PostgreSQL":
        postgres: Postgres = request.getfixturevalue("postgres")
        with fresh_schema(postgres) as url:
            yield demo_store(url)
    else:
        yield "memory:" if store == "memory" else demo_store(folder / "accounts.sqlite3")


async def _unlimited_balances(api: ReferenceApi, request: Request) -> Response:
    amount = re.fullmatch(rb'{"amount": ([0-9.]+)}', request.body)
    number, _, call = request.path.removeprefix("/accounts/").partition("/")
    if amount is None or Decimal(amount[1].decode()) != MAX_MONEY:
        return await api.respond(request)
    api.balances[number] += MAX_MONEY * (1 if call == "deposit" else -1)
    return await api.respond(request._replace(method="GET", path=f"/accounts/{number}/balance"))


def test_balance_above_the_largest_amount_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, "Balances have a limit")
    with serving(ReferenceApi(handler=_unlimited_balances)) as address:
        report, _ = check(address)
    assert with_outcome(report, "not supported") == {"Balances have a limit"}
    assert report.accounts[1].left == 1000


async def _stops_responding(api: ReferenceApi, request: Request) -> Response:
    if api.requests > 50:
        await asyncio.Event().wait()
    return await api.respond(request)


def test_checks_end_when_the_server_stops_responding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESPONSE_TIMEOUT", 0.2)
    with serving(ReferenceApi(handler=_stops_responding)) as address:
        report, _ = check(address)
    assert report.failed == 1
    assert re.fullmatch(r"Skipped \d+ checks, because the server no longer responds\.", report.notes[0])
    assert report.notes[1] == "Could not restore account 0: its balance was 1000.00, now unknown."
    assert [account.left for account in report.accounts] == [None, None]


async def _account_in_use(api: ReferenceApi, request: Request) -> Response:
    api.balances["1"] += 1
    return await api.respond(request)


def test_account_in_use_is_refused() -> None:
    api = ReferenceApi(handler=_account_in_use)
    with serving(api) as address, pytest.raises(AccountsUnusable, match="another client uses it"):
        check(address)
    assert api.balances["0"] == 1000


async def _later_in_use(api: ReferenceApi, request: Request) -> Response:
    if request.values(b"idempotency-key") and not api.recorded:
        api.balances["1"] += 1
    return await api.respond(request)


def test_account_used_during_a_check_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, *KEY_CHECKS)
    with serving(ReferenceApi(handler=_later_in_use)) as address:
        report, _ = check(address)
    (note,) = report.notes
    assert note.startswith(
        "The balance of account 1 changed from 1000.00 to 1001.00 during the check "
        "'A retry with the same key is applied once'"
    )


def test_balance_too_far_from_zero_is_refused() -> None:
    api = ReferenceApi()
    api.balances["1"] = -MAX_MONEY
    with (
        serving(api) as address,
        pytest.raises(AccountsUnusable, match=rf"The balance of account 1 is {re.escape(str(-MAX_MONEY))}, "),
    ):
        check(address)
    assert api.balances["0"] == 1000


@pytest.mark.parametrize(
    "url",
    ["", "http", "ftp://127.0.0.1/", "http://", "http://:8000", "http://127.0.0.1:99999", "http://127.0.0.1:0",
     "http://127.0.0.1:x", "http://[::1", "http://a b/", "http://127.0.0.1/?a=b", "http://127.0.0.1/#a", "http://\u0661/"],
)  # fmt: skip
def test_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not the URL of a server\. Use a URL like http://127"):
        check(url)
