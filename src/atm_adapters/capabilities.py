"""What an adapter may offer besides the port, which not all can: each is a protocol of its own."""

from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from atm_core import Account, AccountRepository, AuditedAccount


class Store(AccountRepository[Account], Protocol):
    """A repository for callers that block, and that can be closed."""

    def close(self) -> None:
        """Give back what the repository holds. A call that hangs in another thread should fail then."""
        ...


@runtime_checkable
class ListableStore(Store, Protocol):
    """A store that lists its accounts to whoever keeps it. No client can ask for that."""

    def list_accounts(self, after: str, limit: int, /) -> list[Account]:
        """Give the accounts that follow an account number, in the store's order of text; "" gives the first.

        Nothing is held between two calls, so that a reader who takes hours delays nobody.

        :param limit: how many to give at the most; fewer are given only at the end.
        """
        ...


@runtime_checkable
class AuditableStore(ListableStore, Protocol):
    """A store with a journal, which can be compared with the balances."""

    def count_accounts(self) -> int:
        """How many accounts there are."""
        ...

    def audit(self) -> Generator[AuditedAccount, None, None]:
        """Compare each balance with its journal, as both were at one moment, and change nothing.

        :returns: what was found of every account, and of each that has a journal but does not exist. It is read
            little by little; until that is finished or closed, the store keeps what is written meanwhile apart.
        :raises StoreUnavailable: if the store can't be read, or is damaged in its own terms, with what was found.
        """
        ...


class AwaitableStore(AccountRepository[Awaitable[Account]], Protocol):
    """A repository for callers on an event loop, and that can be closed."""

    async def close(self) -> None:
        """Finish what was begun and give back what the repository holds."""
        ...


@dataclass(frozen=True)
class Durability:
    """Whether what a store answered survives a power cut, and the settings that decide it.

    ``store`` is its kind, such as ``sqlite``. ``durable`` says whether its settings keep what was answered
    through a power cut, as far as the disk keeps what it says it wrote. ``settings`` are the settings that
    decide, by the store's own names, as read back from it.
    """

    store: str
    durable: bool
    settings: Mapping[str, str]


@runtime_checkable
class TellsDurability(Protocol):
    """A repository for callers that block, and that knows how durable it is."""

    def durability(self) -> Durability:
        """Ask the store, by a connection that writes.

        :raises StoreUnavailable: if it does not answer.
        """
        ...


@runtime_checkable
class TellsDurabilityAwaitably(Protocol):
    """The same for callers on an event loop."""

    def durability(self) -> Awaitable[Durability | None]:
        """Ask the store; None if it can't tell."""
        ...
