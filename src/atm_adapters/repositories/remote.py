"""Accounts behind the HTTP API of another server. Requests are repeated until their outcome is known."""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from atm_adapters.repositories.bounded_http import MAX_ANSWER_BYTES, BoundedClient, UnusableAnswer
from atm_adapters.repositories.ownership import ProcessGuard
from atm_adapters.wire.bearer import authorization
from atm_adapters.wire.errors import NotAuthenticated
from atm_adapters.wire.exact_json import decode_account, decode_page
from atm_adapters.wire.loopback import is_loopback
from atm_adapters.wire.problem_document import decode_problem
from atm_adapters.wire.untrusted_text import printable
from atm_core import (
    Account,
    AtmError,
    IdempotencyKeyReused,
    OutcomeUnknown,
    Overloaded,
    Page,
    StoreUnavailable,
    Transaction,
)
from atm_core.ports import Store

# Idle connections are closed before uvicorn closes them, which could be in the middle of the next request.
_LIMITS: Final = httpx.Limits(max_connections=64, keepalive_expiry=4.0)
_MAX_DESCRIPTION_BYTES: Final = 1024 * 1024  # of the server's OpenAPI document
_URL_HELP: Final = "its URL should be like http://127.0.0.1:8000"


_CALLS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "opening": ("POST", "accounts", ("account_number", "balance", "overdraft_limit", "withdrawal_limit")),
    "deposit": ("POST", "accounts/{}/deposit", ("amount",)),
    "withdrawal": ("POST", "accounts/{}/withdraw", ("amount",)),
    "limit-change": ("PUT", "accounts/{}/limits", ("overdraft_limit", "withdrawal_limit")),
    "closing": ("POST", "accounts/{}/close", ()),
    "reopening": ("POST", "accounts/{}/reopen", ()),
}
"""The call for each kind of transaction: its method, its path, and the members of its body except the note."""

_CALLS_OF_EVERY_SERVER: Final = ("/balance", "/deposit", "/withdraw")
_COMPLETE: Final = {"Prefer": "return=representation"}  # complete accounts and entries (RFC 7240)
_MAX_ENTRY_BYTES: Final = 2048  # an entry with the longest note and key, every character of them escaped

T = TypeVar("T", Account, Page)


class _Request(NamedTuple, Generic[T]):
    """A request to the server. ``decode`` returns what is in the body of a successful answer."""

    method: str
    path: str
    account_number: str
    decode: Callable[[bytes], T]
    headers: Mapping[str, str] = _COMPLETE
    body: Mapping[str, str | None] | None = None
    max_bytes: int = MAX_ANSWER_BYTES
    advice: str | None = None  # what to do if the outcome is unknown; None if the request changes nothing


class _AttemptFailed(Exception):
    """One attempt failed. ``in_doubt`` says whether the server may have executed the request nevertheless."""

    def __init__(self, reason: str, *, in_doubt: bool) -> None:
        super().__init__(reason)
        self.reason = printable(reason)
        self.in_doubt = in_doubt


