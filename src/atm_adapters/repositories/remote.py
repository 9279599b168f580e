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
from atm_adapters.loopback import is_loopback
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

    A transaction without a key is given one, so that it can be sent again when an answer was lost: but only
    to a server whose description says that it takes keys. An account is opened without: its number counts
    once by itself.

    :param url: of the server, such as ``http://127.0.0.1:8000``. It is not asked before it is used.
    :param name: what errors call the store; it should not hold a password.
    :param patience: seconds to go on trying after an answer was lost, and while a server that answered
        before is away; what was lost is asked for once more in any case.
    :param timeout: seconds in which something of an answer must arrive; PostgreSQL behind the server may take
        half of them.
    :raises StoreUnavailable: if the URL can't be that of a server.
    """

    def __init__(self, url: str, *, name: str = "", patience: float = 10.0, timeout: float = 10.0) -> None:
        self._name = name or "a server"
        self._patience = patience
        self._was_reached = False
        self._takes_keys = False
        try:
            address = httpx.URL(url)
            self._name = name or str(address.copy_with(userinfo=b""))
            if address.scheme not in ("http", "https") or not 0 < (address.port or 80) < 65536:
                raise StoreUnavailable(self._name, "its URL should be like http://127.0.0.1:8000")
            self._http = httpx.Client(
                base_url=address.copy_with(userinfo=b""),  # httpx logs where it sends requests
                auth=(address.username, address.password) if address.userinfo else None,
                timeout=timeout,
                limits=_LIMITS,
                trust_env=not is_loopback(address.host),  # whose requests no proxy should see
            )
        except (httpx.InvalidURL, ValueError) as error:  # whose words may hold a piece of the password
            raise StoreUnavailable(self._name, "its URL should be like http://127.0.0.1:8000") from error
        except (ImportError, OSError) as error:  # a proxy or certificates that the environment names
            raise StoreUnavailable(self._name, f"the environment's settings can't be used ({error})") from error

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
                if in_doubt and request.headers is not None:
                    self._require_keys()
                return self._send(request)
            except _Failure as failure:
                in_doubt = in_doubt or (failure.in_doubt and request.advice is not None)
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Failure) and (in_doubt or self._was_reached)),
            stop=stop_after_delay(self._patience) & stop_after_attempt(2),  # one attempt may take all of the patience
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except KeyReused:  # so no attempt can have counted, and none will
            raise
        except (AtmError, _Failure, KeyboardInterrupt) as error:
            if isinstance(error, _Failure):
                self._was_reached = False  # who asks next need not be as patient
            reason = error.reason if isinstance(error, _Failure | StoreUnavailable) else str(error).rstrip(".")
            # An attempt whose answer was lost may yet come in, whatever was said to the ones after it.
            if request.advice is not None and (in_doubt or isinstance(error, KeyboardInterrupt)):
                raise OutcomeUnknown(self._name, reason or "it was interrupted", request.advice) from error
            if isinstance(error, _Failure):
                raise StoreUnavailable(self._name, reason) from error
            raise

    def _require_keys(self) -> None:
        """Hold that to send a transaction again is safe: the server says in its description that it takes keys.

        :raises _Failure: if it can't be asked now.
        :raises StoreUnavailable: if it says nothing of the kind.
        """
        if not self._takes_keys:
            description = self._exchange("GET", "openapi.json")
            if description.is_server_error:
                raise _Failure(f"it answered {description.status_code}", in_doubt=False)
            if b"Idempotency-Key" not in description.content:
                raise StoreUnavailable(self._name, "it lost an answer, and does not say that it takes idempotency keys")
            self._takes_keys = True

    def _send(self, request: _Request) -> Account:
        """Send a request once.

        :raises AtmError: if the server refused it for good.
        :raises _Failure: if it may be sent again.
        """
        answer = self._exchange(request.method, request.path, request.body, request.headers)
        if not answer.is_success:
            raise self._refusal(request, answer)
        try:
            account = decode_account(answer.content)
            if account.number == request.account_number:
                return account
            reason = f"its answer is of account {account.number}"
        except (ValueError, RecursionError) as error:
            reason = f"its answer is not an account ({error}); is it a Mini-ATM server?"
        if request.advice is None:
            raise StoreUnavailable(self._name, reason)
        raise _Failure(reason, in_doubt=True)

    def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request and get an answer, of whatever kind.

        :raises _Failure: if there is none.
        """
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except httpx.PoolTimeout as error:
            raise _Failure("all connections to it are busy", in_doubt=False) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, UnicodeError) as error:
            advice = "" if "SSL" in str(error) else "; atm serve starts one"
            raise _Failure(f"no server answers there ({error}){advice}", in_doubt=False) from error
        except httpx.RequestError as error:
            raise _Failure(f"it gave no answer ({error})", in_doubt=True) from error
        except RuntimeError as error:  # httpx's word for a client that was closed
            raise StoreUnavailable(self._name, "it was closed") from error
        self._was_reached = True
        return answer

    def _refusal(self, request: _Request, answer: httpx.Response) -> AtmError | _Failure:
        """What an answer other than an account means."""
        try:
            problem = msgspec.json.decode(answer.content, type=_Problem)
        except (ValueError, RecursionError):
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
