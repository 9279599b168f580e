"""An account: a number and a balance, and what a deposit or a withdrawal makes of it."""

import re
from dataclasses import dataclass
from decimal import Decimal

from atm_core.errors import BalanceOutOfRange, InvalidAccountNumber
from atm_core.money import LARGEST_SUM, Amount, exact_difference, exact_sum, to_amount, to_sum

ACCOUNT_NUMBER_PATTERN = "[A-Za-z0-9_-]{1,64}"
_ACCOUNT_NUMBER = re.compile(ACCOUNT_NUMBER_PATTERN, re.ASCII)


def valid_account_number(value: str) -> str:
    """Return the account number that was given.

    :raises InvalidAccountNumber: unless it is 1 to 64 characters of ``A-Z a-z 0-9 _ -``.
    """
    if not isinstance(value, str) or _ACCOUNT_NUMBER.fullmatch(value) is None:
        raise InvalidAccountNumber(value)
    return value


@dataclass(frozen=True, slots=True, init=False)
class Account:
    """An account as it stands at one moment. It never changes: a deposit returns the account as it then stands.

    ``number`` is 1 to 64 characters of ``A-Z a-z 0-9 _ -``; ``balance`` is in the currency's major
    unit, with two decimals, and may be below zero.
    """

    number: str
    balance: Decimal

    def __init__(self, number: str, balance: Amount) -> None:
        """Check and keep both.

        :raises InvalidAccountNumber: if the number is ill-formed.
        :raises InvalidAmount: if the balance is not exact, not in whole cents, or more than
            :data:`~atm_core.money.LARGEST_SUM` from zero.
        """
        object.__setattr__(self, "number", valid_account_number(number))
        object.__setattr__(self, "balance", to_sum(balance))

    def deposit(self, amount: Amount) -> "Account":
        """Return the account with ``amount`` more.

        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises BalanceOutOfRange: if the balance would become too large.
        """
        return self._with_balance(exact_sum(self.balance, to_amount(amount)))

    def withdraw(self, amount: Amount) -> "Account":
        """Return the account with ``amount`` less, below zero if need be: overdraft is allowed.

        :raises InvalidAmount: unless the amount is exact, positive and in whole cents.
        :raises BalanceOutOfRange: if the balance would become too low.
        """
        return self._with_balance(exact_difference(self.balance, to_amount(amount)))

    def _with_balance(self, balance: Decimal) -> "Account":
        if balance.copy_abs() > LARGEST_SUM:  # unlike abs() and unary minus, no business of the caller's context
            raise BalanceOutOfRange(self.number, LARGEST_SUM)
        account = object.__new__(Account)  # both are valid already, and this is on the way of every transaction
        object.__setattr__(account, "number", self.number)
        object.__setattr__(account, "balance", balance)
        return account
