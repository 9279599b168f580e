"""The OpenAPI document: requests and answers of each call, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from inspect import signature
from typing import Final

from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)

from atm_adapters.front_ends.http.cross_site import CrossSiteRequest, HostNotAllowed
from atm_adapters.front_ends.http.problems import UnsupportedMediaType
from atm_adapters.front_ends.http.request_bodies import LIMITS, MOVEMENT, NOTE, OPENING
from atm_adapters.front_ends.http.schemas import READY_WITH_TOKENS, SCHEMAS, STRING, URI_REFERENCE, reference
from atm_adapters.front_ends.http.tokens import Verb
from atm_adapters.wire.error_responses import response_for
from atm_adapters.wire.errors import InvalidBody, NotAllowed, NotAuthenticated
from atm_adapters.wire.problem_document import PROBLEM_JSON, problem_document
from atm_core import MAX_MONEY, errors, read_history
from atm_core.account import ACCOUNT_NUMBER_RULE
from atm_core.transaction import KEY_RULE, MAX_KEY_LENGTH, NOTE_RULE
from atm_core.use_cases import MAX_ENTRY_NUMBER, MAX_PAGE_ENTRIES

DESCRIPTION: Final = f"""
Accounts, exact to the cent: open, read, deposit, withdraw, limit, close, and read their history.

**Money.** Sums are in the currency's major unit, with at most two decimals, and at most {MAX_MONEY:,}. Send an
amount as a JSON number or as a string such as `"10.25"`. Balances are exact JSON numbers. Nothing is rounded: a
sum that cannot be held exactly is refused. A balance may be negative.

**Keys and retries.** A request with an `Idempotency-Key` can be repeated safely: the account applies it at most once,
and a repetition returns the first answer. Repeat it after a lost answer, a timeout, or a 503. The same key with
another amount or note is refused. Without a key, read the account before you repeat a request.

**Limits.** `overdraft_limit` is how far below zero a withdrawal may bring the balance, and `withdrawal_limit` is the
most that one withdrawal may take. `null` means unlimited.

**Complete answers.** With `Prefer: return=representation` (RFC 7240), every answer has all facts about the account,
and histories have the key of each entry and the account's limits after it.

