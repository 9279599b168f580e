"""Accounts behind another server's HTTP API, which is asked again until it is known what became of a call."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple
from uuid import uuid4

import httpx
import msgspec
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from atm_adapters.exact_json import decode_account
from atm_core import (
    LARGEST_SUM,
    Account,
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    BalanceOutOfRange,
    KeyReused,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    Transaction,
)
from atm_core.errors import READ_WHETHER_IT_EXISTS

# Idle connections are given up before uvicorn does it, which would be in the middle of the next request.
_LIMITS: Final = httpx.Limits(max_connections=64, keepalive_expiry=4.0)


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""


class _Request(NamedTuple):
    """What to ask of a server."""

    method: str
    path: str
    account_number: str
    refusals: tuple[AtmError, ...]  # what may be answered instead of the account
    body: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    advice: str | None = None  # what to do while the outcome is unknown; nothing where nothing is written


class _Failure(Exception):
    """An attempt that came to nothing: why, and whether the server may have done what it was asked nevertheless."""

    def __init__(self, reason: str, *, in_doubt: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.in_doubt = in_doubt


class RemoteAccountRepository:
    """An ``AccountRepository[Account]`` behind a Mini-ATM server, safe to share between threads.

    A transaction without a key is given one, so that it can be sent again when an answer was lost. An
    account is opened without: its number counts once by itself.

    :param url: of the server, such as ``http://127.0.0.1:8000``. It is not asked before it is used.
    :param name: what errors call the store; it should not hold a password.
    :param patience: seconds to go on trying after an answer was lost, and while a server that answered
        before is away; there is one more attempt in any case.
    :param timeout: seconds to wait for each answer; PostgreSQL behind the server may take half of them.
    :raises StoreUnavailable: if the URL is not well-formed.
    """

    def __init__(self, url: str, *, name: str = "", patience: float = 10.0, timeout: float = 10.0) -> None:
        self._name = name or url
        self._patience = patience
        self._was_reached = False
        try:
            address = httpx.URL(url)
            self._http = httpx.Client(
                base_url=address.copy_with(userinfo=b""),  # httpx logs where it sends requests
                auth=(address.username, address.password) if address.userinfo else None,
                timeout=timeout,
                limits=_LIMITS,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise StoreUnavailable(self._name, f"its URL is not well-formed ({error})") from error

    def get(self, account_number: str, /) -> Account:
        path = f"accounts/{account_number}/balance"
        return self._ask(_Request("GET", path, account_number, (AccountNotFound(account_number),)))

    def add(self, account: Account, /) -> Account:
        return self._ask(
            _Request(
                "POST",
                "accounts",
                account.number,
                (AccountAlreadyExists(account.number),),
                body={"account_number": account.number, "balance": str(account.balance)},
                advice=READ_WHETHER_IT_EXISTS,
            )
        )

    def execute(self, transaction: Transaction, /) -> Account:
        number, key = transaction.account_number, transaction.key or uuid4().hex
        escaped = re.sub(r'(["\\])', r"\\\1", key)
        return self._ask(
            _Request(
                "POST",
                f"accounts/{number}/{'deposit' if transaction.kind == 'deposit' else 'withdraw'}",
                number,
                (AccountNotFound(number), KeyReused(number, key), BalanceOutOfRange(number, LARGEST_SUM)),
                body={"amount": str(transaction.amount)},
                headers={"Idempotency-Key": f'"{escaped}"'},
                advice="It is not known whether the money moved. Send the transaction again under the idempotency key "
                f"{key!r}: it counts at most once.",
            )
        )

    def close(self) -> None:
        """Give the connections back. What is asked for afterwards is refused with ``StoreUnavailable``."""
        self._http.close()

    def _ask(self, request: _Request) -> Account:
        """Send a request until its outcome is known, or patience is at an end."""
        in_doubt = False

        def attempt() -> Account:
            nonlocal in_doubt
            try:
                return self._send(request)
            except _Failure as failure:
                in_doubt = in_doubt or failure.in_doubt
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Failure) and (in_doubt or self._was_reached)),
            stop=stop_after_delay(self._patience) & stop_after_attempt(2),  # one attempt may take all of the patience
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _Failure as failure:
            if in_doubt and request.advice is not None:
                raise OutcomeUnknown(self._name, failure.reason, request.advice) from failure
            raise StoreUnavailable(self._name, failure.reason) from failure
        except AccountAlreadyExists as refusal:
            if in_doubt:  # it may have been opened by the very attempt whose answer was lost
                reason = "it lost an answer, and now the account exists"
                raise OutcomeUnknown(self._name, reason, READ_WHETHER_IT_EXISTS) from refusal
            raise

    def _send(self, request: _Request) -> Account:
        """Send a request once.

        :raises AtmError: if the server refused it for good.
        :raises _Failure: if it may be sent again.
        """
        if self._http.is_closed:
            raise StoreUnavailable(self._name, "it was closed")
        try:
            answer = self._http.request(request.method, request.path, json=request.body, headers=request.headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Failure(f"no server answers there ({error}); atm serve starts one", in_doubt=False) from error
        except httpx.TransportError as error:
            raise _Failure(f"it gave no answer ({error})", in_doubt=True) from error
        self._was_reached = True
        if not answer.is_success:
            raise self._refusal(request, answer)
        try:
            account = decode_account(answer.content)
        except ValueError as error:
            raise _Failure(f"its answer is not an account ({error})", in_doubt=True) from error
        if account.number != request.account_number:
            raise _Failure(f"its answer is of account {account.number}", in_doubt=True)
        return account

    def _refusal(self, request: _Request, answer: httpx.Response) -> AtmError | _Failure:
        """What an answer other than an account means."""
        try:
            problem = msgspec.json.decode(answer.content, type=_Problem)
        except ValueError:
            problem = _Problem()
        code = problem.type.removeprefix("urn:mini-atm:error:")
        for refusal in request.refusals:
            if refusal.code == code:
                return refusal
        words = " ".join((problem.detail or answer.reason_phrase).split()).rstrip(".")
        reason = f"it answered {answer.status_code}, {words}"
        if code in (StoreUnavailable.code, Overloaded.code) or answer.status_code == HTTPStatus.REQUEST_TIMEOUT:
            return _Failure(reason, in_doubt=False)
        if answer.is_server_error:  # such as a proxy's, which has lost the server's own
            return _Failure(reason, in_doubt=True)
        return StoreUnavailable(self._name, reason)
