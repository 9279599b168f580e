"""How long what a store answered lasts, as the store itself says; what was configured may not be what is in force."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Durability:
    """How long what a store answered lasts.

    ``store`` is its kind, such as ``sqlite``. ``durable`` says whether its settings keep what was answered
    through a power cut, as far as the disk keeps what it says it wrote. ``settings`` are the settings that
    decide, by the store's own names, as read back from it.
    """

    store: str
    durable: bool
    settings: Mapping[str, str]


@runtime_checkable
class TellsDurability(Protocol):
    """A repository for callers that block, and that knows how durable it is. None of the port's, for not all do."""

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
