"""A small server of the HTTP API, right unless it is told to be wrong in a way that servers really are."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, NamedTuple, TypeAlias

import uvicorn
from litestar.types import HTTPScope, Receive, Send

Fault: TypeAlias = Literal[
    "floats", "Infinity accepted", "get, then save", "keys beside the money", "500 for an unknown account"
]

_COMMIT_SECONDS: Final = 0.01  # of a slow disk; what is wrong while it lasts shows
_LARGEST: Final = Decimal("9999999999999.99")
_PLAIN_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_PATH: Final = re.compile(r"/accounts/([^/]*)/(balance|deposit|withdraw)")


class Request(NamedTuple):
    """What was asked for."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[str]:
        """The values of a header."""
        return [value.decode("latin-1") for header, value in self.headers if header == name]


class Answer(NamedTuple):
    """What is answered."""

    status: int
    body: bytes
    content_type: str = "application/json"


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class ReferenceApi:
    """An ASGI application with accounts 0 and 1 in memory.

    :param faults: ways to be wrong.
    :param has_keys: whether an Idempotency-Key is looked at.
    :param instead: answers each request instead of :meth:`answer`, which it may call.
    """

    def __init__(
        self,
        *faults: Fault,
        has_keys: bool = True,
        instead: "Callable[[ReferenceApi, Request], Awaitable[Answer]] | None" = None,
    ) -> None:
        self.balances = {"0": Decimal("1000.00"), "1": Decimal("1000.00")}
        self.served = 0
        self._faults = set(faults)
        self._has_keys = has_keys
        self._instead = instead
        self.answered: dict[tuple[str, str], tuple[str, Decimal, Answer]] = {}

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        request = Request(scope["method"], scope["path"], list(scope["headers"]), body)
        self.served += 1
        answer = await (self._instead(self, request) if self._instead else self.answer(request))
        headers = [(b"content-type", answer.content_type.encode()), (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})

    async def answer(self, request: Request) -> Answer:
        """Do what was asked for, and answer as the API says."""
        try:
            return await self._answer(request)
        except _Refused as refused:
            return Answer(refused.status, b'{"detail": "refused"}')

    async def _answer(self, request: Request) -> Answer:
        match = _PATH.fullmatch(request.path)
        if match is None or (request.method == "GET") != (match[2] == "balance"):
            raise _Refused(404)
        number, call = match.groups()
        if call == "balance":
            return self._account(number)
        if not request.values(b"content-type")[0].startswith("application/json"):
            raise _Refused(415)
        amount = self._amount(request.body)
        keys = request.values(b"idempotency-key") if self._has_keys else []
        if len(keys) > 1 or any(len(key) > 255 for key in keys):
            raise _Refused(400)
        if not keys:
            return await self._move(number, call, amount)
        if (number, keys[0]) in self.answered:
            *transaction, first_answer = self.answered[number, keys[0]]
            if transaction != [call, amount]:
                raise _Refused(422)
            return first_answer
        if "keys beside the money" in self._faults:
            await asyncio.sleep(_COMMIT_SECONDS)  # the money is in one transaction, the key in another
        answer = await self._move(number, call, amount, keyed=True)
        self.answered[number, keys[0]] = (call, amount, answer)
        return answer

    async def _move(self, number: str, call: str, amount: Decimal, *, keyed: bool = False) -> Answer:
        before = self._balance(number)
        # With a key it would hide that retries count twice.
        if "get, then save" in self._faults and not keyed:
            await asyncio.sleep(_COMMIT_SECONDS)
        signed = amount if call == "deposit" else -amount
        after = before + signed
        if "floats" in self._faults:
            after = Decimal(repr(float(before) + float(signed)))
        if after.is_finite() and abs(after) > _LARGEST:
            raise _Refused(422)
        self.balances[number] = after
        return self._account(number)

    def _account(self, number: str) -> Answer:
        balance = self._balance(number)
        if not balance.is_finite():
            return Answer(500, b"Internal Server Error", "text/plain")
        return Answer(200, f'{{"account_number": "{number}", "balance": {balance:f}}}'.encode())

    def _balance(self, number: str) -> Decimal:
        if number not in self.balances:
            raise _Refused(500 if "500 for an unknown account" in self._faults else 404)
        return self.balances[number]

    def _amount(self, body: bytes) -> Decimal:
        try:
            document = json.loads(body, parse_int=Decimal, parse_float=Decimal, parse_constant=Decimal)
        except (ValueError, InvalidOperation, RecursionError):
            raise _Refused(422) from None
        amount = document.get("amount") if isinstance(document, dict) else None
        if isinstance(amount, str) and _PLAIN_DECIMAL.fullmatch(amount):
            amount = Decimal(amount)
        if not isinstance(amount, Decimal) or amount.is_nan() or amount <= 0:
            raise _Refused(422)
        if amount == Decimal("Infinity") and "Infinity accepted" in self._faults:
            return amount
        if amount > _LARGEST or amount != round(amount, 2):
            raise _Refused(422)
        return amount


@contextmanager
def serving(api: ReferenceApi) -> Iterator[str]:
    """Serve it on a free port of the loopback interface, in a thread, and give its address."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, lifespan="off", log_config=None, access_log=False))
    config_socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [config_socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{config_socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True  # a request may hang, as a test wanted it to
        thread.join()
        config_socket.close()
