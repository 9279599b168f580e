"""The part of the repository contract that is about concurrent callers."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from threading import Barrier
from typing import ClassVar, TypeVar

from atm_adapters.conformance.repository_history import Accounts
from atm_core import (
    Account,
    AccountAlreadyExists,
    AtmError,
    InsufficientFunds,
    deposit,
    get_account,
    open_account,
    withdraw,
)

T = TypeVar("T")


class ConcurrencyContract:
    """Tests with several threads for every ``AccountRepository[Account]``."""

    threads: ClassVar[int] = 8
    transactions_per_thread: ClassVar[int] = 250

    def test_concurrent_transactions_on_one_account_all_count(self, accounts: Accounts) -> None:
        per_thread = self.transactions_per_thread

        def client(number: int) -> list[Decimal]:
            use_case = withdraw if number == 0 else deposit
            return [use_case(accounts, "0", "0.01").balance for _ in range(per_thread)]

        answers = _run_together([lambda n=n: client(n) for n in range(self.threads)])  # type: ignore[misc]
        change = Decimal("0.01") * per_thread * (self.threads - 2)
        assert get_account(accounts, "0").balance == 1000 + change
        assert sum(map(len, answers)) == per_thread * self.threads

    def test_concurrent_deposits_return_distinct_balances(self, accounts: Accounts) -> None:
        def client() -> list[Decimal]:
            return [deposit(accounts, "0", "0.01").balance for _ in range(self.transactions_per_thread)]

        answers = [balance for balances in _run_together([client] * self.threads) for balance in balances]
        cents = range(1, self.threads * self.transactions_per_thread + 1)
        assert sorted(answers) == [1000 + Decimal(cent) / 100 for cent in cents]

    def test_concurrent_transactions_with_one_key_move_money_once(self, accounts: Accounts) -> None:
        for attempt in range(20):
            key = f"attempt-{attempt}"
            answers = _run_together([lambda key=key: deposit(accounts, "0", 1, key)] * self.threads)  # type: ignore[misc]
            assert answers == [Account("0", 1001 + attempt)] * self.threads

    def test_concurrent_withdrawals_never_exceed_the_limit(self, accounts: Accounts) -> None:
        open_account(accounts, "2", 100, 0)
        attempts = 100 // 7 // self.threads + 2

        def client() -> list[Decimal | AtmError]:
            return [_outcome(lambda: withdraw(accounts, "2", 7).balance) for _ in range(attempts)]

        outcomes = [outcome for outcomes in _run_together([client] * self.threads) for outcome in outcomes]
        balances = [outcome for outcome in outcomes if isinstance(outcome, Decimal)]
        refusals = [outcome for outcome in outcomes if not isinstance(outcome, Decimal)]
        assert sorted(balances) == list(range(2, 100, 7))
        assert {type(refusal) for refusal in refusals} == {InsufficientFunds}
        assert {str(refusal) for refusal in refusals} == {str(InsufficientFunds("2", Decimal("2.00")))}
        assert get_account(accounts, "2").balance == 2

    def test_concurrent_openings_of_one_number_have_one_winner(self, accounts: Accounts) -> None:
        for number in ("a", "b", "c", "d", "e"):
            openings = [partial(open_account, accounts, number, balance) for balance in range(self.threads)]
            outcomes = _run_together([partial(_outcome, opening) for opening in openings])
            (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Account)]
            assert get_account(accounts, number) == winner
            assert {type(outcome) for outcome in outcomes} == {Account, AccountAlreadyExists}

    def test_concurrent_openings_under_one_key_get_one_answer(self, accounts: Accounts) -> None:
        for number in ("a", "b", "c", "d", "e"):
            opening = partial(open_account, accounts, number, 5, 10, 20, "key", "note")
            assert _run_together([opening] * self.threads) == [Account(number, 5, 10, 20)] * self.threads
            assert get_account(accounts, number).last_entry == 1

    def test_later_reads_see_every_answered_transaction(self, accounts: Accounts) -> None:
        def client() -> None:
            for _ in range(self.transactions_per_thread // 5):
                balance = deposit(accounts, "0", "0.01").balance
                assert get_account(accounts, "0").balance >= balance

        _run_together([client] * self.threads)


def _outcome(call: Callable[[], T]) -> T | AtmError:
    """Return the result of a call, or its refusal."""
    try:
        return call()
    except AtmError as refusal:
        return refusal


def _run_together(calls: list[Callable[[], T]]) -> list[T]:
    """Run each call in its own thread, start them at the same moment, and return their results in order."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(timeout=60)
        return call()

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Python switches threads every 5 ms otherwise, too rarely to lose an update
    try:
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(run, calls))
    finally:
        sys.setswitchinterval(usual)
