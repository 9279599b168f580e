"""The API's description: schemas, parameters and statuses, as data."""

from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus

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

from atm_adapters.error_catalogue import report_for
from atm_adapters.exact_json import OPENING_EXAMPLE, InvalidBody
from atm_adapters.http.problems import MONEY_AT, OPENING_MONEY_AT, problem_members
from atm_core import (
    LARGEST_SUM,
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    BalanceOutOfRange,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidKey,
    KeyReused,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from atm_core.account import ACCOUNT_NUMBER_PATTERN
from atm_core.errors import READ_WHETHER_IT_EXISTS

_LARGEST = float(LARGEST_SUM)  # 15 digits: a double prints them again as they were
_PROBLEM_JSON = "application/problem+json"

SCHEMAS: dict[str, Schema] = {
    "AccountNumber": Schema(
        type=OpenAPIType.STRING, pattern=f"^{ACCOUNT_NUMBER_PATTERN}$", min_length=1, max_length=64, examples=["0"]
    ),
    "Amount": Schema(
        description="A sum in the currency's major unit: positive, exact, in whole cents. "
        "A string is for clients whose numbers are floats.",
        one_of=[
            Schema(type=OpenAPIType.NUMBER, minimum=0.01, maximum=_LARGEST, multiple_of=0.01, examples=[100, 10.25]),
            Schema(
                type=OpenAPIType.STRING,
                # Positive, so with a digit other than 0 somewhere.
                pattern=r"^(?=.*[1-9])0*[0-9]{1,13}(\.[0-9]{1,2}0*)?$",
                examples=["100", "10.25"],
            ),
        ],
        examples=[100, "10.25"],
    ),
    "Balance": Schema(
        type=OpenAPIType.NUMBER,
        description="In the currency's major unit, an exact number with two decimals. Below zero when overdrawn.",
        minimum=-_LARGEST,
        maximum=_LARGEST,
        examples=[1100.0],
    ),
    "Account": Schema(
        type=OpenAPIType.OBJECT,
        properties={
            "account_number": Reference("#/components/schemas/AccountNumber"),
            "balance": Reference("#/components/schemas/Balance"),
        },
        required=["account_number", "balance"],
        examples=[{"account_number": "0", "balance": 1100.0}],
    ),
    "Movement": Schema(
        type=OpenAPIType.OBJECT,
        properties={"amount": Reference("#/components/schemas/Amount")},
        required=["amount"],
        examples=[{"amount": 100}, {"amount": "10.25"}],
    ),
    "Opening": Schema(
        type=OpenAPIType.OBJECT,
        properties={
            "account_number": Reference("#/components/schemas/AccountNumber"),
            "balance": Schema(
                description="The opening balance, a number or a string as an amount is; 0 if there is none. "
                "It may be below zero.",
                one_of=[
                    Schema(type=OpenAPIType.NUMBER, minimum=-_LARGEST, maximum=_LARGEST, multiple_of=0.01),
                    Schema(type=OpenAPIType.STRING, pattern=r"^-?0*[0-9]{1,13}(\.[0-9]{1,2}0*)?$"),
                ],
            ),
        },
        required=["account_number"],
        examples=[{"account_number": "42", "balance": 5}],
    ),
    "Live": Schema(
        type=OpenAPIType.OBJECT,
        properties={"status": Schema(type=OpenAPIType.STRING, const="live")},
        required=["status"],
    ),
    "Ready": Schema(
        type=OpenAPIType.OBJECT,
        properties={
            "status": Schema(type=OpenAPIType.STRING, const="ready"),
            "store": Schema(type=OpenAPIType.STRING, examples=["sqlite"]),
            "durable": Schema(
                type=OpenAPIType.BOOLEAN,
                description="Whether the settings in force keep what was answered through a power cut.",
            ),
            "settings": Schema(
                type=OpenAPIType.OBJECT,
                description="The store's settings that decide this, by its own names, as read back from it.",
                additional_properties=Schema(type=OpenAPIType.STRING),
                examples=[{"journal_mode": "wal", "synchronous": "FULL"}],
            ),
        },
        required=["status"],
    ),
    "Problem": Schema(
        type=OpenAPIType.OBJECT,
        description="What went wrong, as RFC 9457 writes it.",
        properties={
            "type": Schema(type=OpenAPIType.STRING, format="uri-reference"),  # type: ignore[arg-type]
            "title": Schema(type=OpenAPIType.STRING),
            "status": Schema(type=OpenAPIType.INTEGER, minimum=400, maximum=599),
            "detail": Schema(type=OpenAPIType.STRING),
            "errors": Schema(
                type=OpenAPIType.ARRAY,
                description="Which parts of the body are wrong, by JSON pointer.",
                items=Schema(
                    type=OpenAPIType.OBJECT,
                    properties={
                        "pointer": Schema(type=OpenAPIType.STRING, examples=["#/amount"]),
                        "detail": Schema(type=OpenAPIType.STRING),
                    },
                    required=["pointer", "detail"],
                ),
            ),
        },
        required=["type", "title", "status", "detail"],
    ),
}

_ACCOUNT_NUMBER = Parameter(
    name="account_number",
    param_in="path",
    required=True,
    schema=Reference("#/components/schemas/AccountNumber"),
    example="0",
)
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    # No example: everybody who tried it out with the same one would find it used.
    description="Names this transaction, so that it counts at most once however often it is sent to this account: "
    "bare, or in double quotes; a UUID, say. A key that was used for another transaction is refused with 422.",
    schema=Schema(
        type=OpenAPIType.STRING,
        pattern=r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ -~]{0,253}[!-~])?)$',
    ),
)
_MOVEMENT = RequestBody(
    required=True,
    content={"application/json": OpenAPIMediaType(schema=Reference("#/components/schemas/Movement"))},
)
_OPENING = RequestBody(
    required=True,
    content={"application/json": OpenAPIMediaType(schema=Reference("#/components/schemas/Opening"))},
)
_STORE_UNAVAILABLE = StoreUnavailable("the store", "a reason")


