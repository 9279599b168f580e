"""A small server of the HTTP API that is correct, except for faults that a test selects."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, NamedTuple, TypeAlias

import uvicorn
from litestar import Litestar
from litestar.types import HTTPScope, Receive, Send

from atm_core import MAX_MONEY
from atm_core.transaction import MAX_KEY_LENGTH

Fault: TypeAlias = Literal[
    "float balances", "accepts Infinity", "lost updates", "keys saved separately", "500 for unknown accounts"
]

_COMMIT_SECONDS: Final = 0.01  # of a slow disk; long enough for races to show
_PLAIN_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_PATH: Final = re.compile(r"/accounts/([^/]*)/(balance|deposit|withdraw)")


class Request(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[str]:
        """Return the values of a header."""
        return [value.decode("latin-1") for header, value in self.headers if header == name]


class Response(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler: TypeAlias = Callable[["ReferenceApi", Request], Awaitable[Response]]


class _Rejected(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class ReferenceApi:
    """An ASGI application with the accounts 0 and 1 in memory.

    :param faults: the ways in which the server is wrong.
    :param has_keys: whether it supports idempotency keys.
    :param handler: responds to each request instead of :meth:`respond`, which it may call.
    """

    def __init__(self, *faults: Fault, has_keys: bool = True, handler: Handler | None = None) -> None:
        self.balances = {"0": Decimal("1000.00"), "1": Decimal("1000.00")}
        self.requests = 0
        self.recorded: dict[tuple[str, str], tuple[str, Decimal, Response]] = {}
        self._faults = set(faults)
        self._has_keys = has_keys
        self._handler = handler

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        request = Request(scope["method"], scope["path"], list(scope["headers"]), body)
        self.requests += 1
        response = await (self._handler(self, request) if self._handler else self.respond(request))
        headers = [(b"content-type", response.content_type.encode()), (b"content-length", b"%d" % len(response.body))]
        headers += response.headers
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": False})

    async def respond(self, request: Request) -> Response:
        """Process a request as the API specifies, apart from the faults."""
        try:
            return await self._process(request)
        except _Rejected as rejected:
            return Response(rejected.status, b'{"detail": "rejected"}')

    async def _process(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.path)
        if match is None or (request.method == "GET") != (match[2] == "balance"):
            raise _Rejected(404)
        number, call = match.groups()
        if call == "balance":
            return self._account(number)
        if not request.values(b"content-type")[0].startswith("application/json"):
            raise _Rejected(415)
        amount = self._amount(request.body)
        keys = request.values(b"idempotency-key") if self._has_keys else []
        if len(keys) > 1 or any(len(key) > MAX_KEY_LENGTH for key in keys):
            raise _Rejected(400)
        if not keys:
            return await self._apply(number, call, amount)
        if (number, keys[0]) in self.recorded:
            *transaction, first_response = self.recorded[number, keys[0]]
            if transaction != [call, amount]:
                raise _Rejected(422)
            return first_response
        if "keys saved separately" in self._faults:
            await asyncio.sleep(_COMMIT_SECONDS)  # between two database transactions
        response = await self._apply(number, call, amount, has_key=True)
        self.recorded[number, keys[0]] = (call, amount, response)
        return response

    async def _apply(self, number: str, call: str, amount: Decimal, *, has_key: bool = False) -> Response:
        before = self._balance(number)
        # With a key, a lost update would hide that a retry is applied twice.
        if "lost updates" in self._faults and not has_key:
            await asyncio.sleep(_COMMIT_SECONDS)
        signed = amount if call == "deposit" else -amount
        after = before + signed
        if "float balances" in self._faults:
            after = Decimal(repr(float(before) + float(signed)))
        if after.is_finite() and abs(after) > MAX_MONEY:
            raise _Rejected(422)
        self.balances[number] = after
        return self._account(number)

    def _account(self, number: str) -> Response:
        balance = self._balance(number)
        if not balance.is_finite():
            return Response(500, b"Internal Server Error", "text/plain")
        return Response(200, f'{{"account_number": "{number}", "balance": {balance:f}}}'.encode())

    def _balance(self, number: str) -> Decimal:
        if number not in self.balances:
            raise _Rejected(500 if "500 for unknown accounts" in self._faults else 404)
        return self.balances[number]

    def _amount(self, body: bytes) -> Decimal:
        try:
            document = json.loads(body, parse_int=Decimal, parse_float=Decimal, parse_constant=Decimal)
        except (ValueError, InvalidOperation, RecursionError):
            raise _Rejected(422) from None
        amount = document.get("amount") if isinstance(document, dict) else None
        if isinstance(amount, str) and _PLAIN_DECIMAL.fullmatch(amount):
            amount = Decimal(amount)
        if not isinstance(amount, Decimal) or amount.is_nan() or amount <= 0:
            raise _Rejected(422)
        if amount == Decimal("Infinity") and "accepts Infinity" in self._faults:
            return amount
        if amount > MAX_MONEY or amount != round(amount, 2):
            raise _Rejected(422)
        return amount


@contextmanager
def serving(api: "ReferenceApi | Litestar") -> Iterator[str]:
    """Serve an application on a free port of the loopback interface, from a thread, and yield its URL."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, lifespan="off", log_config=None, access_log=False))
    config_socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [config_socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{config_socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True  # some tests leave a request pending
        thread.join()
        config_socket.close()
