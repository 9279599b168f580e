"""A store belongs to the process that opened it.

A forked child has copies of the connections and locks of its parent, but not the threads that would release the locks.
Its calls would wait for ever or lose answered transactions.
"""

import os

from atm_core import StoreUnavailable

_forks = 0  # between the first process and this one


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_count_fork)


class ProcessGuard:
    """Rejects calls from other processes than the one that created it.

    :param store: the store's name in error messages.
    """

    def __init__(self, store: str = "of this call") -> None:
        self._store = store
        self._forks = _forks

    def check(self) -> None:
        """Check that the caller is in the same process. This takes no lock.

        :raises StoreUnavailable: if the caller is in another process.
        """
        if self._forks != _forks:  # os.getpid() would take 0.2 us, a twentieth of a deposit in memory
            raise StoreUnavailable(self._store, "it was opened in another process; open it in each process")
