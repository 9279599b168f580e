"""Accounts in the memory of this process. They are gone when it ends."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from threading import Lock

from atm_adapters.repositories.ownership import ProcessGuard
from atm_core import Account, AccountNotFound, AtmError, Entry, Opening, Transaction, decide
from atm_core.ports import BatchRepository, Durability, Page


class InMemoryAccountRepository(BatchRepository):
    """An ``AccountRepository[Account]`` over dicts and a lock.

    It blocks for nothing but that lock, so an event loop may call it directly.

    :param accounts: the initial accounts. Each gets an opening as its first entry.
    :param max_entries: the number of journal entries, the most recent ones of all accounts together, that are kept with
        their idempotency keys. Older ones are missing from histories, and a transaction that is repeated under an
        older key is applied again.
    """

    def __init__(self, accounts: Iterable[Account] = (), *, max_entries: int = 100_000) -> None:
        self._accounts: dict[str, Account] = {}
        self._entries: dict[tuple[str, int], Entry] = {}  # by account number and entry number
        self._kept: deque[tuple[str, int]] = deque()  # their keys, the oldest first
        self._recorded: dict[tuple[str, str], Entry] = {}  # those with a key, by account number and key
        self._max_entries = max_entries
        self._process = ProcessGuard("memory:")
        self._lock = Lock()
        for account in accounts:
            self.execute_batch([Opening.of(account)])

    def get(self, account_number: str, /) -> Account:
        self._process.check()
        account = self._accounts.get(account_number)
        if account is None:
            raise AccountNotFound(account_number)
        return account

    def execute_batch(self, transactions: Sequence[Transaction], /) -> list[Account | AtmError]:
        self._process.check()
        numbers = {transaction.account_number for transaction in transactions}
        with self._lock:
            accounts = {number: self._accounts[number] for number in numbers if number in self._accounts}
            outcomes, entries = decide(transactions, accounts, self._recorded, datetime.now(UTC))
            for entry in entries:
                self._record(entry)
        return outcomes

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        self._process.check()  # before the lock, which another thread may have held when a process was forked
        with self._lock:
            last = self.get(account_number).last_entry
            # The first entry that is still kept. All that follow it are kept, too.
            first = bisect_left(range(last + 1), True, key=lambda number: (account_number, number) in self._entries)
            if after is None:
                numbers = range(last if before is None else min(last, before - 1), first - 1, -1)
            else:
                numbers = range(max(first, after + 1), last + 1)
            entries = [self._entries[account_number, number] for number in numbers[:limit]]
        return Page(entries, has_more=len(numbers) > limit)

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        self._process.check()
        with self._lock:
            numbers = nsmallest(limit, (number for number in self._accounts if number > after))
            return [self._accounts[number] for number in numbers]

    def durability(self) -> Durability:
        return Durability("memory", durable=False, settings={"kept_until": "the process ends"})

    def close(self) -> None:
        """Do nothing. Every store can be closed."""

    def _record(self, entry: Entry) -> None:
        transaction, account, _ = entry
        place = account.account_number, account.last_entry
        self._accounts[account.account_number] = account
        self._entries[place] = entry
        self._kept.append(place)
        if transaction.key is not None:
            self._recorded[account.account_number, transaction.key] = entry
        if len(self._kept) > self._max_entries:
            forgotten = self._entries.pop(self._kept.popleft()).transaction
            if forgotten.key is not None:
                del self._recorded[forgotten.account_number, forgotten.key]
