"""The calls of the API: parse the request, call the use case, answer.

Handlers read the body's bytes and answer encoded bytes, which keeps money exact (see ``wire/exact_json.py``).
"""

import logging
import re
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

from litestar import Request, get, post
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPReceiveMessage, Receive, Scope, Send

from atm_adapters.front_ends.http.openapi import (
    BALANCE_POINTER,
    DEPOSIT,
    GET_BALANCE,
    KEY_NOT_NEEDED,
    OPEN_ACCOUNT,
    WITHDRAW,
)
from atm_adapters.front_ends.http.problems import MAX_BODY_BYTES, ClientDisconnected, UnsupportedMediaType
from atm_adapters.wire.exact_json import decode_amount, decode_opening, encode_account
from atm_core import Account, AccountRepository, MoneyLike, use_cases
from atm_core.errors import AtmError, InvalidIdempotencyKey, OutcomeUnknown, StoreUnavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)

_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json\s*(;.*)?", re.ASCII | re.IGNORECASE)
# A string of RFC 8941, section 3.3.3, the form that the IETF draft for Idempotency-Key prescribes.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_OPENING_UNKNOWN = partial(OutcomeUnknown, advice=OutcomeUnknown.OF_OPENING)


class AccountResponse:
    """An account as an ASGI response, which Litestar sends unchanged."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, account: Account, status: int = HTTPStatus.OK, *headers: tuple[bytes, bytes]) -> None:
        self._body = encode_account(account)
        self._status = status
        self._headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        length = b"%d" % len(self._body)
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *self._headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def account_routes(accounts: AccountRepository[Awaitable[Account]]) -> list[HTTPRouteHandler]:
    """Return the route handlers for these accounts."""

    @get("/accounts/{account_number:str}/balance", operation_id="getBalance", operation_class=GET_BALANCE)
    async def balance(request: Request[Any, Any, Any]) -> AccountResponse:
        call = use_cases.get_account(accounts, request.path_params["account_number"])
        account = await _or_shutdown_error(call, StoreUnavailable)
        logger.info("balance of account %s checked", account.account_number)
        return AccountResponse(account)

    @post("/accounts/{account_number:str}/deposit", operation_id="deposit", operation_class=DEPOSIT, status_code=200)
    async def deposit(request: Request[Any, Any, Any]) -> AccountResponse:
        amount, key = await _amount_and_key(request)
        call = use_cases.deposit(accounts, request.path_params["account_number"], amount, key)
        account = await _or_shutdown_error(call, OutcomeUnknown)
        logger.info("deposit to account %s", account.account_number)
        return AccountResponse(account)

    @post("/accounts/{account_number:str}/withdraw", operation_id="withdraw", operation_class=WITHDRAW, status_code=200)
    async def withdraw(request: Request[Any, Any, Any]) -> AccountResponse:
        amount, key = await _amount_and_key(request)
        call = use_cases.withdraw(accounts, request.path_params["account_number"], amount, key)
        account = await _or_shutdown_error(call, OutcomeUnknown)
        logger.info("withdrawal from account %s", account.account_number)
        return AccountResponse(account)

    @post("/accounts", operation_id="openAccount", operation_class=OPEN_ACCOUNT, money_pointer=BALANCE_POINTER)
    async def open_account(request: Request[Any, Any, Any]) -> AccountResponse:
        body, keys = await _json_and_keys(request)
        if keys:
            raise InvalidIdempotencyKey(keys[0], KEY_NOT_NEEDED)
        account = await _or_shutdown_error(use_cases.open_account(accounts, *decode_opening(body)), _OPENING_UNKNOWN)
        logger.info("account %s opened", account.account_number)
        location = f"/accounts/{account.account_number}/balance".encode()
        return AccountResponse(account, HTTPStatus.CREATED, (b"location", location))

    return [balance, deposit, withdraw, open_account]


async def _amount_and_key(request: Request[Any, Any, Any]) -> tuple[MoneyLike, str | None]:
    body, keys = await _json_and_keys(request)
    amount = decode_amount(body)
    if len(keys) > 1:
        raise InvalidIdempotencyKey(None, "must be sent once, and it was sent more than once")
    return amount, _unquote_key(keys[0]) if keys else None


async def _json_and_keys(request: Request[Any, Any, Any]) -> tuple[bytes, list[str]]:
    keys = []
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            # A request without a Content-Type is taken as JSON. Only another type is refused.
            if _JSON.fullmatch(value.decode("latin-1").strip()) is None:
                raise UnsupportedMediaType
        elif name == b"idempotency-key":
            keys.append(value.decode("latin-1"))
        elif name == b"content-length" and int(value) > MAX_BODY_BYTES:  # the server checked that it is a number
            raise RequestEntityTooLarge
    return await _or_shutdown_error(_body(request), StoreUnavailable), keys


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """Read the body. Litestar's own ``request.body()`` takes as long as the deposit itself."""
    body = b""
    while True:
        message = cast("HTTPReceiveMessage", await request.receive())
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if not message.get("more_body", False):
            return body


async def _or_shutdown_error(call: Awaitable[T], error_class: Callable[[str, str], AtmError]) -> T:
    """Await a call. If the server cancels it at the end of its grace period, raise an error that says what is known."""
    try:
        return await call
    except CancelledError as error:
        raise error_class("of this server", "it is shutting down") from error


def _unquote_key(key: str) -> str:
    """Return the key without the quotes that it may have."""
    if not key.startswith('"'):
        return key
    quoted = _QUOTED.fullmatch(key)
    if quoted is None:
        reason = "begins with a quote, so it must end with one and escape inner quotes with a backslash"
        raise InvalidIdempotencyKey(key, reason)
    return re.sub(r"\\(.)", r"\1", quoted[1])
