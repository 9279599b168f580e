"""The calls of the API: parse, call the core, answer.

Handlers read the body's bytes and answer bytes that are encoded already, because that is what keeps
money exact on the wire (see ``exact_json``).
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

from atm_adapters.exact_json import decode_amount, decode_opening, encode_account
from atm_adapters.http.openapi import BalanceOperation, DepositOperation, OpenOperation, WithdrawOperation
from atm_adapters.http.problems import MAX_BODY_BYTES, OPENING_MONEY_AT, ClientLeft, UnsupportedMediaType
from atm_core import (
    Account,
    AccountRepository,
    Amount,
    AtmError,
    InvalidKey,
    OutcomeUnknown,
    StoreUnavailable,
    check_balance,
    deposit,
    open_account,
    withdraw,
)
from atm_core.errors import READ_WHETHER_IT_EXISTS

T = TypeVar("T")

logger = logging.getLogger(__name__)

_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json\s*(;.*)?", re.ASCII | re.IGNORECASE)
# A quoted string as in RFC 8941, section 3.3.3: how the IETF's draft for Idempotency-Key writes it.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_OPENING_UNKNOWN = partial(OutcomeUnknown, advice=READ_WHETHER_IT_EXISTS)


class AccountResponse:
    """An account as an ASGI response, for Litestar to send as it is."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, account: Account, status: int = HTTPStatus.OK, *headers: tuple[bytes, bytes]) -> None:
        self._body = encode_account(account)
        self._status = status
        self._headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        length = b"%d" % len(self._body)
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *self._headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def account_routes(accounts: AccountRepository[Awaitable[Account]]) -> list[HTTPRouteHandler]:
    """Make the route handlers that serve these accounts."""

    @get(
        "/accounts/{account_number:str}/balance",
        operation_id="checkBalance",
        operation_class=BalanceOperation,
    )
    async def balance_route(request: Request[Any, Any, Any]) -> AccountResponse:
        account = await _unless_cut_off(
            check_balance(accounts, request.path_params["account_number"]), StoreUnavailable
        )
        logger.info("balance of account %s checked", account.number)
        return AccountResponse(account)

    @post(
        "/accounts/{account_number:str}/deposit",
        operation_id="deposit",
        operation_class=DepositOperation,
        status_code=200,
    )
    async def deposit_route(request: Request[Any, Any, Any]) -> AccountResponse:
        amount, key = await _amount_and_key(request)
        call = deposit(accounts, request.path_params["account_number"], amount, key)
        account = await _unless_cut_off(call, OutcomeUnknown)
        logger.info("deposit to account %s", account.number)
        return AccountResponse(account)

    @post(
        "/accounts/{account_number:str}/withdraw",
        operation_id="withdraw",
        operation_class=WithdrawOperation,
        status_code=200,
    )
    async def withdraw_route(request: Request[Any, Any, Any]) -> AccountResponse:
        amount, key = await _amount_and_key(request)
        call = withdraw(accounts, request.path_params["account_number"], amount, key)
        account = await _unless_cut_off(call, OutcomeUnknown)
        logger.info("withdrawal from account %s", account.number)
        return AccountResponse(account)

    @post("/accounts", operation_id="openAccount", operation_class=OpenOperation, money_at=OPENING_MONEY_AT)
    async def open_route(request: Request[Any, Any, Any]) -> AccountResponse:
        body, keys = await _json_and_keys(request)
        if keys:
            raise InvalidKey(keys[0], "is not needed to open an account, whose number counts once by itself")
        account = await _unless_cut_off(open_account(accounts, *decode_opening(body)), _OPENING_UNKNOWN)
        logger.info("account %s opened", account.number)
        location = f"/accounts/{account.number}/balance".encode()
        return AccountResponse(account, HTTPStatus.CREATED, (b"location", location))

    return [balance_route, deposit_route, withdraw_route, open_route]


async def _amount_and_key(request: Request[Any, Any, Any]) -> tuple[Amount, str | None]:
    body, keys = await _json_and_keys(request)
    amount = decode_amount(body)
    if len(keys) > 1:
        raise InvalidKey(None, "must be sent once, and it was sent more than once")
    return amount, _bare(keys[0]) if keys else None


async def _json_and_keys(request: Request[Any, Any, Any]) -> tuple[bytes, list[str]]:
    keys = []
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            # An absent one is taken as JSON, so only one that says something else is refused.
            if _JSON.fullmatch(value.decode("latin-1").strip()) is None:
                raise UnsupportedMediaType
        elif name == b"idempotency-key":
            keys.append(value.decode("latin-1"))
    return await _unless_cut_off(_body(request), StoreUnavailable), keys


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """Read the body; Litestar's own way to it costs as much as the deposit itself."""
    body = b""
    while True:
        message = cast("HTTPReceiveMessage", await request.receive())
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if not message.get("more_body", False):
            return body


async def _unless_cut_off(call: Awaitable[T], failure: Callable[[str, str], AtmError]) -> T:
    """Await a call; when the server cancels it at the end of its grace for a shutdown, fail with what is then true."""
    try:
        return await call
    except CancelledError as error:
        raise failure("behind this server", "it is shutting down") from error


def _bare(key: str) -> str:
    """Take the quotes off a key that has them."""
    if not key.startswith('"'):
        return key
    quoted = _QUOTED.fullmatch(key)
    if quoted is None:
        raise InvalidKey(key, "begins with a quote, so it must end with one and escape those between with a backslash")
    return re.sub(r"\\(.)", r"\1", quoted[1])
