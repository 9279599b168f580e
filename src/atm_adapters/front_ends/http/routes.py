"""The calls of the API: parse the request, call the use case, answer.

Handlers read the body's bytes and answer encoded bytes, which keeps money exact (see ``wire/exact_json.py``).
"""

import logging
import re
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl

from litestar import Request, get, post, put
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPReceiveMessage, Receive, Scope, Send

from atm_adapters.front_ends.http import openapi
from atm_adapters.front_ends.http.problems import (
    MAX_BODY_BYTES,
    ClientDisconnected,
    UnsupportedMediaType,
    store_refused,
)
from atm_adapters.front_ends.http.request_bodies import LIMITS, MOVEMENT, NOTE, OPENING, RequestBody
from atm_adapters.front_ends.http.tokens import Verb
from atm_adapters.wire.errors import NotAllowed, NotAuthenticated
from atm_adapters.wire.exact_json import (
    encode_account,
    encode_balance,
    encode_complete_account,
    encode_page,
    encode_receipt,
    next_page_url,
)
from atm_core import Account, AccountHistory, AccountRepository, Page, use_cases
from atm_core.errors import AtmError, InvalidIdempotencyKey, InvalidPage, OutcomeUnknown, StoreUnavailable

T = TypeVar("T")
_Request: TypeAlias = Request[Any, Any, Any]
_Header: TypeAlias = tuple[bytes, bytes]

logger = logging.getLogger(__name__)

_CREATED: Final = int(HTTPStatus.CREATED)  # to look a member up in HTTPStatus takes as long as to read the headers
_ACCOUNT: Final = "/accounts/{account_number:str}"
_READ, _MOVE, _MANAGE = ({"may": verb} for verb in (Verb.read, Verb.move, Verb.manage))
_PAGE_PARAMETERS: Final = ("before", "after", "limit")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)
_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json\s*(;.*)?", re.ASCII | re.IGNORECASE)
# A string of RFC 8941, section 3.3.3, the form that the IETF draft for Idempotency-Key prescribes.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_PREFERS_COMPLETE = re.compile(rb'(^|[,\s])return\s*=\s*"?representation"?\s*($|[,;])', re.IGNORECASE)  # RFC 7240
_COMPLETE: Final[_Header] = (b"preference-applied", b"return=representation")


