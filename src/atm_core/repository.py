"""The port: what the core asks of whatever keeps the accounts.

The docstrings below are the contract; ``atm_adapters.testing`` holds it as a test-suite.
"""

from typing import Protocol, TypeVar

from atm_core.account import Account
from atm_core.transaction import Transaction

Out_co = TypeVar("Out_co", covariant=True)


class AccountRepository(Protocol[Out_co]):
    """Keeps accounts, in memory or anywhere else.

    ``Out_co`` is what a call gives back: ``AccountRepository[Account]`` blocks until the answer is
    there, ``AccountRepository[Awaitable[Account]]`` is for callers on an event loop. A refusal is
    raised where the account would have been returned: by the call, or by awaiting it.

    Every method may raise :class:`~atm_core.errors.StoreUnavailable` or
    :class:`~atm_core.errors.Overloaded`, and then nothing was changed.
    """

    def get(self, account_number: str, /) -> Out_co:
        """Give the account as it stands. Whatever was answered before this call began is visible.

        :raises AccountNotFound: if there is none with this number.
        """
        ...

    def add(self, account: Account, /) -> Out_co:
        """Keep a new account, with its balance as the opening balance, and give it back.

        :raises AccountAlreadyExists: if the number is taken; that account is left as it is.
        :raises OutcomeUnknown: if it can't be learnt whether the commit went through.
        """
        ...

    def execute(self, transaction: Transaction, /) -> Out_co:
        """Carry out a transaction, atomically, and give the account as it then stands.

        Atomically: every transaction on an account starts from the balance that the one before it
        left, whichever thread or process asked for it.

        Once: if the account already had the same transaction under the same key, nothing moves and
        the first answer is given again. The key is recorded in the same commit as the money, and a
        transaction that was refused leaves no trace, so it may be corrected and sent again under
        its key.

        :raises AccountNotFound: if there is no such account.
        :raises KeyReused: if the key was used on this account for another transaction.
        :raises BalanceOutOfRange: if the balance would leave the range that can be held exactly.
        :raises OutcomeUnknown: if it can't be learnt whether the commit went through.
        """
        ...
