"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) while a command changes a store.

Before the store is called, they end the command, and nothing was changed. During the call they make the outcome
unknown. After it they are ignored, so that the answer is printed.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from atm_adapters.front_ends.cli.output import fail
from atm_core import Account, Entry, OutcomeUnknown, Page, Transaction
from atm_core.ports import PortableStore, Store

_Result = TypeVar("_Result")

INTERRUPTED = 130
"""The exit code of a command that was interrupted and changed nothing."""


def run_interruptibly(call: Callable[[], _Result]) -> _Result:
    """Call a function. These signals raise ``KeyboardInterrupt`` until it ends, and are ignored after it."""
    is_under_way = True

    def interrupt(*_: object) -> None:
        if is_under_way:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and shells set it for background jobs
            signal.signal(number, interrupt)
    try:
        return call()
    finally:  # without a call before it, so a second signal cannot come in between
        is_under_way = False


def import_interruptibly(store: PortableStore, entries: Iterable[Entry], name: str) -> None:
    """Fill a store with a journal. An interruption is reported.

    :param name: the store's name in error messages, without a password.
    :raises CommandFailed: if it was interrupted before the last entry was read, so that nothing was imported.
    :raises OutcomeUnknown: if it was interrupted later.
    """
    is_read = False

    def reading() -> Iterator[Entry]:
        nonlocal is_read
        yield from entries
        is_read = True

    try:
        run_interruptibly(lambda: store.import_entries(reading()))
    except KeyboardInterrupt as error:
        if not is_read:
            fail(f"Interrupted. Nothing was imported: the store {name} is still empty.", INTERRUPTED, "interrupted")
        advice = "It is not known whether the journal was imported. Import it again: a store that has it refuses it."
        raise OutcomeUnknown(name, "it was interrupted", advice) from error


class InterruptibleStore(Store):
    """A store for one change. If the change is interrupted, ``OutcomeUnknown`` names the key to repeat it with.

    Its transaction must have a key, which the commands give to every transaction.

    :param name: the store's name in error messages, without a password.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def get(self, account_number: str, /) -> Account:
        return self._store.get(account_number)

    def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        return self._store.history(account_number, before=before, after=after, limit=limit)

    def execute(self, transaction: Transaction, /) -> Account:
        advice = OutcomeUnknown.repeat_with(str(transaction.key))
        try:
            return run_interruptibly(lambda: self._store.execute(transaction))
        except KeyboardInterrupt as error:
            raise OutcomeUnknown(self._name, "it was interrupted", advice) from error
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.store, error.reason, advice) from error

    def close(self) -> None:
        self._store.close()