class JsonResponse:
    """Encoded JSON as an ASGI response, which Litestar sends unchanged."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, body: bytes, *headers: _Header, status: int = HTTPStatus.OK) -> None:
        self._body = body
        self._status = status
        self._headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        length = b"%d" % len(self._body)
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *self._headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def account_routes(accounts: AccountRepository[Awaitable[Account]]) -> list[HTTPRouteHandler]:
    """Return the route handlers for these accounts. Only a repository with history has one for it."""

    async def read(request: _Request, encode: Callable[[Account], bytes], log: str) -> JsonResponse:
        call = use_cases.get_account(accounts, request.path_params["account_number"])
        account = await _or_shutdown_error(call, StoreUnavailable)
        logger.info(log, account.account_number)
        return _account_response(request, account, encode)

    async def execute(
        request: _Request,
        use_case: Callable[..., Awaitable[Account]],
        body: RequestBody,
        log: str,
        encode: Callable[[Account], bytes] = encode_complete_account,
    ) -> JsonResponse:
        content, key = await _body_and_key(request)
        call = use_case(accounts, **request.path_params, **body.decode(content), key=key)
        account = await _or_shutdown_error(call, OutcomeUnknown)
        logger.info(log, account.account_number)
        return _account_response(request, account, encode)

    @get(f"{_ACCOUNT}/balance", operation_id="getBalance", operation_class=openapi.GET_BALANCE, opt=_READ)
    async def balance(request: _Request) -> JsonResponse:
        return await read(request, encode_balance, "balance of account %s checked")

    @get(_ACCOUNT, operation_id="getAccount", operation_class=openapi.GET_ACCOUNT, opt=_READ)
    async def account(request: _Request) -> JsonResponse:
        return await read(request, encode_account, "account %s read")

    @post(f"{_ACCOUNT}/deposit", operation_id="deposit", operation_class=openapi.DEPOSIT, opt=_MOVE, status_code=200)
    async def deposit(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.deposit, MOVEMENT, "deposit to account %s", encode_receipt)

    @post(f"{_ACCOUNT}/withdraw", operation_id="withdraw", operation_class=openapi.WITHDRAW, opt=_MOVE, status_code=200)
    async def withdraw(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.withdraw, MOVEMENT, "withdrawal from account %s", encode_receipt)

    @post("/accounts", operation_id="openAccount", operation_class=openapi.OPEN_ACCOUNT, opt=_MANAGE)
    async def open_account(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.open_account, OPENING, "account %s opened")

    @put(f"{_ACCOUNT}/limits", operation_id="setLimits", operation_class=openapi.SET_LIMITS, opt=_MANAGE)
    async def limits(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.set_limits, LIMITS, "limits of account %s changed")

    @post(
        f"{_ACCOUNT}/close",
        operation_id="closeAccount",
        operation_class=openapi.CLOSE_ACCOUNT,
        opt=_MANAGE,
        status_code=200,
    )
    async def close(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.close_account, NOTE, "account %s closed")

    @post(
        f"{_ACCOUNT}/reopen",
        operation_id="reopenAccount",
        operation_class=openapi.REOPEN_ACCOUNT,
        opt=_MANAGE,
        status_code=200,
    )
    async def reopen(request: _Request) -> JsonResponse:
        return await execute(request, use_cases.reopen_account, NOTE, "account %s reopened")

    routes = [balance, account, deposit, withdraw, open_account, limits, close, reopen]
    return [*routes, _history_route(accounts)] if isinstance(accounts, AccountHistory) else routes


def _history_route(accounts: AccountHistory[Awaitable[Page]]) -> HTTPRouteHandler:
    @get(f"{_ACCOUNT}/history", operation_id="getHistory", operation_class=openapi.GET_HISTORY, opt=_READ)
    async def history(request: _Request) -> JsonResponse:
        number, parameters = request.path_params["account_number"], _page_parameters(request)
        page = await _or_shutdown_error(use_cases.read_history(accounts, number, **parameters), StoreUnavailable)
        logger.info("history of account %s read", number)
        complete = _prefers_complete(request)
        headers = [_COMPLETE] if complete else []
        next_url = next_page_url(number, page, parameters)
        if next_url is not None:
            headers.append((b"link", f'<{next_url}>; rel="next"'.encode()))
        return JsonResponse(encode_page(number, page, next_url, complete=complete), *headers)

    return history


def _page_parameters(request: _Request) -> dict[str, Any]:
    """Return the query's parameters. Other values than whole numbers stay text, which the use case refuses."""
    parameters: dict[str, Any] = {}
    for name, text in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name in parameters:
            raise InvalidPage(name, None, "must be sent once, and it was sent more than once")
        if name in _PAGE_PARAMETERS:
            parameters[name] = int(text) if _WHOLE_NUMBER.fullmatch(text) else text
    return parameters


def _account_response(request: _Request, account: Account, encode: Callable[[Account], bytes]) -> JsonResponse:
    status = request.route_handler.status_code
    headers = []
    if status == _CREATED:
        headers.append((b"location", f"/accounts/{account.account_number}".encode()))
    if _prefers_complete(request):
        encode = encode_complete_account
        headers.append(_COMPLETE)
    return JsonResponse(encode(account), *headers, status=status)


def _prefers_complete(request: _Request) -> bool:
    """Return whether the client wants every fact about accounts and entries."""
    for name, value in request.scope["headers"]:  # noqa: SIM110 - any() takes three times as long
        if name == b"prefer" and _PREFERS_COMPLETE.search(value):
            return True
    return False


async def _body_and_key(request: _Request) -> tuple[bytes, str | None]:
    body, keys = await _json_and_keys(request)
    if len(keys) > 1:
        raise InvalidIdempotencyKey(None, "must be sent once, and it was sent more than once")
    return body, _unquote_key(keys[0]) if keys else None


async def _json_and_keys(request: _Request) -> tuple[bytes, list[str]]:
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


async def _body(request: _Request) -> bytes:
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
    except (NotAllowed, NotAuthenticated) as error:
        raise store_refused(error) from error
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
