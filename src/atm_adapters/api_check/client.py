"""A client that any server may be shown to: one that is late, endless, HTML, or gone is an observation, not a crash.

Money in answers is read by its digits. Nothing is sent to another host than the one named: redirects are
not followed, and proxies of the environment are not used.
"""

import asyncio
import json
import os
import ssl
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple, NoReturn, Self, TypeAlias

import httpx

ANSWER_SECONDS: Final = 10.0  # for one request, from connecting to the last byte
MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_SHOWN = 200  # characters of a body
_MAX_EXPONENT = 30  # a balance of more is no balance, and arithmetic with it may raise
_MAX_DIGITS = 60

Header: TypeAlias = tuple[str, str]
JSON: Final[Header] = ("Content-Type", "application/json")


class Failed(Exception):
    """A check found something wrong: what was sent, what came back, and what was expected, for people to read."""

    def __init__(self, sent: str, received: str, expected: str) -> None:
        super().__init__(sent, received, expected)
        self.sent = sent
        self.received = received
        self.expected = expected


class NotSupported(Exception):
    """The server does not offer what a check is about, and does not say that it does. ``reason`` says how it showed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Exchange(NamedTuple):
    """One request, and what came of it.

    ``status`` is None if there was no whole answer; ``trouble`` then says why, and ``is_cut_off`` whether the
    connection broke.
    """

    sent: str
    status: int | None
    content_type: str = ""
    body: bytes = b""
    trouble: str = ""
    is_cut_off: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether the answer blames the request (RFC 9110, section 15.5)."""
        return self.status is not None and 400 <= self.status <= 499

    @property
    def received(self) -> str:
        """The answer, short enough for a table."""
        if self.status is None:
            return self.trouble
        is_json = "json" in self.content_type
        kind = "" if is_json else f"({printable(self.content_type.encode()) or 'no Content-Type'})"
        return " ".join(filter(None, [str(self.status), kind, printable(self.body)]))

    def json(self) -> object:
        """The body, with every number as a Decimal.

        :raises ValueError: if it is not JSON.
        """
        try:
            return json.loads(self.body, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse_constant)
        except (InvalidOperation, RecursionError) as error:
            raise ValueError("a number or a nesting beyond all reason") from error

    def balance(self, account_number: str) -> Decimal:
        """The balance that was answered, exactly.

        :raises Failed: unless the answer is 200 with this account's number and a balance.
        """
        wanted = f'200 with JSON such as {{"account_number": "{account_number}", "balance": 1000.00}}'
        wrong = Failed(self.sent, self.received, wanted)
        if self.status != 200 or "json" not in self.content_type:
            raise wrong
        try:
            account = self.json()
        except ValueError:
            raise wrong from None
        if not isinstance(account, dict) or str(account.get("account_number")) != account_number:
            raise wrong
        balance = account.get("balance")
        if not isinstance(balance, Decimal) or balance.adjusted() > _MAX_EXPONENT:
            raise wrong
        if len(balance.as_tuple().digits) > _MAX_DIGITS:
            raise wrong
        return balance


class Api:
    """The server at a URL. To be used as an async context manager."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.requests = 0
        self._under_way: set[asyncio.Task[Exchange]] = set()
        self._http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "User-Agent": "atm-check"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
            verify=ssl.create_default_context(),  # the system's certificates, as trust_env reads none
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, *, of_host: bool = False) -> Exchange:
        """Send a GET for a path below the URL, or for one of the host, whatever path the URL has."""
        url = str(httpx.URL(self.url).join(path)) if of_host else f"{self.url}{path}"
        return await self._send("GET", url, path, b"", [])

    async def post(self, path: str, body: bytes, *headers: Header) -> Exchange:
        """Send a POST, with a body that is said to be JSON unless a header says otherwise."""
        return await self._send("POST", f"{self.url}{path}", path, body, headers or [JSON])

    async def settle(self) -> None:
        """Wait for the answers to what was sent, also by those that were cancelled meanwhile."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, method: str, url: str, path: str, body: bytes, headers: Sequence[Header]) -> Exchange:
        shown = [f"({name}: {value})".encode() for name, value in headers if (name, value) != JSON]
        sent = " ".join([method, *map(printable, filter(None, [path.encode(), body, *shown]))])
        self.requests += 1
        # A task of its own, so that a request that was begun is finished even if whoever asked for it is cancelled.
        task = asyncio.create_task(self._exchange(sent, method, url, body, headers))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _exchange(self, sent: str, method: str, url: str, body: bytes, headers: Sequence[Header]) -> Exchange:
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),  # httpx's own is for each read, and a drip of bytes passes it
                self._http.stream(method, url, content=body or None, headers=headers) as answer,
            ):
                content = b""
                async for chunk in answer.aiter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return Exchange(sent, None, trouble=f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
                return Exchange(sent, answer.status_code, answer.headers.get("content-type", "").lower(), content)
        except (TimeoutError, httpx.TimeoutException):
            return Exchange(sent, None, trouble=f"no whole answer within {ANSWER_SECONDS:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Exchange(sent, None, trouble=printable(_reason(error).encode()), is_cut_off=True)


def printable(text: bytes) -> str:
    """Text from a stranger as printable ASCII, cut short."""
    shown = text[: _MAX_SHOWN + 1].decode(errors="backslashreplace")
    shown = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in shown)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}... ({len(text):,} bytes)"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(error: BaseException) -> str:
    """Why there is no answer, in the operating system's words where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):  # whose errno is none of the operating system's
            return f"no TLS: {str(cause.reason).replace('_', ' ').lower()}"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return f"no answer: {os.strerror(cause.errno).lower()}"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no answer: {cause.strerror.lower()}"
        cause = cause.__cause__ or cause.__context__
    return f"no answer: {str(error).lower() or type(error).__name__}"
