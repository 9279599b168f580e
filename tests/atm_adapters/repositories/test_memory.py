"""InMemoryAccountRepository beyond the contract: the bound on remembered keys."""

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, IdempotencyKeyReused, deposit


def test_only_the_most_recent_keys_are_remembered() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], remembered_keys=2)
    for key in ("first", "second", "third"):
        deposit(accounts, "0", 1, key)

    assert deposit(accounts, "0", 1, "second").balance == 2
    assert deposit(accounts, "0", 1, "third").balance == 3
    with pytest.raises(IdempotencyKeyReused):
        deposit(accounts, "0", 2, "third")
    assert deposit(accounts, "0", 2, "first").balance == 5


def test_transactions_without_a_key_displace_no_remembered_key() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], remembered_keys=1)
    deposit(accounts, "0", 1, "key")
    for _ in range(10):
        deposit(accounts, "0", 1)
    assert deposit(accounts, "0", 1, "key").balance == 1
