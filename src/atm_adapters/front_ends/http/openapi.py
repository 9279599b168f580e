"""The OpenAPI document: schemas, parameters and responses, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Final

from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.spec import (
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from atm_adapters.front_ends.http.cross_site import CrossSiteRequest, HostNotAllowed
from atm_adapters.front_ends.http.problems import UnsupportedMediaType
from atm_adapters.wire.error_responses import response_for
from atm_adapters.wire.errors import InvalidBody
from atm_adapters.wire.exact_json import AMOUNT_EXAMPLE, OPENING_EXAMPLE
from atm_adapters.wire.problem_document import AMOUNT_POINTER, PROBLEM_JSON, problem_document
from atm_core import MAX_MONEY, errors
from atm_core.account import ACCOUNT_NUMBER_PATTERN, ACCOUNT_NUMBER_RULE, MAX_ACCOUNT_NUMBER_LENGTH
from atm_core.transaction import KEY_RULE, MAX_KEY_LENGTH

BALANCE_POINTER: Final = "#/balance"
"""The JSON pointer to the sum of money in the body that opens an account."""

KEY_NOT_NEEDED: Final = "is not needed to open an account, because a second opening is refused"

DESCRIPTION: Final = f"""
Account balances, exact to the cent: read, deposit, withdraw.

**Money.** Sums are in the currency's major unit, with at most two decimals, and at most {MAX_MONEY:,}. Send an
amount as a JSON number or as a string such as `"10.25"`. Balances are exact JSON numbers. Nothing is rounded: a
sum that cannot be held exactly is refused. A balance may be negative.

**Keys and retries.** A deposit or withdrawal with an `Idempotency-Key` can be repeated safely: the account applies
it at most once, and a repetition returns the first answer. Repeat it after a lost answer, a timeout, or a 503. The
same key with another amount is refused. Without a key, read the balance before you repeat a transaction.

