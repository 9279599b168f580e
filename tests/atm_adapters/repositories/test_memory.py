"""What the repository in memory promises beyond the contract: a bound on what it remembers."""

import pytest

from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, KeyReused, deposit


def test_it_remembers_the_most_recent_keys_and_forgets_older_ones() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], remembered_keys=2)
    for key in ("first", "second", "third"):
        deposit(accounts, "0", 1, key)

    assert deposit(accounts, "0", 1, "second").balance == 2
    assert deposit(accounts, "0", 1, "third").balance == 3
    with pytest.raises(KeyReused):
        deposit(accounts, "0", 2, "third")
    assert deposit(accounts, "0", 2, "first").balance == 5


def test_transactions_without_a_key_take_no_room_among_the_remembered_ones() -> None:
    accounts = InMemoryAccountRepository([Account("0", 0)], remembered_keys=1)
    deposit(accounts, "0", 1, "key")
    for _ in range(10):
        deposit(accounts, "0", 1)
    assert deposit(accounts, "0", 1, "key").balance == 1
