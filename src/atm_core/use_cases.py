"""The use cases: one function for each thing that a caller can ask for, each one call to the port.

The result depends on ``accounts``: an ``AccountRepository[Account]`` returns the account, an
``AccountRepository[Awaitable[Account]]`` returns an awaitable. Malformed input is refused before the port
is called, so the call itself raises that refusal in both cases.
"""

from typing import TypeVar

from atm_core.account import Account, parse_account_number
from atm_core.money import MoneyLike
from atm_core.ports import AccountRepository
from atm_core.transaction import Transaction

Out = TypeVar("Out")


def open_account(accounts: AccountRepository[Out], account_number: str, balance: MoneyLike = 0) -> Out:
    """Open an account.

    :param account_number: as :data:`~atm_core.account.ACCOUNT_NUMBER_RULE` says.
    :param balance: the opening balance in the currency's major unit. It may be negative.
    :returns: the account, or an awaitable of it.
    :raises InvalidAccountNumber: if the account number is malformed.
    :raises InvalidAmount: if the balance is not exact, not in whole cents, or too far from zero.
    :raises AccountAlreadyExists: if the number is taken.
    :raises StoreUnavailable: if the store cannot be used. Nothing was changed.
    :raises OutcomeUnknown: if it is not known whether the account was opened. Its ``advice`` says what to do.
    """
    return accounts.add(Account(account_number, balance))


def get_account(accounts: AccountRepository[Out], account_number: str) -> Out:
    """Return the account, or an awaitable of it.

    :raises InvalidAccountNumber: if the account number is malformed.
    :raises AccountNotFound: if there is no such account.
    :raises StoreUnavailable: if the store cannot be used.
    """
    return accounts.get(parse_account_number(account_number))


def deposit(accounts: AccountRepository[Out], account_number: str, amount: MoneyLike, key: str | None = None) -> Out:
    """Deposit an amount.

    :param amount: in the currency's major unit. Positive, exact, in whole cents.
    :param key: idempotency key, as :data:`~atm_core.transaction.KEY_RULE` says. Repeating the deposit with the
        same key moves no money and returns the first answer.
    :returns: the account after the deposit, or an awaitable of it.
    :raises InvalidAmount: if the amount is not acceptable. This takes precedence over every other refusal.
    :raises InvalidAccountNumber: if the account number is malformed.
    :raises InvalidIdempotencyKey: if the key is malformed.
    :raises AccountNotFound: if there is no such account.
    :raises IdempotencyKeyReused: if the key was used on this account for another transaction.
    :raises BalanceOutOfRange: if the balance would become too large.
    :raises StoreUnavailable: if the store cannot be used. No money was moved.
    :raises Overloaded: if too many requests are waiting. No money was moved.
    :raises OutcomeUnknown: if it is not known whether money was moved. Its ``advice`` says what to do.
    """
    return accounts.execute(Transaction(account_number, "deposit", amount, key))


def withdraw(accounts: AccountRepository[Out], account_number: str, amount: MoneyLike, key: str | None = None) -> Out:
    """Withdraw an amount. The balance may become negative, because overdraft is allowed.

    Arguments, result and exceptions are those of :func:`deposit`.
    """
    return accounts.execute(Transaction(account_number, "withdrawal", amount, key))
