"""Ctrl-C and SIGTERM while a command changes an account.

Before the store is called, they end the command, and nothing was changed. During the call they make the outcome
unknown. After it they are ignored, so that the answer is printed.
"""

import signal

from atm_core import Account, OutcomeUnknown, Page, Transaction
from atm_core.ports import Store


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
        is_under_way = True

        def interrupt(*_: object) -> None:
            if is_under_way:
                raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and shells set it for background jobs
                signal.signal(number, interrupt)
        try:
            try:
                return self._store.execute(transaction)
            finally:  # without a call before it, so a second signal cannot come in between
                is_under_way = False
        except KeyboardInterrupt as error:
            raise OutcomeUnknown(self._name, "it was interrupted", advice) from error
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.store, error.reason, advice) from error

    def close(self) -> None:
        self._store.close()
