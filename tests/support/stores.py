"""Stores with the accounts that a store in memory and the default file begin with."""

from pathlib import Path

from atm_adapters.bootstrap import DEMO_ACCOUNTS, open_store
from atm_core import Opening
from atm_core.ports import BatchRepository


def demo_store(url: str | Path) -> str:
    """Create a store with the accounts "0" and "1", as ``atm init --demo`` does, and return its URL.

    A store and accounts that exist are kept.
    """
    with open_store(str(url), create=True) as store:
        assert isinstance(store, BatchRepository)
        store.execute_batch([Opening.of(account) for account in DEMO_ACCOUNTS])
    return str(url)
