"""The core of Mini-ATM: accounts, transactions, the use cases, and the ports that adapters implement."""

from atm_core.account import Account
from atm_core.audit import AuditedAccount, audit
from atm_core.errors import (
    AccountAlreadyExists,
    AccountNotFound,
    AtmError,
    BalanceOutOfRange,
    IdempotencyKeyReused,
    InvalidAccountNumber,
    InvalidAmount,
    InvalidIdempotencyKey,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from atm_core.money import MAX_MONEY, MoneyLike
from atm_core.ports import AccountRepository
from atm_core.transaction import Entry, Transaction, TransactionKind, decide
from atm_core.use_cases import deposit, get_account, open_account, withdraw

__all__ = [
    "MAX_MONEY",
    "Account",
    "AccountAlreadyExists",
    "AccountNotFound",
    "AccountRepository",
    "AtmError",
    "AuditedAccount",
    "BalanceOutOfRange",
    "Entry",
    "IdempotencyKeyReused",
    "InvalidAccountNumber",
    "InvalidAmount",
    "InvalidIdempotencyKey",
    "MoneyLike",
    "OutcomeUnknown",
    "Overloaded",
    "StoreUnavailable",
    "Transaction",
    "TransactionKind",
    "audit",
    "decide",
    "deposit",
    "get_account",
    "open_account",
    "withdraw",
]