def _json(description: str, schema: str) -> OpenAPIResponse:
    return OpenAPIResponse(
        description=description,
        content={"application/json": OpenAPIMediaType(schema=Reference(f"#/components/schemas/{schema}"))},
    )


_ACCOUNT = _json("The account as it stands", "Account")
_ACCOUNT_AFTER = _json("The account as it then stands; under a key that was used before, as it stood then", "Account")


def _problems(status: int, *errors: AtmError, money_at: str = MONEY_AT) -> OpenAPIResponse:
    """Describe one status: a problem document, with each of these errors as an example of what is answered."""
    examples: dict[str, Example | Reference] = {
        error.code: Example(summary=report_for(error).title, value=problem_members(error, money_at)) for error in errors
    }
    return OpenAPIResponse(
        description=HTTPStatus(status).phrase,
        content={
            _PROBLEM_JSON: OpenAPIMediaType(schema=Reference("#/components/schemas/Problem"), examples=examples or None)
        },
        headers={"Retry-After": OpenAPIHeader(schema=Schema(type=OpenAPIType.INTEGER), description="In seconds")}
        if status == HTTPStatus.SERVICE_UNAVAILABLE
        else None,
    )


@dataclass
class BalanceOperation(Operation):
    """Reads an account."""

    def __post_init__(self) -> None:
        self.tags = ["accounts"]
        self.summary = "Read the balance of an account"
        self.parameters = [_ACCOUNT_NUMBER]
        self.responses = {
            "200": _ACCOUNT,
            "400": _problems(400),
            "404": _problems(404, AccountNotFound("9")),
            "422": _problems(422, InvalidAccountNumber("a b")),
            "503": _problems(503, _STORE_UNAVAILABLE, Overloaded(10_000)),
        }


@dataclass
class _MovementOperation(Operation):
    def __post_init__(self) -> None:
        self.tags = ["accounts"]
        self.parameters = [_ACCOUNT_NUMBER, _IDEMPOTENCY_KEY]
        self.request_body = _MOVEMENT
        self.responses = {
            "200": _ACCOUNT_AFTER,
            "400": _problems(400, InvalidKey("")),
            "403": _problems(403),
            "404": _problems(404, AccountNotFound("9")),
            "413": _problems(413),
            "415": _problems(415),
            "422": _problems(
                422,
                InvalidAmount("-5", "must be positive, such as 100 or 10.25"),
                InvalidBody("#/amount", "it has no amount"),
                InvalidAccountNumber("a b"),
                BalanceOutOfRange("0", LARGEST_SUM),
                KeyReused("0", "order-1"),
            ),
            "503": _problems(503, _STORE_UNAVAILABLE, Overloaded(10_000), OutcomeUnknown("the store", "a reason")),
        }


@dataclass
class DepositOperation(_MovementOperation):
    """Puts money into an account."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.summary = "Deposit an amount"


@dataclass
class WithdrawOperation(_MovementOperation):
    """Takes money out of an account."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.summary = "Withdraw an amount; the account may go below zero"


@dataclass
class OpenOperation(Operation):
    """Opens an account."""

    def __post_init__(self) -> None:
        self.tags = ["accounts"]
        self.summary = "Open an account"
        self.request_body = _OPENING
        self.responses = {
            "201": OpenAPIResponse(
                description="The account that was opened",
                content=_ACCOUNT.content,
                headers={
                    "Location": OpenAPIHeader(
                        schema=Schema(type=OpenAPIType.STRING, format="uri-reference"),  # type: ignore[arg-type]
                        description="Where its balance is read",
                    )
                },
            ),
            "400": _problems(
                400, InvalidKey("", "is not needed to open an account, whose number counts once by itself")
            ),
            "403": _problems(403),
            "409": _problems(409, AccountAlreadyExists("42")),
            "413": _problems(413),
            "415": _problems(415),
            "422": _problems(
                422,
                InvalidAmount(Decimal("0.001"), "must be in whole cents, with at most two decimals, such as 10.25"),
                InvalidBody("#", "it is empty", OPENING_EXAMPLE),
                InvalidAccountNumber("a b"),
                money_at=OPENING_MONEY_AT,
            ),
            "503": _problems(
                503,
                _STORE_UNAVAILABLE,
                Overloaded(10_000),
                OutcomeUnknown("the store", "a reason", READ_WHETHER_IT_EXISTS),
            ),
        }


@dataclass
class LiveOperation(Operation):
    """Says that the process lives."""

    def __post_init__(self) -> None:
        self.tags = ["health"]
        self.summary = "Is the process alive? It answers, so it is"
        self.responses = {"200": _json("It is", "Live"), "400": _problems(400)}


@dataclass
class ReadyOperation(Operation):
    """Says whether the store answers."""

    def __post_init__(self) -> None:
        self.tags = ["health"]
        self.summary = "Does the store answer, and how durable is it?"
        self.responses = {
            "200": _json("It answers", "Ready"),
            "400": _problems(400),
            "503": _problems(503, _STORE_UNAVAILABLE, Overloaded(10_000)),
        }
