"""Accounts behind the HTTP API of another server. Requests are repeated until their outcome is known."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from atm_adapters.repositories.bounded_http import MAX_ANSWER_BYTES, BoundedClient, UnusableAnswer
from atm_adapters.repositories.ownership import ProcessGuard
from atm_adapters.wire.exact_json import decode_account
from atm_adapters.wire.loopback import is_loopback
from atm_adapters.wire.problem_document import decode_problem
from atm_adapters.wire.untrusted_text import printable
from atm_core import Account, AtmError, IdempotencyKeyReused, OutcomeUnknown, Overloaded, StoreUnavailable, Transaction

# Idle connections are closed before uvicorn closes them, which could be in the middle of the next request.
_LIMITS: Final = httpx.Limits(max_connections=64, keepalive_expiry=4.0)
_MAX_DESCRIPTION_BYTES: Final = 1024 * 1024  # of the server's OpenAPI document
_URL_HELP: Final = "its URL should be like http://127.0.0.1:8000"


_Members: TypeAlias = Mapping[str, str] | None


class _Request(NamedTuple):
    """A request to the server."""

    method: str
    path: str
    account_number: str
    body: _Members = None
    headers: _Members = None
    advice: str | None = None  # what to do if the outcome is unknown; None if the request changes nothing


class _AttemptFailed(Exception):
    """One attempt failed. ``in_doubt`` says whether the server may have executed the request nevertheless."""

    def __init__(self, reason: str, *, in_doubt: bool) -> None:
        super().__init__(reason)
        self.reason = printable(reason)
        self.in_doubt = in_doubt


class RemoteAccountRepository:
    """An ``AccountRepository[Account]`` behind a Mini-ATM server, safe to share between threads.

    A transaction without a key gets one, so that it can be repeated when its answer was lost. It is repeated
    only if the server's OpenAPI document names ``Idempotency-Key``. Opening an account needs no key, because a
    second opening is refused.

    :param url: such as ``http://127.0.0.1:8000``. The server is not contacted before it is used.
    :param name: the store's name in error messages, without a password.
    :param retry_timeout: seconds during which a request is repeated after its answer was lost, and while a
        server that answered before is unreachable. A lost request is repeated at least once.
    :param timeout: seconds for one attempt, from connecting to the last byte of the answer. PostgreSQL behind the
        server may take half of them.
    :raises StoreUnavailable: if the URL cannot be that of a server.
    """

    def __init__(self, url: str, *, name: str = "", retry_timeout: float = 10.0, timeout: float = 10.0) -> None:
        self._name = name or "a server"
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
        return self._send_with_retries(_Request("GET", f"accounts/{account_number}/balance", account_number))

    def add(self, account: Account, /) -> Account:
        return self._send_with_retries(
            _Request(
                "POST",
                "accounts",
                account.account_number,
                body={"account_number": account.account_number, "balance": str(account.balance)},
                advice=OutcomeUnknown.OF_OPENING,
            )
        )

    def execute(self, transaction: Transaction, /) -> Account:
        number, key = transaction.account_number, transaction.key or uuid4().hex
        escaped = re.sub(r'(["\\])', r"\\\1", key)
        return self._send_with_retries(
            _Request(
                "POST",
                f"accounts/{number}/{'deposit' if transaction.kind == 'deposit' else 'withdraw'}",
                number,
                body={"amount": str(transaction.amount)},
                headers={"Idempotency-Key": f'"{escaped}"'},
                advice=OutcomeUnknown.repeat_with(key),
            )
        )

    def close(self) -> None:
        """Close the connections. Further calls raise ``StoreUnavailable``."""
        self._process.check()
        self._http.close()

    def _send_with_retries(self, request: _Request) -> Account:
        """Send a request until its outcome is known or the retry timeout is over."""
        self._process.check()
        in_doubt = False

        def attempt() -> Account:
            nonlocal in_doubt
            try:
                if in_doubt and request.headers is not None:
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

    def _send(self, request: _Request) -> Account:
        """Send a request once.

        :raises AtmError: if the server refused it.
        :raises _AttemptFailed: if it may be repeated.
        """
        answer = self._exchange(request.method, request.path, request.body, request.headers)
        if not answer.is_success:
            raise self._error_of(answer)
        try:
            account = decode_account(answer.content)
            if account.account_number == request.account_number:
                return account
            reason = f"its answer is for account {account.account_number}"
        except (ValueError, RecursionError) as error:
            reason = f"its answer is not an account ({error}); is it a Mini-ATM server?"
        if request.advice is None:
            raise StoreUnavailable(self._name, reason)
        raise _AttemptFailed(reason, in_doubt=True)

    def _exchange(
        self, method: str, path: str, body: _Members = None, headers: _Members = None, max_bytes: int = MAX_ANSWER_BYTES
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

    def _error_of(self, answer: httpx.Response) -> AtmError | _AttemptFailed:
        """Return the error that an unsuccessful answer stands for."""
        error = decode_problem(answer.content)
        detail = str(error or answer.reason_phrase or "an unknown status").rstrip(".")
        reason = f"it answered {answer.status_code}, {detail}"
        if isinstance(error, StoreUnavailable | Overloaded) or answer.status_code == HTTPStatus.REQUEST_TIMEOUT:
            return _AttemptFailed(reason, in_doubt=False)
        if answer.is_server_error:  # perhaps from a proxy that lost the server's answer
            return _AttemptFailed(reason, in_doubt=True)
        return error or StoreUnavailable(self._name, reason)