**Errors.** Every error is a problem document (RFC 9457). `type` names the error, `detail` says what is wrong and
what would be right, and further members carry the facts. After a 4xx nothing was changed. A 503 says whether
nothing was changed or the outcome is unknown.
"""

_LARGEST = float(MAX_MONEY)  # 15 digits, which a double prints without change
_WHOLE_DIGITS = MAX_MONEY.adjusted() + 1

_STRING = Schema(type=OpenAPIType.STRING)
_URI_REFERENCE = Schema(type=OpenAPIType.STRING, format="uri-reference")  # type: ignore[arg-type]
_MONEY = partial(Schema, type=OpenAPIType.NUMBER, minimum=-_LARGEST, maximum=_LARGEST)
_DECIMAL = rf"0*[0-9]{{1,{_WHOLE_DIGITS}}}(\.[0-9]{{1,2}}0*)?$"


def _reference(schema: str) -> Reference:
    return Reference(f"#/components/schemas/{schema}")


def _object(required: list[str], *examples: object, **properties: Schema | Reference) -> Schema:
    return Schema(type=OpenAPIType.OBJECT, properties=properties, required=required, examples=list(examples) or None)


SCHEMAS: dict[str, Schema] = {
    "AccountNumber": Schema(
        type=OpenAPIType.STRING,
        pattern=f"^{ACCOUNT_NUMBER_PATTERN}$",
        min_length=1,
        max_length=MAX_ACCOUNT_NUMBER_LENGTH,
        examples=["0"],
    ),
    "Amount": Schema(
        description="A sum in the currency's major unit: positive, exact, in whole cents. "
        "A string is for clients whose numbers are floats.",
        one_of=[
            _MONEY(minimum=0.01, multiple_of=0.01, examples=[100, 10.25]),
            # At least one digit is not 0, because amounts are positive.
            Schema(type=OpenAPIType.STRING, pattern=rf"^(?=.*[1-9]){_DECIMAL}", examples=["100", "10.25"]),
        ],
        examples=[100, "10.25"],
    ),
    "Balance": _MONEY(
        description="In the currency's major unit, an exact number with two decimals. Negative when overdrawn.",
        examples=[1100.0],
    ),
    "Account": _object(
        ["account_number", "balance"],
        {"account_number": "0", "balance": 1100.0},
        account_number=_reference("AccountNumber"),
        balance=_reference("Balance"),
    ),
    "Transaction": _object(["amount"], {"amount": 100}, {"amount": "10.25"}, amount=_reference("Amount")),
    "Opening": _object(
        ["account_number"],
        {"account_number": "42", "balance": 5},
        account_number=_reference("AccountNumber"),
        balance=Schema(
            description="The opening balance, as a number or a string. It may be negative. The default is 0.",
            one_of=[_MONEY(multiple_of=0.01), Schema(type=OpenAPIType.STRING, pattern=f"^-?{_DECIMAL}")],
        ),
    ),
    "Live": _object(["status"], status=Schema(type=OpenAPIType.STRING, const="live")),
    "Ready": _object(
        ["status"],
        status=Schema(type=OpenAPIType.STRING, const="ready"),
        store=Schema(type=OpenAPIType.STRING, examples=["sqlite"]),
        durable=Schema(
            type=OpenAPIType.BOOLEAN,
            description="Whether answered transactions survive a power cut with these settings.",
        ),
        settings=Schema(
            type=OpenAPIType.OBJECT,
            description="The settings that decide this, with the store's names for them, as read back from it.",
            additional_properties=_STRING,
            examples=[{"journal_mode": "wal", "synchronous": "FULL"}],
        ),
    ),
    "Problem": _object(
        ["type", "title", "status", "detail"],
        type=_URI_REFERENCE,
        title=_STRING,
        status=Schema(type=OpenAPIType.INTEGER, minimum=400, maximum=599),
        detail=_STRING,
        errors=Schema(
            type=OpenAPIType.ARRAY,
            description="The wrong parts of the body, by JSON pointer.",
            items=_object(
                ["pointer", "detail"], pointer=Schema(type=OpenAPIType.STRING, examples=["#/amount"]), detail=_STRING
            ),
        ),
    ),
}
SCHEMAS[
    "Problem"
].description = "An error (RFC 9457). Further members carry the facts of the error, such as account_number."

_ACCOUNT_NUMBER = Parameter(
    name="account_number", param_in="path", required=True, schema=_reference("AccountNumber"), example="0"
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


def _content(schema: str, media_type: str = "application/json", **examples: Example) -> dict[str, OpenAPIMediaType]:
    return {media_type: OpenAPIMediaType(schema=_reference(schema), examples=dict(examples) or None)}


def _success(description: str, schema: str, **headers: OpenAPIHeader) -> OpenAPIResponse:
    return OpenAPIResponse(description=description, content=_content(schema), headers=dict(headers) or None)


def operation(
    tag: str,
    summary: str,
    answer: OpenAPIResponse,
    failures: Sequence[errors.AtmError | type[HTTPException]],
    *,
    status: HTTPStatus = HTTPStatus.OK,
    parameters: Sequence[Parameter] = (),
    body: str | None = None,
    money_pointer: str = AMOUNT_POINTER,
) -> type[Operation]:
    """Return the class that Litestar instantiates to describe a route.

    :param answer: of a request that succeeds.
    :param failures: an example of each error that the route may answer. Their statuses come from the table of
        error responses.
    :param body: the name of the schema of the request's body, if it has one.
    :param money_pointer: the JSON pointer to the sum of money in the request's body.
    """
    by_status: dict[int, dict[str, Example]] = {}
    for error in [HostNotAllowed, *failures]:  # every route checks the Host
        if isinstance(error, errors.AtmError):
            response = response_for(error)
            example = Example(summary=response.title, value=problem_document(error, money_pointer))
            by_status.setdefault(response.status, {})[error.code] = example
        else:
            by_status.setdefault(error.status_code, {})
    responses = {str(int(status)): answer} | {
        str(int(code)): OpenAPIResponse(
            description=HTTPStatus(code).phrase,
            content=_content("Problem", PROBLEM_JSON, **examples),
            headers={"Retry-After": OpenAPIHeader(schema=Schema(type=OpenAPIType.INTEGER), description="In seconds")}
            if code == HTTPStatus.SERVICE_UNAVAILABLE
            else None,
        )
        for code, examples in sorted(by_status.items())
    }

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.tags = [tag]
            self.summary = summary
            self.parameters = list(parameters) or None
            self.request_body = None if body is None else RequestBody(required=True, content=_content(body))
            self.responses = dict(responses)

    return Described


_INVALID_ACCOUNT_NUMBER = errors.InvalidAccountNumber("a b", f"must be a string of {ACCOUNT_NUMBER_RULE}")
_UNAVAILABLE = (errors.StoreUnavailable("the store", "a reason"), errors.Overloaded(10_000))
_BODY_ERRORS = (CrossSiteRequest, RequestEntityTooLarge, UnsupportedMediaType)
_TRANSACTION_ERRORS = (
    errors.InvalidIdempotencyKey("", f"must be a string of {KEY_RULE}"),
    errors.AccountNotFound("9"),
    errors.InvalidAmount("-5", "must be positive, such as 100 or 10.25"),
    InvalidBody("#/amount", "it has no amount", AMOUNT_EXAMPLE),
    _INVALID_ACCOUNT_NUMBER,
    errors.BalanceOutOfRange("0", MAX_MONEY),
    errors.IdempotencyKeyReused("0", "order-1"),
    errors.OutcomeUnknown("the store", "a reason"),
    *_UNAVAILABLE,
    *_BODY_ERRORS,
)
_ACCOUNT_AFTER = _success(
    "The account after the transaction. If the key was used before, the account after its first use", "Account"
)

GET_BALANCE = operation(
    "accounts",
    "Read the balance of an account",
    _success("The account", "Account"),
    [errors.AccountNotFound("9"), _INVALID_ACCOUNT_NUMBER, *_UNAVAILABLE],
    parameters=[_ACCOUNT_NUMBER],
)
DEPOSIT, WITHDRAW = (
    operation(
        "accounts",
        summary,
        _ACCOUNT_AFTER,
        _TRANSACTION_ERRORS,
        parameters=[_ACCOUNT_NUMBER, _IDEMPOTENCY_KEY],
        body="Transaction",
    )
    for summary in ("Deposit an amount", "Withdraw an amount. The balance may become negative")
)
OPEN_ACCOUNT = operation(
    "accounts",
    "Open an account",
    _success(
        "The new account",
        "Account",
        Location=OpenAPIHeader(schema=_URI_REFERENCE, description="The address of its balance"),
    ),
    [
        errors.InvalidIdempotencyKey("", KEY_NOT_NEEDED),
        errors.AccountAlreadyExists("42"),
        errors.InvalidAmount(Decimal("0.001"), "must be in whole cents, with at most two decimals, such as 10.25"),
        InvalidBody("#", "it is empty", OPENING_EXAMPLE),
        _INVALID_ACCOUNT_NUMBER,
        errors.OutcomeUnknown("the store", "a reason", errors.OutcomeUnknown.OF_OPENING),
        *_UNAVAILABLE,
        *_BODY_ERRORS,
    ],
    status=HTTPStatus.CREATED,
    body="Opening",
    money_pointer=BALANCE_POINTER,
)
IS_LIVE = operation("health", "Check that the process answers", _success("The process answers", "Live"), [])
IS_READY = operation(
    "health",
    "Check that the store answers, and read how durable it is",
    _success("The store answers", "Ready"),
    _UNAVAILABLE,
)
