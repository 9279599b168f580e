"""An HTTP client for servers that may misbehave: a late, endless, malformed or missing response raises nothing.

Numbers in JSON are read as exact decimals. Requests go only to the given host: the client follows no
redirects and ignores the proxy settings of the environment.
"""

import asyncio
import json
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple, NoReturn, Self, TypeAlias

import httpx

from atm_adapters.wire.bearer import authorization

RESPONSE_TIMEOUT: Final = 10.0  # seconds for one request, from connecting to the last byte
MAX_RESPONSE_BYTES: Final = 1024 * 1024
_MAX_SHOWN = 200  # characters of a body
_MAX_EXPONENT = 30  # arithmetic with larger balances may raise
_MAX_DIGITS = 60

Header: TypeAlias = tuple[str, str]
JSON: Final[Header] = ("Content-Type", "application/json")


@dataclass(eq=False)
class CheckFailed(Exception):
    """The server does not behave as expected. The three texts are for users."""

    sent: str
    received: str
    expected: str


class NotSupported(Exception):
    """The server neither has nor declares the feature that a check tests. The message says how this shows."""


class Exchange(NamedTuple):
    """A request and its response. Without a complete response, ``status`` is None and ``error`` says why."""

    sent: str
    status: int | None
    content_type: str = ""
    body: bytes = b""
    error: str = ""
    is_disconnected: bool = False  # the error is a failed connection
    challenge: str = ""  # the header WWW-Authenticate

    @property
    def is_rejected(self) -> bool:
        """Whether the status is 4xx."""
        return self.status is not None and 400 <= self.status <= 499

    @property
    def received(self) -> str:
        """The response as one line of text."""
        if self.status is None:
            return self.error
        is_json = "json" in self.content_type
        kind = "" if is_json else f"({printable(self.content_type.encode()) or 'no Content-Type'})"
        return " ".join(filter(None, [str(self.status), kind, printable(self.body)]))

    def json(self) -> object:
        """Return the decoded body, with every number as a Decimal.

        :raises ValueError: if the body is not JSON.
        """
        try:
            return json.loads(self.body, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse_constant)
        except (InvalidOperation, RecursionError) as error:
            raise ValueError("a number is too large or the nesting is too deep") from error

    def member(self, name: str) -> object:
        """Return a member of the JSON object in the response, or None if there is none."""
        try:
            document = self.json()
        except ValueError:
            return None
        return document.get(name) if isinstance(document, dict) else None

    def balance(self, account_number: str) -> Decimal:
        """Return the exact balance in the response.

        :raises CheckFailed: unless the response is 200 with this account number and a balance.
        """
        balance = self.find_balance(account_number)
        if balance is None:
            expected = f'200 with JSON such as {{"account_number": "{account_number}", "balance": 1000.00}}'
            raise CheckFailed(self.sent, self.received, expected)
        return balance

    def find_balance(self, account_number: str) -> Decimal | None:
        """Return the exact balance in the response, or None if :meth:`balance` would raise."""
        try:
            account = self.json() if self.status == 200 and "json" in self.content_type else None
        except ValueError:
            account = None
        if isinstance(account, dict) and str(account.get("account_number")) == account_number:
            balance = account.get("balance")
            if isinstance(balance, Decimal) and _is_plausible(balance):
                return balance
        return None


class Api:
    """An async context manager that sends requests to the server at a URL.

    :param token: an access token, which is sent with every request.
    :raises ValueError: if the token is malformed.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.has_token = token is not None
        self.requests = 0
        self._pending: set[asyncio.Task[Exchange]] = set()
        self._http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "User-Agent": "atm-check", **authorization(token)},
            timeout=RESPONSE_TIMEOUT,
            trust_env=False,
            verify=ssl.create_default_context(),  # the system's certificates; httpx would use its own
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, *headers: Header, from_root: bool = False) -> Exchange:
        """Send a GET request to a path below the URL, or to a path of its host."""
        url = str(httpx.URL(self.url).join(path)) if from_root else f"{self.url}{path}"
        return await self._send("GET", url, path, b"", headers)

    async def post(self, path: str, body: bytes, *headers: Header) -> Exchange:
        """Send a POST request, as JSON if there are no headers."""
        return await self._send("POST", f"{self.url}{path}", path, body, headers or [JSON])

    async def put(self, path: str, body: bytes) -> Exchange:
        """Send a PUT request with JSON."""
        return await self._send("PUT", f"{self.url}{path}", path, body, [JSON])

    async def drain(self) -> None:
        """Wait for the responses to all requests, including those of cancelled callers."""
        while self._pending:
            await asyncio.wait(self._pending)

    async def _send(self, method: str, url: str, path: str, body: bytes, headers: Sequence[Header]) -> Exchange:
        shown = [f"({name}: {_redacted(name, value)})".encode() for name, value in headers if (name, value) != JSON]
        sent = " ".join([method, *map(printable, filter(None, [path.encode(), body, *shown]))])
        self.requests += 1
        # A cancelled caller must not abort its request, because the server may still apply the transaction.
        task = asyncio.create_task(self._exchange(sent, method, url, body, headers))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return await asyncio.shield(task)

    async def _exchange(self, sent: str, method: str, url: str, body: bytes, headers: Sequence[Header]) -> Exchange:
        try:
            async with (
                asyncio.timeout(RESPONSE_TIMEOUT),  # httpx limits each read, not the whole response
                self._http.stream(method, url, content=body or None, headers=headers) as response,
            ):
                content = b""
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > MAX_RESPONSE_BYTES:
                        return Exchange(sent, None, error=f"a response of more than {MAX_RESPONSE_BYTES:,} bytes")
                fields = response.headers
                kind, challenge = fields.get("content-type", "").lower(), fields.get("www-authenticate", "")
                return Exchange(sent, response.status_code, kind, content, challenge=challenge)
        except (TimeoutError, httpx.TimeoutException):
            return Exchange(sent, None, error=f"no complete response within {RESPONSE_TIMEOUT:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Exchange(sent, None, error=printable(_describe(error).encode()), is_disconnected=True)


def _redacted(name: str, value: str) -> str:
    """Return the value of a header, of ``Authorization`` only its first word, because reports are shared."""
    scheme, space, _ = value.partition(" ")
    return f"{scheme} ..." if name == "Authorization" and space else value


def printable(text: bytes) -> str:
    """Return untrusted text as printable ASCII, shortened if it is long."""
    shown = text[: _MAX_SHOWN + 1].decode(errors="backslashreplace")
    shown = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in shown)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}... ({len(text):,} bytes)"


def _is_plausible(balance: Decimal) -> bool:
    return balance.adjusted() <= _MAX_EXPONENT and len(balance.as_tuple().digits) <= _MAX_DIGITS


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _describe(error: BaseException) -> str:
    """Return why there is no response, in the operating system's words if possible."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"untrusted certificate ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):  # its errno is not one of the operating system's
            return f"TLS error ({str(cause.reason).replace('_', ' ').lower()})"
        if isinstance(cause, OSError) and cause.errno:
            return f"no response ({str(os.strerror(cause.errno) if cause.errno > 0 else cause.strerror).lower()})"
        cause = cause.__cause__ or cause.__context__
    return f"no response ({str(error).lower() or type(error).__name__})"
