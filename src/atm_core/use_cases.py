"""The use cases: one function for each thing that a caller can ask for, each one call to a port.

The result depends on ``accounts``: an ``AccountRepository[Account]`` returns the account, an
``AccountRepository[Awaitable[Account]]`` returns an awaitable. Malformed input is refused before the port
is called, so the call itself raises that refusal in both cases.

Functions that change an account share two arguments. ``key`` is an idempotency key, as
:data:`~atm_core.transaction.KEY_RULE` says: repeating the call with the same key changes nothing and returns the first
answer. ``note`` is a text for people, as :data:`~atm_core.transaction.NOTE_RULE` says. They return the account after
the change, or an awaitable of it, and share these exceptions:

- ``InvalidAccountNumber``, ``InvalidIdempotencyKey``, ``InvalidNote``: an argument is malformed.
- ``AccountNotFound``: there is no such account.
- ``IdempotencyKeyReused``: the key was used on this account for another transaction.
- ``StoreUnavailable``: the store cannot be used. Nothing was changed.
- ``Overloaded``: too many requests are waiting. Nothing was changed.
- ``OutcomeUnknown``: it is not known whether the change was made. Its ``advice`` says what to do.
"""

from typing import Final, TypeVar

from atm_core.account import parse_account_number
from atm_core.errors import InvalidPage
from atm_core.money import MoneyLike
from atm_core.ports import AccountHistory, AccountRepository
from atm_core.transaction import Closing, Deposit, LimitChange, Opening, Reopening, Withdrawal

Out = TypeVar("Out")
PageOut = TypeVar("PageOut")

MAX_PAGE_ENTRIES: Final = 1000
MAX_ENTRY_NUMBER: Final = 2**53 - 1  # the largest integer that every reader of JSON keeps exact (RFC 8259, section 6)


def open_account(
    accounts: AccountRepository[Out],
    account_number: str,
    balance: MoneyLike = 0,
    overdraft_limit: MoneyLike | None = None,
    withdrawal_limit: MoneyLike | None = None,
    key: str | None = None,
    note: str | None = None,
) -> Out:
    """Open an account.

    :param account_number: as :data:`~atm_core.account.ACCOUNT_NUMBER_RULE` says.
    :param balance: the opening balance in the currency's major unit. It may be negative.
    :param overdraft_limit: how far below zero withdrawals may bring the balance, or None for unlimited.
    :param withdrawal_limit: the most that one withdrawal may take, or None for unlimited.
    :raises InvalidAmount: if the balance or a limit is not exact, not in whole cents, or too large.
    :raises AccountAlreadyExists: if the number is taken, also by a closed account.
    """
    return accounts.execute(Opening(account_number, balance, overdraft_limit, withdrawal_limit, key, note))


def get_account(accounts: AccountRepository[Out], account_number: str) -> Out:
    """Return the account, or an awaitable of it.

    :raises InvalidAccountNumber: if the account number is malformed.
    :raises AccountNotFound: if there is no such account.
    :raises StoreUnavailable: if the store cannot be used.
    """
    return accounts.get(parse_account_number(account_number))


def deposit(
    accounts: AccountRepository[Out],
    account_number: str,
    amount: MoneyLike,
    key: str | None = None,
    note: str | None = None,
) -> Out:
    """Deposit an amount.

    :param amount: in the currency's major unit. Positive, exact, in whole cents.
    :raises InvalidAmount: if the amount is not acceptable. This takes precedence over every other refusal.
    :raises AccountClosed: if the account is closed.
    :raises BalanceOutOfRange: if the balance would become too large.
    """
    return accounts.execute(Deposit(account_number, amount, key, note))


def withdraw(
    accounts: AccountRepository[Out],
    account_number: str,
    amount: MoneyLike,
    key: str | None = None,
    note: str | None = None,
) -> Out:
    """Withdraw an amount. Without an overdraft limit, the balance may become negative.

    :param amount: in the currency's major unit. Positive, exact, in whole cents.
    :raises InvalidAmount: if the amount is not acceptable. This takes precedence over every other refusal.
    :raises AccountClosed: if the account is closed.
    :raises WithdrawalLimitExceeded: if the amount is larger than the account's withdrawal limit.
    :raises InsufficientFunds: if the balance would fall below the account's overdraft limit.
    :raises BalanceOutOfRange: if the balance would become too low.
    """
    return accounts.execute(Withdrawal(account_number, amount, key, note))


def set_limits(
    accounts: AccountRepository[Out],
    account_number: str,
    overdraft_limit: MoneyLike | None,
    withdrawal_limit: MoneyLike | None,
    key: str | None = None,
    note: str | None = None,
) -> Out:
    """Replace both limits of an account. They apply to later withdrawals.

    :param overdraft_limit: as for :func:`open_account`. It may be lower than what is used already.
    :param withdrawal_limit: as for :func:`open_account`.
    :raises InvalidAmount: if a limit is negative, not exact, not in whole cents, or too large.
    """
    return accounts.execute(LimitChange(account_number, overdraft_limit, withdrawal_limit, key, note))


def close_account(
    accounts: AccountRepository[Out], account_number: str, key: str | None = None, note: str | None = None
) -> Out:
    """Close an account. Balance and history stay readable, and its number is not free again.

    :raises BalanceNotZero: unless the balance is zero.
    :raises AccountClosed: if it is closed already.
    """
    return accounts.execute(Closing(account_number, key, note))


def reopen_account(
    accounts: AccountRepository[Out], account_number: str, key: str | None = None, note: str | None = None
) -> Out:
    """Open a closed account again. Its limits are those that it had.

    :raises AccountNotClosed: if it is not closed.
    """
    return accounts.execute(Reopening(account_number, key, note))


def read_history(
    accounts: AccountHistory[PageOut],
    account_number: str,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
) -> PageOut:
    """Return a page of an account's entries, or an awaitable of it.

    :param before: return entries with smaller numbers than this, or the newest if it is None, the newest first.
    :param after: return entries with larger numbers than this instead, the oldest first.
    :param limit: the largest number of entries, 1 to :data:`MAX_PAGE_ENTRIES`.
    :raises InvalidAccountNumber: if the account number is malformed.
    :raises InvalidPage: if a number is out of range, or if both ``before`` and ``after`` are given.
    :raises AccountNotFound: if there is no such account.
    :raises StoreUnavailable: if the store cannot be used.
    """
    parse_account_number(account_number)
    _require_whole_number("limit", limit, 1, MAX_PAGE_ENTRIES)
    if before is not None:
        _require_whole_number("before", before, 1, MAX_ENTRY_NUMBER)
    if after is not None:
        _require_whole_number("after", after, 0, MAX_ENTRY_NUMBER)
    if before is not None and after is not None:
        raise InvalidPage("before", before, "cannot be combined with after: use one of them")
    return accounts.history(account_number, before=before, after=after, limit=limit)


def _require_whole_number(parameter: str, value: int, lowest: int, highest: int) -> None:
    if type(value) is not int or not lowest <= value <= highest:  # a bool is no number of entries
        raise InvalidPage(parameter, value, f"must be a whole number from {lowest:,} to {highest:,}")
