"""What a client can ask for: one function each, and each one call into the port.

``accounts`` decides what comes back. An ``AccountRepository[Account]`` gives the account, an
``AccountRepository[Awaitable[Account]]`` something to await for it. Ill-formed input is refused
before the port is called, so it is raised by the call itself in either case.
"""

from typing import TypeVar

from atm_core.account import Account, valid_account_number
from atm_core.money import Amount
from atm_core.repository import AccountRepository
from atm_core.transaction import Transaction

Out = TypeVar("Out")


def open_account(accounts: AccountRepository[Out], account_number: str, balance: Amount = 0) -> Out:
    """Open an account.

    :param account_number: 1 to 64 characters of ``A-Z a-z 0-9 _ -``.
    :param balance: the opening balance in the currency's major unit; it may be below zero.
    :raises InvalidAccountNumber: if the account number is ill-formed.
    :raises InvalidAmount: if the balance is not exact, not in whole cents, or too far from zero.
    :returns: the account, or something to await for it.
    :raises AccountAlreadyExists: if the number is taken.
    :raises StoreUnavailable: if nothing was changed because the store can't be used.
    :raises OutcomeUnknown: if it can't be learnt whether the account was opened; its ``advice`` says what to do.
    """
    return accounts.add(Account(account_number, balance))


def check_balance(accounts: AccountRepository[Out], account_number: str) -> Out:
    """Read an account.

    :returns: the account as it stands, or something to await for it.
    :raises InvalidAccountNumber: if the account number is ill-formed.
    :raises AccountNotFound: if there is no such account.
    :raises StoreUnavailable: if the store can't be used.
    """
    return accounts.get(valid_account_number(account_number))


def deposit(accounts: AccountRepository[Out], account_number: str, amount: Amount, key: str | None = None) -> Out:
    """Put money into an account.

    :param amount: in the currency's major unit; positive, exact, in whole cents.
    :param key: idempotency key, 1 to 255 printable ASCII characters. Asked for again under the same
        key, the deposit is not made again; the first answer is given once more.
    :returns: the account as it then stands, or something to await for it.
    :raises InvalidAmount: if the amount is not acceptable; this wins over every other refusal.
    :raises InvalidAccountNumber: if the account number is ill-formed.
    :raises InvalidKey: if the key is ill-formed.
    :raises AccountNotFound: if there is no such account.
    :raises KeyReused: if the key was used on this account for another transaction.
    :raises BalanceOutOfRange: if the balance would become too large.
    :raises StoreUnavailable: if nothing was moved because the store can't be used.
    :raises Overloaded: if nothing was moved because too many others wait.
    :raises OutcomeUnknown: if it can't be learnt whether the money moved; its ``advice`` says what to do.
    """
    return accounts.execute(Transaction(account_number, "deposit", amount, key))


def withdraw(accounts: AccountRepository[Out], account_number: str, amount: Amount, key: str | None = None) -> Out:
    """Take money out of an account, below zero if need be: overdraft is allowed.

    Arguments, what is returned and what is raised are those of :func:`deposit`.
    """
    return accounts.execute(Transaction(account_number, "withdrawal", amount, key))
