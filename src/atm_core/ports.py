"""The ports: every protocol that adapters implement.

The docstrings are the contract. ``atm_adapters.conformance.repository`` tests it.
"""

from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from atm_core.account import Account
from atm_core.audit import AuditedAccount
from atm_core.errors import AtmError
from atm_core.transaction import Entry, Transaction

Out_co = TypeVar("Out_co", covariant=True)
PageOut_co = TypeVar("PageOut_co", covariant=True)

GRACE_SECONDS: Final = 5
"""How long work under way may take at shutdown: requests, and then the calls of a store that closes."""


class AccountRepository(Protocol[Out_co]):
    """Keeps accounts, in memory or elsewhere.

    ``Out_co`` is the result type: calls on an ``AccountRepository[Account]`` block, calls on an
    ``AccountRepository[Awaitable[Account]]`` are for event loops. A refusal is raised instead of returning
    the account, either by the call or when its result is awaited.

    Every method may raise :class:`~atm_core.errors.StoreUnavailable` or
    :class:`~atm_core.errors.Overloaded`. Nothing was changed then.
    """

    def get(self, account_number: str, /) -> Out_co:
        """Return the account. Every transaction that was answered before this call began is visible.

        :raises AccountNotFound: if there is no such account.
        """
        ...

    def execute(self, transaction: Transaction, /) -> Out_co:
        """Execute a transaction, and return the account after it.

        Atomic: each transaction on an account starts from the state that the one before it left, across all threads
        and processes.

        Once: if the account's journal has the same transaction under the same key, nothing changes and the first
        answer is returned, also if the account has changed since. Key and change are written in one commit. A refused
        transaction leaves no trace, so it may be corrected and repeated with its key.

        :raises IdempotencyKeyReused: if the key was used on this account for another transaction.
        :raises AtmError: the refusal of the transaction's ``apply``, such as ``AccountNotFound``.
        :raises OutcomeUnknown: if it is not known whether the commit succeeded.
        """
        ...


class Page(NamedTuple):
    """A part of an account's history.

    ``entries`` are in the order that was asked for. ``has_more`` says whether further entries follow in that order.
    """

    entries: Sequence[Entry]
    has_more: bool


@runtime_checkable
class AccountHistory(Protocol[PageOut_co]):
    """Reads the entries of an account. ``PageOut_co`` is ``Page`` for blocking callers, or an awaitable of it."""

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> PageOut_co:
        """Return a page of the account's entries.

        A memory store forgets its oldest entries. Every other store returns each entry exactly once to a caller who
        continues with the number of the last entry that it got, also while further entries are recorded.

        :param before: return entries with smaller numbers than this, or the newest if it is None, the newest first.
        :param after: return entries with larger numbers than this instead, the oldest first. At most one of both is
            given.
        :param limit: the largest number of entries to return, 1 or more.
        :raises AccountNotFound: if there is no such account.
        :raises StoreUnavailable: if the store cannot be read.
        """
        ...


class Store(AccountRepository[Account], AccountHistory[Page], Protocol):
    """A blocking repository with history that can be closed, and that closes at the end of a ``with`` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release all resources. A call that hangs in another thread should fail then."""
        ...


class AsyncStore(AccountRepository[Coroutine[Any, Any, Account]], AccountHistory[Coroutine[Any, Any, Page]], Protocol):
    """The same for an event loop, for ``async with``. Its calls are coroutines, so they can become tasks."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish the calls that were accepted, then release all resources."""
        ...


@runtime_checkable
class BatchRepository(Store, Protocol):
    """A repository that can execute many transactions with one commit."""

    def execute_batch(self, transactions: Sequence[Transaction], /) -> Sequence[Account | AtmError]:
        """Execute transactions in their order. A refusal is returned as an outcome and does not affect the others.

        :returns: for each transaction, the account after it or the refusal.
        :raises StoreUnavailable: if nothing was committed.
        :raises OutcomeUnknown: if it is not known whether the commit succeeded.
        """
        ...

    def execute(self, transaction: Transaction, /) -> Account:
        """Execute a batch of one."""
        (outcome,) = self.execute_batch([transaction])
        if isinstance(outcome, AtmError):
            raise outcome
        return outcome


