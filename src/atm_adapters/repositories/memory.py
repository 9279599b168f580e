"""Accounts in this process's memory: gone when it ends, and fast while it lasts."""

from collections import OrderedDict
from collections.abc import Iterable
from heapq import nsmallest
from threading import Lock

from atm_adapters.capabilities import Durability
from atm_core import Account, AccountAlreadyExists, AccountNotFound, AtmError, Entry, Transaction, settle


class InMemoryAccountRepository:
    """An ``AccountRepository[Account]`` over a dict and a lock.

    It never waits for anything but that lock, so an event loop may call it directly.

    :param accounts: the accounts to begin with.
    :param remembered_keys: for how many idempotency keys, the most recent ones, the first answer is
        kept. A transaction sent again under a key older than that is a new one.
    """

    def __init__(self, accounts: Iterable[Account] = (), *, remembered_keys: int = 100_000) -> None:
        self._accounts = {account.number: account for account in accounts}
        self._answered: OrderedDict[tuple[str, str], Entry] = OrderedDict()
        self._remembered_keys = remembered_keys
        self._lock = Lock()

    def get(self, account_number: str, /) -> Account:
        account = self._accounts.get(account_number)
        if account is None:
            raise AccountNotFound(account_number)
        return account

    def add(self, account: Account, /) -> Account:
        with self._lock:
            if account.number in self._accounts:
                raise AccountAlreadyExists(account.number)
            self._accounts[account.number] = account
        return account

    def execute(self, transaction: Transaction, /) -> Account:
        with self._lock:
            (outcome,), entries = settle([transaction], self._accounts, self._answered)
            if entries and transaction.key is not None:
                self._answered[transaction.account_number, transaction.key] = entries[0]
                if len(self._answered) > self._remembered_keys:
                    self._answered.popitem(last=False)
        if isinstance(outcome, AtmError):
            raise outcome
        return outcome

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        with self._lock:
            numbers = nsmallest(limit, (number for number in self._accounts if number > after))
            return [self._accounts[number] for number in numbers]

    def durability(self) -> Durability:
        """Nothing outlives the process."""
        return Durability("memory", durable=False, settings={"kept_until": "the process ends"})

    def close(self) -> None:
        """Nothing to close; every store can be closed alike."""
