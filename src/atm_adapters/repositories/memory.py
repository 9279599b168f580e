"""Accounts in the memory of this process. They are gone when it ends."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from threading import Lock

from atm_adapters.repositories.ownership import ProcessGuard
from atm_core import Account, AccountAlreadyExists, AccountNotFound, AtmError, Entry, Transaction, decide
from atm_core.ports import BatchRepository, Durability


class InMemoryAccountRepository(BatchRepository):
    """An ``AccountRepository[Account]`` over a dict and a lock.

    It blocks for nothing but that lock, so an event loop may call it directly.

    :param accounts: the initial accounts.
    :param remembered_keys: the number of idempotency keys, the most recent ones, whose entries are kept. A
        transaction that is repeated under an older key is applied again.
    """

    def __init__(self, accounts: Iterable[Account] = (), *, remembered_keys: int = 100_000) -> None:
        self._accounts = {account.account_number: account for account in accounts}
        self._recorded: OrderedDict[tuple[str, str], Entry] = OrderedDict()
        self._remembered_keys = remembered_keys
        self._process = ProcessGuard("memory:")
        self._lock = Lock()

    def get(self, account_number: str, /) -> Account:
        self._process.check()
        account = self._accounts.get(account_number)
        if account is None:
            raise AccountNotFound(account_number)
        return account

    def add(self, account: Account, /) -> Account:
        self._process.check()
        with self._lock:
            if account.account_number in self._accounts:
                raise AccountAlreadyExists(account.account_number)
            self._accounts[account.account_number] = account
        return account

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        self._process.check()
        with self._lock:
            outcomes, entries = decide(transactions, self._accounts, self._recorded)
            for entry in entries:
                transaction = entry.transaction
                if transaction.key is not None:
                    self._recorded[transaction.account_number, transaction.key] = entry
                    if len(self._recorded) > self._remembered_keys:
                        self._recorded.popitem(last=False)
        return outcomes

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        self._process.check()
        with self._lock:
            numbers = nsmallest(limit, (number for number in self._accounts if number > after))
            return [self._accounts[number] for number in numbers]

    def durability(self) -> Durability:
        return Durability("memory", durable=False, settings={"kept_until": "the process ends"})

    def close(self) -> None:
        """Do nothing. Every store can be closed."""
