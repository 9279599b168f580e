"""The one table of errors: the title, the HTTP status and the exit code of each."""

from typing import Final, NamedTuple

from atm_adapters.wire.errors import InvalidBody, InvalidTokensFile, NotAllowed, NotAuthenticated, UnknownStore
from atm_core import errors


class ErrorResponse(NamedTuple):
    """How front ends report an error: a title for people, the HTTP status, and the command's exit code."""

    title: str
    status: int
    exit_code: int


FAILED, INVALID, REFUSED, UNAVAILABLE, UNKNOWN, DENIED = 1, 2, 3, 4, 5, 6
"""Exit codes of the command. 2 is also the code for wrong usage, as Typer has it."""

ERROR_RESPONSES: Final[dict[type[errors.AtmError], ErrorResponse]] = {
    errors.InvalidAmount: ErrorResponse("Invalid amount", 422, INVALID),
    errors.InvalidAccountNumber: ErrorResponse("Invalid account number", 422, INVALID),
    errors.InvalidIdempotencyKey: ErrorResponse("Invalid idempotency key", 400, INVALID),
    errors.InvalidNote: ErrorResponse("Invalid note", 422, INVALID),
    errors.InvalidPage: ErrorResponse("Invalid page", 422, INVALID),
    InvalidBody: ErrorResponse("Invalid body", 422, INVALID),
    UnknownStore: ErrorResponse("Unknown store", 500, INVALID),
    NotAuthenticated: ErrorResponse("Not authenticated", 401, DENIED),
    NotAllowed: ErrorResponse("Not allowed", 403, DENIED),
    errors.AccountNotFound: ErrorResponse("Account not found", 404, REFUSED),
    errors.AccountAlreadyExists: ErrorResponse("Account already exists", 409, REFUSED),
    errors.AccountClosed: ErrorResponse("Account closed", 409, REFUSED),
    errors.AccountNotClosed: ErrorResponse("Account not closed", 409, REFUSED),
    errors.BalanceNotZero: ErrorResponse("Balance not zero", 409, REFUSED),
    errors.InsufficientFunds: ErrorResponse("Insufficient funds", 409, REFUSED),
    errors.WithdrawalLimitExceeded: ErrorResponse("Withdrawal limit exceeded", 409, REFUSED),
    errors.BalanceOutOfRange: ErrorResponse("Balance out of range", 422, REFUSED),
    errors.IdempotencyKeyReused: ErrorResponse("Idempotency key reused", 422, REFUSED),
    errors.InconsistentJournal: ErrorResponse("Inconsistent journal", 422, INVALID),
    errors.StoreNotEmpty: ErrorResponse("Store not empty", 409, REFUSED),
    errors.StoreUnavailable: ErrorResponse("Store unavailable", 503, UNAVAILABLE),
    errors.StoreNotInitialized: ErrorResponse("Store not initialized", 503, UNAVAILABLE),
    InvalidTokensFile: ErrorResponse("Invalid tokens file", 503, UNAVAILABLE),
    errors.Overloaded: ErrorResponse("Overloaded", 503, UNAVAILABLE),
    errors.OutcomeUnknown: ErrorResponse("Outcome unknown", 503, UNKNOWN),
    errors.AtmError: ErrorResponse("Refused", 422, REFUSED),  # every refusal without a row of its own
}


def response_for(error: errors.AtmError | type[errors.AtmError]) -> ErrorResponse:
    """Return the row of the error's class or of its nearest base class."""
    error_class = error if isinstance(error, type) else type(error)
    return next(ERROR_RESPONSES[each] for each in error_class.__mro__ if each in ERROR_RESPONSES)