@runtime_checkable
class ListableStore(Store, Protocol):
    """A store that can list its accounts. Clients of the HTTP API cannot ask for the list."""

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        """Return the accounts that follow an account number, in the store's text order.

        The store holds nothing open between two calls, so a slow reader delays no other caller.

        :param after: the last account number of the previous page, or "" for the first page.
        :param limit: the largest number of accounts to return. Fewer are returned only at the end.
        """
        ...


@runtime_checkable
class AuditableStore(ListableStore, Protocol):
    """A store with a journal that can be compared with the balances."""

    def count_accounts(self) -> int:
        """Return the number of accounts."""
        ...

    def audit(self) -> Generator[AuditedAccount, None, None]:
        """Compare each account with its journal, both as of one moment, without changing anything.

        :returns: the finding for every account, and for every account number that has entries but no account, in
            the order of account numbers. An entry with a key that an earlier entry of its account has is a mismatch.
            Memory use does not depend on the number of accounts and entries.
        :raises StoreUnavailable: if the store cannot be read, or reports that it is damaged.
        """
        ...


@runtime_checkable
class PortableStore(Store, Protocol):
    """A store whose journal can be copied to another store, with every fact: keys, limits, notes and times."""

    def count_entries(self) -> int:
        """Return the number of entries in the journal."""
        ...

    def export_entries(self, account_number: str | None = None, /) -> Generator[Entry, None, None]:
        """Read the journal as of one moment, while other callers write.

        Memory use does not depend on the number of entries.

        :param account_number: read the entries of this account only.
        :returns: the entries, ordered by account number (by code points, not by the store's text order) and entry
            number. Two stores with equal journals return equal entries.
        :raises AccountNotFound: if an account is named and does not exist.
        :raises StoreUnavailable: if the store cannot be read.
        """
        ...

    def import_entries(self, entries: Iterable[Entry], /) -> None:
        """Fill the store, which must have no accounts, with a journal. All entries are one commit.

        Memory use does not depend on the number of entries. An exception that ``entries`` raises leaves the store
        empty.

        :param entries: as :func:`~atm_core.audit.replayed` yields them.
        :raises StoreNotEmpty: if the store has an account.
        :raises InconsistentJournal: if two entries of an account have the same key.
        :raises StoreUnavailable: if nothing was committed.
        :raises OutcomeUnknown: if it is not known whether the commit succeeded.
        """
        ...


@runtime_checkable
class BackupStore(AuditableStore, Protocol):
    """A store that can be copied to a file while it is in use."""

    def back_up(self, file: str, /, *, replace: bool = False) -> AbstractContextManager[AuditableStore]:
        """Copy the store, as of one moment, to a file that this store's user alone can read.

        The block receives the copy, opened under a temporary name in a folder next to the file, and may check it. The
        copy gets its name at the end of the block, when it is on disk. If the block raises, the copy is deleted.

        :param replace: replace a file with that name.
        :raises StoreUnavailable: if the copy cannot be written, or if there is a file with that name that must not be
            replaced.
        """
        ...


@dataclass(frozen=True)
class Durability:
    """Whether answered transactions survive a power cut, and the settings that decide it.

    ``store`` is the kind of store, such as ``sqlite``. ``durable`` assumes that the disk keeps its own
    promises. ``settings`` are the deciding settings, with the store's names for them, as read back from it.
    """

    store: str
    durable: bool
    settings: Mapping[str, str]


@runtime_checkable
class ReportsDurability(Protocol[Out_co]):
    """A repository that reports its durability.

    ``Out_co`` is ``Durability`` for blocking callers, or an awaitable of it. None means that it is not known.
    """

    def durability(self) -> Out_co:
        """Read the settings from a connection that writes.

        :raises StoreUnavailable: if the store does not answer.
        """
        ...


class CommitObserver(Protocol):
    """Receives the events of group commit, in the thread where they occur. It must not block."""

    def waiting(self, transactions: int, /) -> None:
        """Note the number of transactions that wait for the next commit."""
        ...

    def committed(self, transactions: int, seconds: float, /) -> None:
        """Note a commit, successful or not: the number of its transactions, and how long it took."""
        ...
