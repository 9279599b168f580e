"""Each check passes on a correct server, and fails on a server with the fault that it tests for."""

import asyncio
import json
from decimal import Decimal
from typing import get_args

import pytest
from support.http_api_check import (
    ACCESS_CHECK,
    KEY_CHECKS,
    LIFECYCLE_CHECKS,
    check,
    failures,
    select_checks,
    with_outcome,
)
from support.reference_api import Fault, Handler, ReferenceApi, Request, Response, serving

from atm_adapters.wire.problem_document import PROBLEM_JSON
from atm_core import MAX_MONEY
from atm_core.transaction import MAX_KEY_LENGTH

FOUND_BY: dict[Fault, str] = {
    "float balances": "Balances are exact to the cent",
    "accepts Infinity": "Infinite and extreme amounts are rejected",
    "lost updates": "Concurrent transactions are all applied",
    "keys saved separately": "Concurrent retries with the same key are applied once",
    "500 for unknown accounts": "Unknown accounts are rejected",
}
# The reference API neither has nor declares these features.
MISSING = {
    "Errors are problem documents (RFC 9457)",
    "Large bodies are rejected",
    "Cross-site requests are rejected",
    *LIFECYCLE_CHECKS,
    ACCESS_CHECK,
}


def test_correct_server_fails_no_check() -> None:
    with serving(ReferenceApi()) as address:
        report, _ = check(address)
    assert failures(report) == set()
    assert with_outcome(report, "not supported") == MISSING
    assert all(result.reason for result in report.checks if result.outcome == "not supported")


def test_ignored_and_undeclared_keys_are_not_supported() -> None:
    with serving(ReferenceApi(has_keys=False)) as address:
        report, _ = check(address)
    assert failures(report) == set()
    assert with_outcome(report, "not supported") == MISSING | KEY_CHECKS


@pytest.mark.parametrize("fault", get_args(Fault))
def test_each_fault_fails_exactly_one_check(fault: Fault) -> None:
    with serving(ReferenceApi(fault)) as address:
        report, _ = check(address)
    assert failures(report) == {FOUND_BY[fault]}


def test_all_faults_together_fail_exactly_their_checks() -> None:
    with serving(ReferenceApi(*get_args(Fault))) as address:
        report, _ = check(address)
    assert failures(report) == set(FOUND_BY.values())
    assert len(FOUND_BY) == report.failed == 5


async def _with_openapi_document(api: ReferenceApi, request: Request) -> Response:
    if request.path == "/schema/openapi.json":
        key = {"name": "Idempotency-Key", "in": "header"}
        errors = {"415": None, "404": {"content": {PROBLEM_JSON: None}}}
        deposit = {"post": {"parameters": [key], "responses": errors}}
        return Response(200, json.dumps({"openapi": "3.1.0", "paths": {"/deposit": deposit}}).encode())
    path = request.path.removeprefix("/v1")
    headers = [(name, b"application/json" if name == b"content-type" else value) for name, value in request.headers]
    return await api.respond(request._replace(path=path, headers=headers))


def test_declared_but_missing_features_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {
        "A retry with the same key is applied once",
        "Errors are problem documents (RFC 9457)",
        "Media types other than JSON are rejected",
    }
    select_checks(monkeypatch, *declared, *KEY_CHECKS)
    with serving(ReferenceApi(has_keys=False, handler=_with_openapi_document)) as address:
        for url in (address, f"{address}/v1/"):  # both find the document at the root of the host
            report, _ = check(url)
            assert failures(report) == declared
            assert with_outcome(report, "not supported") == KEY_CHECKS - declared


