"""Accounts, balances, deposits and withdrawals: the rules, and the port to whatever keeps the accounts."""

from atm_core.account import Account
from atm_core.audit import AuditedAccount, audit
from atm_core.errors import (
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
from atm_core.money import LARGEST_SUM, Amount
from atm_core.repository import AccountRepository
from atm_core.transaction import Entry, Kind, Transaction, settle
from atm_core.use_cases import check_balance, deposit, open_account, withdraw

__all__ = [
    "LARGEST_SUM",
    "Account",
    "AccountAlreadyExists",
    "AccountNotFound",
    "AccountRepository",
    "Amount",
    "AtmError",
    "AuditedAccount",
    "BalanceOutOfRange",
    "Entry",
    "InvalidAccountNumber",
    "InvalidAmount",
    "InvalidKey",
    "KeyReused",
    "Kind",
    "OutcomeUnknown",
    "Overloaded",
    "StoreUnavailable",
    "Transaction",
    "audit",
    "check_balance",
    "deposit",
    "open_account",
    "settle",
    "withdraw",
]
