"""The one table of errors: what each is called, and how each front end reports it."""

from typing import Final, NamedTuple

from atm_adapters.exact_json import InvalidBody
from atm_adapters.stores import UnknownStore
from atm_core import (
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

_WRONG_INPUT, _REFUSED, _UNAVAILABLE = 2, 3, 4  # exit codes; 2 is also what wrong usage of any command gives


class Report(NamedTuple):
    """How an error is reported: a title for people, the HTTP status, and the command's exit code."""

    title: str
    status: int
    exit_code: int


CATALOGUE: Final[dict[type[AtmError], Report]] = {
    InvalidAmount: Report("Invalid amount", 422, _WRONG_INPUT),
    InvalidAccountNumber: Report("Invalid account number", 422, _WRONG_INPUT),
    InvalidKey: Report("Invalid idempotency key", 400, _WRONG_INPUT),
    InvalidBody: Report("Invalid body", 422, _WRONG_INPUT),
    UnknownStore: Report("Unknown store", 500, _WRONG_INPUT),
    AccountNotFound: Report("Account not found", 404, _REFUSED),
    AccountAlreadyExists: Report("Account already exists", 409, _REFUSED),
    BalanceOutOfRange: Report("Balance out of range", 422, _REFUSED),
    KeyReused: Report("Idempotency key reused", 422, _REFUSED),
    StoreUnavailable: Report("Store unavailable", 503, _UNAVAILABLE),
    Overloaded: Report("Overloaded", 503, _UNAVAILABLE),
    OutcomeUnknown: Report("Outcome unknown", 503, _UNAVAILABLE),
}


def report_for(error: AtmError) -> Report:
    """How to report an error: as its class says, or the nearest of its base classes that is in the table."""
    return next(CATALOGUE[each] for each in type(error).__mro__ if each in CATALOGUE)