async def _created(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    is_deposit = request.path.endswith("deposit") and response.status == 200
    return response._replace(status=201) if is_deposit else response


async def _wrong_balance_after_withdrawal(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    if response.status == 200 and request.path.endswith("withdraw"):
        read = json.loads(response.body)
        return response._replace(body=json.dumps({**read, "balance": read["balance"] + 1}).encode())
    return response


async def _string_amount_error(api: ReferenceApi, request: Request) -> Response:
    return Response(500, b"") if b'"10.25"' in request.body else await api.respond(request)


async def _overdraft_error(api: ReferenceApi, request: Request) -> Response:
    return Response(500, b"") if b"1001" in request.body else await api.respond(request)


async def _deposit_changes_both_accounts(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    if request.path == "/accounts/0/deposit" and b"10.25" in request.body:
        api.balances["1"] += 1
    return response


async def _response_from_later_read(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    if b'"amount": 0.01}' in request.body:
        await asyncio.sleep(0.01)
        return await api.respond(request._replace(method="GET", path="/accounts/0/balance"))
    return response


async def _lost_withdrawals(api: ReferenceApi, request: Request) -> Response:
    if request.path.endswith("withdraw") and b'"amount": 0.01}' in request.body:
        return await api.respond(request._replace(method="GET", path="/accounts/0/balance"))
    return await api.respond(request)


async def _rejected_retry(api: ReferenceApi, request: Request) -> Response:
    keys = request.values(b"idempotency-key")
    is_retry = keys and any(keys[0] == key for _, key in api.recorded)
    return Response(409, b"{}") if is_retry else await api.respond(request)


async def _reusable_key(api: ReferenceApi, request: Request) -> Response:
    for (number, key), (*_, response) in api.recorded.items():
        if [key] == request.values(b"idempotency-key") and f"/{number}/" in request.path:
            return response
    return await api.respond(request)


async def _long_key_error(api: ReferenceApi, request: Request) -> Response:
    too_long = any(len(key) > MAX_KEY_LENGTH for key in request.values(b"idempotency-key"))
    return Response(500, b"") if too_long else await api.respond(request)


async def _deposit_opens_account(api: ReferenceApi, request: Request) -> Response:
    if request.method == "POST":
        api.balances.setdefault(request.path.split("/")[2], Decimal())
    return await api.respond(request)


async def _get_deposits(api: ReferenceApi, request: Request) -> Response:
    if request.method == "GET" and request.path.endswith("deposit"):
        return await api.respond(request._replace(method="POST", body=b'{"amount": 1}'))
    return await api.respond(request)


async def _problem_document_for_404_only(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    return response._replace(content_type=PROBLEM_JSON) if response.status == 404 else response


async def _empty_body_error(api: ReferenceApi, request: Request) -> Response:
    return Response(500, b"") if request.method == "POST" and not request.body else await api.respond(request)


async def _negative_accepted(api: ReferenceApi, request: Request) -> Response:
    if request.body == b'{"amount": -5}':
        call = {"deposit": "withdraw", "withdraw": "deposit"}[request.path.rpartition("/")[2]]
        path = request.path.rpartition("/")[0] + f"/{call}"
        return await api.respond(request._replace(path=path, body=b'{"amount": 5}'))
    return await api.respond(request)


async def _true_is_one(api: ReferenceApi, request: Request) -> Response:
    return await api.respond(request._replace(body=request.body.replace(b"true", b"1")))


async def _rounding(api: ReferenceApi, request: Request) -> Response:
    return await api.respond(request._replace(body=request.body.replace(b"10.255", b"10.26")))


async def _limit_error(api: ReferenceApi, request: Request) -> Response:
    response = await api.respond(request)
    return Response(500, b"") if str(MAX_MONEY).encode() in request.body and response.status == 422 else response


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        (_created, "A deposit returns the new balance"),
        (_wrong_balance_after_withdrawal, "A withdrawal returns the new balance"),
        (_string_amount_error, "Amounts may be JSON strings"),
        (_overdraft_error, "Balances may be negative"),
        (_deposit_changes_both_accounts, "A transaction changes no other account"),
        (_response_from_later_read, "Concurrent transactions are all applied"),
        (_lost_withdrawals, "Concurrent transactions are all applied"),
        (_rejected_retry, "A retry with the same key is applied once"),
        (_reusable_key, "A key cannot be reused for another transaction"),
        (_long_key_error, "Malformed keys are rejected"),
        (_deposit_opens_account, "Unknown accounts are rejected"),
        (_get_deposits, "GET requests change no balance"),
        (_problem_document_for_404_only, "Errors are problem documents (RFC 9457)"),
        (_empty_body_error, "Bodies without an amount are rejected"),
        (_negative_accepted, "Amounts of zero or less are rejected"),
        (_true_is_one, "Amounts that are not numbers are rejected"),
        (_rounding, "Fractions of a cent are not rounded"),
        (_limit_error, "Balances have a limit"),
    ],
)
def test_faulty_server_fails_the_check_and_is_restored(
    fault: Handler, found_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    select_checks(monkeypatch, found_by)
    api = ReferenceApi(handler=fault)
    with serving(api) as address:
        report, _ = check(address)
    assert failures(report) == {found_by}
    assert api.balances["0"] == api.balances["1"] == 1000
