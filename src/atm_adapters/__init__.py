"""The adapters of Mini-ATM: front ends that drive the core, and repositories that the core drives."""

from atm_adapters.bootstrap import open_async_store, open_store, open_threaded_store

__all__ = ["open_async_store", "open_store", "open_threaded_store"]
