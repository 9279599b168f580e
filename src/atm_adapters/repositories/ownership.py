"""A store belongs to the process that opened it.

A forked child has copies of the connections and locks of its parent, but not the threads that would release the locks.
Its calls would wait for ever or lose answered transactions.
"""

import os
from threading import Lock
from types import TracebackType

from atm_core import StoreUnavailable


class ProcessGuard:
    """Rejects calls from other processes than the one that created it.

    :param store: the store's name in error messages.
    """

    def __init__(self, store: str = "of this call") -> None:
        self._store = store
        self._process = os.getpid()

    def check(self) -> None:
        """Check that the caller is in the same process. This takes no lock.

        :raises StoreUnavailable: if the caller is in another process.
        """
        if os.getpid() != self._process:
            raise StoreUnavailable(self._store, "it was opened in another process; open it in each process")


class ProcessLock(ProcessGuard):
    """A lock for the threads of one process.

    :raises StoreUnavailable: in a ``with`` statement of another process, instead of waiting.
    """

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self._lock = Lock()

    def __enter__(self) -> None:
        self.check()
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()
