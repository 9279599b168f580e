"""An account, and the rules that deposits and withdrawals obey."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from atm_core.errors import BalanceOutOfRange, InvalidAccountNumber
from atm_core.money import MAX_MONEY, MoneyLike, exact_difference, exact_sum, parse_amount, parse_money

MAX_ACCOUNT_NUMBER_LENGTH: Final = 64
ACCOUNT_NUMBER_PATTERN: Final = f"[A-Za-z0-9_-]{{1,{MAX_ACCOUNT_NUMBER_LENGTH}}}"
ACCOUNT_NUMBER_RULE: Final = f"1 to {MAX_ACCOUNT_NUMBER_LENGTH} characters of A-Z a-z 0-9 _ -"

_ACCOUNT_NUMBER = re.compile(ACCOUNT_NUMBER_PATTERN, re.ASCII)


def parse_account_number(value: str) -> str:
    """Return the account number unchanged if it is well-formed.

    :raises InvalidAccountNumber: unless it follows :data:`ACCOUNT_NUMBER_RULE`.
    """
    if not isinstance(value, str) or _ACCOUNT_NUMBER.fullmatch(value) is None:
        raise InvalidAccountNumber(value, f"must be a string of {ACCOUNT_NUMBER_RULE}")
    return value


@dataclass(frozen=True, slots=True, init=False)
class Account:
    """The state of an account at one moment. It is immutable: a deposit returns a new ``Account``.

    ``balance`` is in the currency's major unit, with two decimals, and may be negative.
    """

    account_number: str
    balance: Decimal

    def __init__(self, account_number: str, balance: MoneyLike) -> None:
        """Validate and store both values.

        :raises InvalidAccountNumber: if the account number is malformed.
        :raises InvalidAmount: if the balance is not exact, not in whole cents, or more than
            :data:`~atm_core.money.MAX_MONEY` from zero.
        """
        object.__setattr__(self, "account_number", parse_account_number(account_number))
        object.__setattr__(self, "balance", parse_money(balance))

    def deposit(self, amount: MoneyLike) -> "Account":
        """Return the account after the deposit.

        :param amount: in the currency's major unit.
        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises BalanceOutOfRange: if the balance would become too large.
        """
        return self._with_balance(exact_sum(self.balance, parse_amount(amount)))

    def withdraw(self, amount: MoneyLike) -> "Account":
        """Return the account after the withdrawal. The balance may become negative, because overdraft is allowed.

        :param amount: in the currency's major unit.
        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises BalanceOutOfRange: if the balance would become too low.
        """
        return self._with_balance(exact_difference(self.balance, parse_amount(amount)))

    def _with_balance(self, balance: Decimal) -> "Account":
        if balance.copy_abs() > MAX_MONEY:  # copy_abs(), unlike abs(), ignores the caller's decimal context
            raise BalanceOutOfRange(self.account_number, MAX_MONEY)
        account = object.__new__(Account)  # skips __init__: both values are valid, and every transaction comes here
        object.__setattr__(account, "account_number", self.account_number)
        object.__setattr__(account, "balance", balance)
        return account
