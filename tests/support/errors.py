"""Every error class of the project, and an example of each."""

from decimal import Decimal
from typing import Final

from atm_adapters.wire.errors import (
    InvalidBody,
    InvalidTokensFile,
    NotAllowed,
    NotAuthenticated,
    UnknownRefusal,
    UnknownStore,
)
from atm_core import (
    MAX_MONEY,
    AccountAlreadyExists,
    AccountClosed,
    AccountNotClosed,
    AccountNotFound,
    AtmError,
    BalanceNotZero,
    BalanceOutOfRange,
    IdempotencyKeyReused,
    InconsistentJournal,
    InsufficientFunds,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    InvalidNote,
    InvalidPage,
    OutcomeUnknown,
    Overloaded,
    StoreNotEmpty,
    StoreNotInitialized,
    StoreUnavailable,
    WithdrawalLimitExceeded,
)

EXAMPLES: Final[tuple[AtmError, ...]] = (
    InvalidAmount("0.001", "must be in whole cents", "overdraft_limit"),
    InvalidAccountNumber("a b", "must be shorter"),
    InvalidIdempotencyKey("\n", "must be printable"),
    InvalidNote("\n", "must be a line"),
    InvalidPage("limit", 0, "must be larger"),
    AccountNotFound("9"),
    AccountAlreadyExists("0"),
    AccountClosed("0"),
    AccountNotClosed("0"),
    BalanceNotZero("0", Decimal("-12.50")),
    InsufficientFunds("0", Decimal("12.50")),
    WithdrawalLimitExceeded("0", Decimal("400.00")),
    BalanceOutOfRange("0", MAX_MONEY),
    IdempotencyKeyReused("0", 'a "quoted" key'),
    InconsistentJournal("0", 2),
    StoreNotEmpty("the backup"),
    StoreUnavailable("/secret/path", "the secret disk is full"),
    StoreNotInitialized("/secret/path", "there is no secret file", 0),
    Overloaded(10_000),
    OutcomeUnknown("/secret/path", "the secret disk failed", "Read the balance."),
    InvalidBody("#/amount", "it has no amount", '{"amount": 1}'),
    InvalidTokensFile("tokens.toml", "No such file or directory"),
    NotAuthenticated(),
    NotAllowed("move"),
    UnknownStore("mysql://h/db", "Use a file path."),
    UnknownRefusal("Account 0 is frozen."),
)


def project_errors(base: type[AtmError] = AtmError) -> set[type[AtmError]]:
    """Return the subclasses of an error class at all levels, without those that tests define."""
    subclasses = {each for subclass in base.__subclasses__() for each in {subclass, *project_errors(subclass)}}
    return {each for each in subclasses if each.__module__.startswith(("atm_core.", "atm_adapters."))}