class RemoteAccountRepository(Store):
    """A ``Store`` behind a Mini-ATM server, safe to share between threads.

    A transaction without a key gets one, so that it can be repeated when its answer was lost. It is repeated
    only if the server's OpenAPI document names ``Idempotency-Key``.

    Another implementation of the API may answer with the balance alone. Accounts then have no limits, are not closed,
    and have 0 as the number of their last entry.

    :param url: such as ``http://127.0.0.1:8000``. The server is not contacted before it is used.
    :param name: the store's name in error messages, without a password.
    :param token: the access token, for a server that requires one. A user name and password in the URL replace it.
    :param retry_timeout: seconds during which a request is repeated after its answer was lost, and while a
        server that answered before is unreachable. A lost request is repeated at least once.
    :param timeout: seconds for one attempt, from connecting to the last byte of the answer. PostgreSQL behind the
        server may take half of them.
    :raises StoreUnavailable: if the URL cannot be that of a server, or if the token is malformed.
    """

    def __init__(
        self, url: str, *, name: str = "", token: str | None = None, retry_timeout: float = 10.0, timeout: float = 10.0
    ) -> None:
        self._name = name or "a server"
        try:
            headers = authorization(token)
        except ValueError as error:
            raise StoreUnavailable(self._name, str(error)) from error
        self._retry_timeout = retry_timeout
        self._was_reached = False
        self._supports_keys = False
        try:
            address = httpx.URL(url)
            self._name = name or str(address.copy_with(userinfo=b""))
            if address.scheme not in ("http", "https") or not 0 < (address.port or 80) < 65536:
                raise StoreUnavailable(self._name, _URL_HELP)
            self._http = BoundedClient(
                base_url=address.copy_with(userinfo=b""),  # httpx logs this URL
                auth=(address.username, address.password) if address.userinfo else None,
                headers=headers,
                timeout=timeout,
                limits=_LIMITS,
                trust_env=not is_loopback(address.host),  # no proxy for requests to this machine
            )
        except (httpx.InvalidURL, ValueError) as error:  # whose text may contain a part of the password
            raise StoreUnavailable(self._name, _URL_HELP) from error
        except (ImportError, OSError) as error:  # a proxy or certificates named by the environment
            raise StoreUnavailable(self._name, f"the environment's settings cannot be used ({error})") from error
        self._process = ProcessGuard(self._name)

    def get(self, account_number: str, /) -> Account:
        return self._send_with_retries(
            _Request("GET", f"accounts/{account_number}/balance", account_number, decode_account)
        )

    def execute(self, transaction: Transaction, /) -> Account:
        method, path, members = _CALLS[transaction.kind]
        number, key = transaction.account_number, transaction.key or uuid4().hex
        body = {name: getattr(transaction, name) for name in members}
        if transaction.note is not None:
            body["note"] = transaction.note
        escaped = re.sub(r'(["\\])', r"\\\1", key)
        return self._send_with_retries(
            _Request(
                method,
                path.format(number),
                number,
                decode_account,
                headers={**_COMPLETE, "Idempotency-Key": f'"{escaped}"'},
                body={name: None if value is None else str(value) for name, value in body.items()},
                advice=OutcomeUnknown.repeat_with(key),
            )
        )

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        cursors = {"limit": limit, "before": before, "after": after}
        query = urlencode({name: value for name, value in cursors.items() if value is not None})
        return self._send_with_retries(
            _Request(
                "GET",
                f"accounts/{account_number}/history?{query}",
                account_number,
                decode_page,
                max_bytes=MAX_ANSWER_BYTES + limit * _MAX_ENTRY_BYTES,
            )
        )

    def close(self) -> None:
        """Close the connections. Further calls raise ``StoreUnavailable``."""
        self._process.check()
        self._http.close()

    def _send_with_retries(self, request: _Request[T]) -> T:
        """Send a request until its outcome is known or the retry timeout is over."""
        self._process.check()
        in_doubt = False

        def attempt() -> T:
            nonlocal in_doubt
            try:
                if in_doubt:
                    self._require_idempotency_support()
                return self._send(request)
            except _AttemptFailed as failure:
                in_doubt = in_doubt or (failure.in_doubt and request.advice is not None)
                raise

        retrying = Retrying(
            retry=retry_if_exception(
                lambda error: isinstance(error, _AttemptFailed) and (in_doubt or self._was_reached)
            ),
            stop=stop_after_delay(self._retry_timeout) & stop_after_attempt(2),  # one attempt may take all the time
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except IdempotencyKeyReused:  # proves that no attempt was applied, and that none will be
            raise
        except (AtmError, _AttemptFailed, KeyboardInterrupt) as error:
            if isinstance(error, _AttemptFailed):
                self._was_reached = False  # later calls do not retry until the server has answered again
            reason = error.reason if isinstance(error, _AttemptFailed | StoreUnavailable) else str(error).rstrip(".")
            # An attempt whose answer was lost may still be applied, even if a later attempt was refused.
            if request.advice is not None and (in_doubt or isinstance(error, KeyboardInterrupt)):
                raise OutcomeUnknown(self._name, reason or "it was interrupted", request.advice) from error
            if isinstance(error, _AttemptFailed):
                raise StoreUnavailable(self._name, reason) from error
            raise

    def _require_idempotency_support(self) -> None:
        """Check that repeating a transaction is safe: the server's OpenAPI document names ``Idempotency-Key``.

        :raises _AttemptFailed: if the server does not answer.
        :raises StoreUnavailable: if the document does not name it.
        """
        if not self._supports_keys:
            document = self._exchange("GET", "openapi.json", max_bytes=_MAX_DESCRIPTION_BYTES)
            if document.is_server_error:
                raise _AttemptFailed(f"it answered {document.status_code}", in_doubt=False)
            if b"Idempotency-Key" not in document.content:
                raise StoreUnavailable(
                    self._name, "an answer was lost, and the server does not document idempotency keys"
                )
            self._supports_keys = True

    def _send(self, request: _Request[T]) -> T:
        """Send a request once.

        :raises AtmError: if the server refused it.
        :raises _AttemptFailed: if it may be repeated.
        """
        answer = self._exchange(
            request.method, request.path, request.body, request.headers, max_bytes=request.max_bytes
        )
        if not answer.is_success:
            raise self._error_of(request, answer)
        try:
            result = request.decode(answer.content)
            others = _account_numbers(result) - {request.account_number}
            if not others:
                return result
            reason = f"its answer is for account {others.pop()}"
        except (ValueError, RecursionError) as error:
            reason = f"its answer is not an account or a history ({error}); is it a Mini-ATM server?"
        if request.advice is None:
            raise StoreUnavailable(self._name, reason)
        raise _AttemptFailed(reason, in_doubt=True)

    def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        max_bytes: int,
    ) -> httpx.Response:
        """Send a request, and return the answer with any status.

        :raises _AttemptFailed: if there is no answer, or none that can be used.
        """
        try:
            answer = self._http.exchange(method, path, json=body, headers=headers, max_bytes=max_bytes)
        except httpx.PoolTimeout as error:
            raise _AttemptFailed("all connections to it are busy", in_doubt=False) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, UnicodeError) as error:
            advice = "" if "SSL" in str(error) else "; atm serve starts one"
            raise _AttemptFailed(f"no server answers there ({error}){advice}", in_doubt=False) from error
        except httpx.RequestError as error:
            raise _AttemptFailed(f"it gave no answer ({error})", in_doubt=True) from error
        except UnusableAnswer as error:
            raise _AttemptFailed(str(error), in_doubt=True) from error
        except RuntimeError as error:  # raised by httpx for a closed client
            raise StoreUnavailable(self._name, "it was closed") from error
        self._was_reached = True
        return answer

    def _error_of(self, request: _Request[T], answer: httpx.Response) -> AtmError | _AttemptFailed:
        """Return the error that an unsuccessful answer stands for."""
        error = decode_problem(answer.content)
        detail = str(error or answer.reason_phrase or "an unknown status").rstrip(".")
        reason = f"it answered {answer.status_code}, {detail}"
        if isinstance(error, StoreUnavailable | Overloaded) or answer.status_code == HTTPStatus.REQUEST_TIMEOUT:
            return _AttemptFailed(reason, in_doubt=False)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            return NotAuthenticated()
        if answer.is_server_error:  # perhaps from a proxy that lost the server's answer
            return _AttemptFailed(reason, in_doubt=True)
        is_missing = answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
        path, _, _ = request.path.partition("?")
        if is_missing and not path.endswith(_CALLS_OF_EVERY_SERVER):
            reason = f"the server does not offer {request.method} /{path}"
        return error or StoreUnavailable(self._name, reason)


def _account_numbers(answer: Account | Page) -> set[str]:
    """Return the numbers of the accounts that an answer is about. A page without entries is about none."""
    accounts = [answer] if isinstance(answer, Account) else [entry.account for entry in answer.entries]
    return {account.account_number for account in accounts}
