"""What a strict type checker says about the port. mypy reads this file (``nox -s types``); running it asserts little.

``warn_unused_ignores`` makes each ignore below an assertion: if the checker stopped refusing, it would complain.
"""

from atm_adapters.group_commit import Immediate
from atm_adapters.http.app import create_app
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, deposit

BLOCKING = InMemoryAccountRepository([Account("0", 1000)])
AWAITABLE = Immediate(BLOCKING)


def test_the_use_cases_give_what_the_repository_gives() -> None:
    account: Account = deposit(BLOCKING, "0", 1)
    assert account.balance == 1001


async def what_the_type_checker_says() -> None:
    deposit(BLOCKING, "0", 1.5)  # type: ignore[arg-type]
    create_app(BLOCKING)  # type: ignore[arg-type]
    create_app(AWAITABLE)
    account: Account = await deposit(AWAITABLE, "0", 1)
    account = deposit(AWAITABLE, "0", 1)  # type: ignore[assignment]
    assert account.balance == 1