**Errors.** Every error is a problem document (RFC 9457). `type` names the error, `detail` says what is wrong and
what would be right, and further members carry the facts. After a 4xx nothing was changed. A 503 says whether
nothing was changed or the outcome is unknown.
"""

_TOKENS: Final = """
**Access tokens.** Most calls need one: `Authorization: Bearer TOKEN` (RFC 6750). The operator makes tokens. Each covers
some verbs and some accounts. A call names its verb: `read`, `move` (deposit and withdraw), `manage` (open, limit, close
and reopen accounts), or `monitor`. An account that a token does not cover is answered alike whether it exists or not.
"""
_ACCOUNT_NUMBER = Parameter(
    name="account_number", param_in="path", required=True, schema=reference("AccountNumber"), example="0"
)
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    # No example, because all readers who try an example would send the same key.
    description="Names this transaction, so that the account applies it at most once however often it is sent. "
    "For example a UUID, with or without double quotes. A key that was used for another transaction is refused.",
    schema=Schema(
        type=OpenAPIType.STRING,
        pattern=rf'^("([ !#-\[\]-~]|\\["\\]){{1,{MAX_KEY_LENGTH}}}"|[!#-~]([ -~]{{0,{MAX_KEY_LENGTH - 2}}}[!-~])?)$',
    ),
)
_PREFER = Parameter(
    name="Prefer",
    param_in="header",
    description="return=representation (RFC 7240) asks for all facts. Other preferences are ignored.",
    schema=STRING,
)


_HEADERS: Final[dict[int, dict[str, OpenAPIHeader | Reference]]] = {
    503: {"Retry-After": OpenAPIHeader(schema=Schema(type=OpenAPIType.INTEGER), description="In seconds")},
    401: {"WWW-Authenticate": OpenAPIHeader(schema=STRING, description="Bearer (RFC 6750)")},
}


def _page_parameter(name: str, description: str, **bounds: int) -> Parameter:
    schema = Schema(type=OpenAPIType.INTEGER, **bounds)  # type: ignore[arg-type]
    return Parameter(name=name, param_in="query", description=description, schema=schema)


_PAGE = [
    _page_parameter(
        "limit",
        "The largest number of entries.",
        minimum=1,
        maximum=MAX_PAGE_ENTRIES,
        default=signature(read_history).parameters["limit"].default,
    ),
    _page_parameter(
        "before",
        "Answer entries with smaller numbers, the newest first. It excludes after.",
        minimum=1,
        maximum=MAX_ENTRY_NUMBER,
    ),
    _page_parameter(
        "after",
        "Answer entries with larger numbers, the oldest first. It excludes before.",
        minimum=0,
        maximum=MAX_ENTRY_NUMBER,
    ),
]


def _content(schema: str, media_type: str = "application/json", **examples: Example) -> dict[str, OpenAPIMediaType]:
    return {media_type: OpenAPIMediaType(schema=reference(schema), examples=dict(examples) or None)}


def _success(description: str, schema: str, **headers: OpenAPIHeader) -> OpenAPIResponse:
    return OpenAPIResponse(description=description, content=_content(schema), headers=dict(headers) or None)


def _example(error: errors.AtmError) -> Example:
    return Example(summary=response_for(error).title, value=problem_document(error))


def _problem(status: int, **examples: Example) -> OpenAPIResponse:
    return OpenAPIResponse(
        description=HTTPStatus(status).phrase,
        content=_content("Problem", PROBLEM_JSON, **examples),
        headers=_HEADERS.get(status),
    )


def operation(
    tag: str,
    summary: str,
    answer: OpenAPIResponse,
    failures: Sequence[errors.AtmError | type[HTTPException]],
    *,
    status: HTTPStatus = HTTPStatus.OK,
    parameters: Sequence[Parameter] = (),
    body: str | None = None,
    is_body_required: bool = True,
) -> type[Operation]:
    """Return the class that Litestar instantiates to describe a route.

    :param answer: of a request that succeeds.
    :param failures: an example of each error that the route may answer. Their statuses come from the table of
        error responses.
    :param body: the name of the schema of the request's body, if it has one.
    """
    by_status: dict[int, dict[str, Example]] = {}
    for error in [HostNotAllowed, *failures]:  # every route checks the Host
        if isinstance(error, errors.AtmError):
            by_status.setdefault(response_for(error).status, {})[error.code] = _example(error)
        else:
            by_status.setdefault(error.status_code, {})
    responses = {str(int(status)): answer} | {
        str(int(code)): _problem(code, **examples) for code, examples in sorted(by_status.items())
    }

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.tags = [tag]
            self.summary = summary
            self.parameters = list(parameters) or None
            if body is not None:
                self.request_body = RequestBody(required=is_body_required, content=_content(body))
            self.responses = dict(responses)

    return Described


_UNAVAILABLE = (errors.StoreUnavailable("the store", "a reason"), errors.Overloaded(10_000))
_INVALID_ACCOUNT_NUMBER = errors.InvalidAccountNumber("a b", f"must be a string of {ACCOUNT_NUMBER_RULE}")
_NOT_FOUND = errors.AccountNotFound("9")
_READ_ERRORS = (_NOT_FOUND, _INVALID_ACCOUNT_NUMBER, *_UNAVAILABLE)
_CHANGE_ERRORS = (
    errors.InvalidIdempotencyKey("", f"must be a string of {KEY_RULE}"),
    errors.InvalidNote("a\nb", f"must be a string of {NOTE_RULE}"),
    _INVALID_ACCOUNT_NUMBER,
    errors.IdempotencyKeyReused("0", "order-1"),
    errors.OutcomeUnknown("the store", "a reason"),
    *_UNAVAILABLE,
    CrossSiteRequest,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
_WRONG_NOTE = InvalidBody("#/note", "its note is not a string", NOTE.example)
_MOVEMENT_ERRORS = (
    errors.InvalidAmount("-5", "must be positive, such as 100 or 10.25"),
    InvalidBody("#/amount", "it has no amount", MOVEMENT.example),
    _NOT_FOUND,
    errors.AccountClosed("0"),
    errors.BalanceOutOfRange("0", MAX_MONEY),
    *_CHANGE_ERRORS,
)
_ACCOUNT_AFTER = "The account after the transaction. If the key was used before, the account after its first use"
_ADDRESS = OpenAPIHeader(schema=URI_REFERENCE, description="The address of the account")
_NEXT_PAGE = OpenAPIHeader(schema=STRING, description="The address of the page that follows, with rel=next")

_READ = partial(operation, "accounts", parameters=[_ACCOUNT_NUMBER, _PREFER])
_CHANGE = partial(operation, "accounts", parameters=[_ACCOUNT_NUMBER, _IDEMPOTENCY_KEY, _PREFER])

GET_BALANCE = _READ("Read the balance of an account", _success("The balance", "AccountBalance"), _READ_ERRORS)
GET_ACCOUNT = _READ("Read all facts about an account", _success("The account", "Account"), _READ_ERRORS)
GET_HISTORY = operation(
    "accounts",
    "Read the entries of an account in pages",
    _success("A page, the newest entry first, or the oldest first with after", "History", Link=_NEXT_PAGE),
    [errors.InvalidPage("limit", "0", f"must be a whole number from 1 to {MAX_PAGE_ENTRIES:,}"), *_READ_ERRORS],
    parameters=[_ACCOUNT_NUMBER, *_PAGE, _PREFER],
)
DEPOSIT = _CHANGE("Deposit an amount", _success(_ACCOUNT_AFTER, "Receipt"), _MOVEMENT_ERRORS, body="Transaction")
WITHDRAW = _CHANGE(
    "Withdraw an amount. Without an overdraft limit, the balance may become negative",
    _success(_ACCOUNT_AFTER, "Receipt"),
    [
        errors.InsufficientFunds("0", Decimal("4.00")),
        errors.WithdrawalLimitExceeded("0", Decimal("400.00")),
        *_MOVEMENT_ERRORS,
    ],
    body="Transaction",
)
OPEN_ACCOUNT = operation(
    "accounts",
    "Open an account",
    _success(_ACCOUNT_AFTER, "AccountAfterEntry", Location=_ADDRESS),
    [
        errors.AccountAlreadyExists("42"),
        errors.InvalidAmount(
            Decimal("0.001"), "must be in whole cents, with at most two decimals, such as 10.25", "balance"
        ),
        InvalidBody("#", "it is empty", OPENING.example),
        *_CHANGE_ERRORS,
    ],
    status=HTTPStatus.CREATED,
    parameters=[_IDEMPOTENCY_KEY, _PREFER],
    body="Opening",
)
SET_LIMITS = _CHANGE(
    "Replace both limits of an account",
    _success(_ACCOUNT_AFTER, "AccountAfterEntry"),
    [
        errors.InvalidAmount("-5", "must not be negative: write it like 0 or 500", "overdraft_limit"),
        InvalidBody("#/withdrawal_limit", "it has no withdrawal_limit", LIMITS.example),
        _NOT_FOUND,
        *_CHANGE_ERRORS,
    ],
    body="Limits",
)
CLOSE_ACCOUNT = _CHANGE(
    "Close an account whose balance is zero",
    _success(_ACCOUNT_AFTER, "AccountAfterEntry"),
    [errors.BalanceNotZero("0", Decimal("5.00")), errors.AccountClosed("0"), _WRONG_NOTE, _NOT_FOUND, *_CHANGE_ERRORS],
    body="WithNote",
    is_body_required=False,
)
REOPEN_ACCOUNT = _CHANGE(
    "Open a closed account again",
    _success(_ACCOUNT_AFTER, "AccountAfterEntry"),
    [errors.AccountNotClosed("0"), _WRONG_NOTE, _NOT_FOUND, *_CHANGE_ERRORS],
    body="WithNote",
    is_body_required=False,
)
IS_LIVE = operation("health", "Check that the process answers", _success("The process answers", "Live"), [])
IS_READY = operation(
    "health",
    "Check that the store answers, and read how durable it is",
    _success("The store answers", "Ready"),
    _UNAVAILABLE,
)


def describe_access(openapi: OpenAPI, verbs: Mapping[str, Verb | None]) -> None:
    """Describe the access tokens of a server that requires them.

    :param verbs: the verb that each operation needs, by operation id. None if it is for everyone.
    """
    openapi.info.description = DESCRIPTION + _TOKENS
    openapi.components.security_schemes = {"accessToken": SecurityScheme(type="http", scheme="bearer")}
    openapi.components.schemas = SCHEMAS | {"Ready": READY_WITH_TOKENS}
    for path in (openapi.paths or {}).values():
        for described in (path.get, path.post, path.put):
            if described is not None and described.responses is not None:
                verb = verbs[str(described.operation_id)]
                described.security = [{"accessToken": []}] if verb else [{}, {"accessToken": []}]  # {}: none is needed
                for error in [NotAuthenticated(), NotAllowed(verb.value)] if verb else []:
                    described.responses[str(response_for(error).status)] = _problem(
                        response_for(error).status, **{error.code: _example(error)}
                    )
