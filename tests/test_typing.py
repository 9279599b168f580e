"""Calls that a strict type checker must accept or reject. mypy reads this file (``nox -s types``).

Each ignore below is an assertion: ``warn_unused_ignores`` reports it if mypy accepts the call.
"""

from atm_adapters.front_ends.http.app import create_app
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, deposit

BLOCKING = InMemoryAccountRepository([Account("0", 1000)])
AWAITABLE = InlineBridge(BLOCKING)


def test_use_case_returns_the_result_type_of_the_repository() -> None:
    account: Account = deposit(BLOCKING, "0", 1)
    assert account.balance == 1001


async def accepted_and_rejected_calls() -> None:
    deposit(BLOCKING, "0", 1.5)  # type: ignore[arg-type]
    create_app(BLOCKING)  # type: ignore[arg-type]
    create_app(AWAITABLE)
    account: Account = await deposit(AWAITABLE, "0", 1)
    account = deposit(AWAITABLE, "0", 1)  # type: ignore[assignment]
    assert account.balance == 1
