"""Helpers for tests that disturb PostgreSQL."""

import time
from collections.abc import Callable
from typing import LiteralString, TypeVar

import psycopg

from atm_core import StoreUnavailable
from support.postgres import Postgres

T = TypeVar("T")


def count_sessions(url: str, condition: LiteralString) -> int:
    """Count a server's sessions that meet a condition of SQL."""
    with psycopg.connect(url, autocommit=True) as admin:
        return len(admin.execute(f"SELECT FROM pg_stat_activity WHERE {condition}").fetchall())


def terminate_connections(postgres: Postgres) -> None:
    """Make the server drop the connections of all tests."""
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test_%'")


def once_available(call: Callable[[], T]) -> T:
    """Repeat a call until the store is available again, for up to 30 seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < deadline
