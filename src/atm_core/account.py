"""An account, and the rules that its transactions obey."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from atm_core.errors import (
    AccountClosed,
    AccountNotClosed,
    BalanceNotZero,
    BalanceOutOfRange,
    InsufficientFunds,
    InvalidAccountNumber,
    WithdrawalLimitExceeded,
)
from atm_core.money import MAX_MONEY, MoneyLike, exact_difference, exact_sum, parse_amount, parse_limit, parse_money

MAX_ACCOUNT_NUMBER_LENGTH: Final = 64
ACCOUNT_NUMBER_PATTERN: Final = f"[A-Za-z0-9_-]{{1,{MAX_ACCOUNT_NUMBER_LENGTH}}}"
ACCOUNT_NUMBER_RULE: Final = f"1 to {MAX_ACCOUNT_NUMBER_LENGTH} characters of A-Z a-z 0-9 _ -"

_ACCOUNT_NUMBER = re.compile(ACCOUNT_NUMBER_PATTERN, re.ASCII)
_ZERO = Decimal("0.00")
_set = object.__setattr__  # how frozen dataclasses set their fields


def parse_account_number(value: str) -> str:
    """Return the account number unchanged if it is well-formed.

    :raises InvalidAccountNumber: unless it follows :data:`ACCOUNT_NUMBER_RULE`.
    """
    if not isinstance(value, str) or _ACCOUNT_NUMBER.fullmatch(value) is None:
        raise InvalidAccountNumber(value, f"must be a string of {ACCOUNT_NUMBER_RULE}")
    return value


@dataclass(frozen=True, slots=True, init=False)
class Account:
    """The state of an account at one moment. It is immutable: each change returns a new ``Account``.

    Sums are in the currency's major unit, with two decimals. ``balance`` may be negative. ``overdraft_limit`` is how
    far below zero a withdrawal may bring it, and ``withdrawal_limit`` the most that one withdrawal may take. None
    means unlimited. ``last_entry`` is the number of the account's last entry, or 0 if it is not known. Accounts are
    compared without it.
    """

    account_number: str
    balance: Decimal
    overdraft_limit: Decimal | None
    withdrawal_limit: Decimal | None
    closed: bool
    last_entry: int = field(compare=False)

    def __init__(
        self,
        account_number: str,
        balance: MoneyLike,
        overdraft_limit: MoneyLike | None = None,
        withdrawal_limit: MoneyLike | None = None,
        *,
        closed: bool = False,
        last_entry: int = 0,
    ) -> None:
        """Validate and store the values.

        :raises InvalidAccountNumber: if the account number is malformed.
        :raises InvalidAmount: if the balance is not exact, not in whole cents, or more than
            :data:`~atm_core.money.MAX_MONEY` from zero, or if a limit is not such a sum or negative.
        """
        _set(self, "account_number", parse_account_number(account_number))
        _set(self, "balance", parse_money(balance))
        _set(self, "overdraft_limit", parse_limit(overdraft_limit, "overdraft_limit"))
        _set(self, "withdrawal_limit", parse_limit(withdrawal_limit, "withdrawal_limit"))
        _set(self, "closed", closed)
        _set(self, "last_entry", last_entry)

    @property
    def available(self) -> Decimal | None:
        """The sum that can be withdrawn, or None if it is unlimited. It is 0.00 for a closed account."""
        if self.closed:
            return _ZERO
        if self.overdraft_limit is None:
            return None
        # No withdrawal can take more than MAX_MONEY.
        return min(max(exact_sum(self.balance, self.overdraft_limit), _ZERO), MAX_MONEY)

    def deposit(self, amount: MoneyLike) -> "Account":
        """Return the account after the deposit.

        :param amount: in the currency's major unit.
        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises AccountClosed: if the account is closed.
        :raises BalanceOutOfRange: if the balance would become too large.
        """
        balance = exact_sum(self.balance, parse_amount(amount))
        self._require_not_closed()
        return self._with_balance(balance)

    def withdraw(self, amount: MoneyLike) -> "Account":
        """Return the account after the withdrawal. Without an overdraft limit, the balance may become negative.

        :param amount: in the currency's major unit.
        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises AccountClosed: if the account is closed.
        :raises WithdrawalLimitExceeded: if the amount is larger than the withdrawal limit.
        :raises InsufficientFunds: if the balance would fall below the overdraft limit.
        :raises BalanceOutOfRange: if the balance would become too low.
        """
        amount = parse_amount(amount)
        balance = exact_difference(self.balance, amount)
        self._require_not_closed()
        if self.withdrawal_limit is not None and amount > self.withdrawal_limit:
            raise WithdrawalLimitExceeded(self.account_number, self.withdrawal_limit)
        if self.overdraft_limit is not None and exact_sum(balance, self.overdraft_limit) < 0:
            raise InsufficientFunds(self.account_number, self.available or _ZERO)
        return self._with_balance(balance)

    def with_limits(self, overdraft_limit: Decimal | None, withdrawal_limit: Decimal | None) -> "Account":
        """Return the account with these limits. They apply to later withdrawals, and the balance stays."""
        return self._after_entry(self.balance, overdraft_limit, withdrawal_limit, self.closed)

    def close(self) -> "Account":
        """Return the closed account.

        :raises AccountClosed: if it is closed already.
        :raises BalanceNotZero: unless the balance is zero.
        """
        self._require_not_closed()
        if self.balance:
            raise BalanceNotZero(self.account_number, self.balance)
        return self._after_entry(self.balance, self.overdraft_limit, self.withdrawal_limit, closed=True)

    def reopen(self) -> "Account":
        """Return the account after it was opened again.

        :raises AccountNotClosed: if it is not closed.
        """
        if not self.closed:
            raise AccountNotClosed(self.account_number)
        return self._after_entry(self.balance, self.overdraft_limit, self.withdrawal_limit, closed=False)

    def _require_not_closed(self) -> None:
        if self.closed:
            raise AccountClosed(self.account_number)

    def _with_balance(self, balance: Decimal) -> "Account":
        if balance.copy_abs() > MAX_MONEY:  # copy_abs(), unlike abs(), ignores the caller's decimal context
            raise BalanceOutOfRange(self.account_number, MAX_MONEY)
        return self._after_entry(balance, self.overdraft_limit, self.withdrawal_limit, closed=False)

    def _after_entry(
        self, balance: Decimal, overdraft_limit: Decimal | None, withdrawal_limit: Decimal | None, closed: bool
    ) -> "Account":
        """Return the account as its next entry leaves it."""
        account = object.__new__(Account)  # skips __init__: the values are valid, and every transaction comes here
        _set(account, "account_number", self.account_number)
        _set(account, "balance", balance)
        _set(account, "overdraft_limit", overdraft_limit)
        _set(account, "withdrawal_limit", withdrawal_limit)
        _set(account, "closed", closed)
        _set(account, "last_entry", self.last_entry + 1)
        return account
