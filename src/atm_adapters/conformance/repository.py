"""The contract of ``AccountRepository`` as tests for any repository.

Subclass :class:`RepositoryContract` in a test module, implement ``new_repository``, and run pytest. For a
repository with ``execute_batch``, subclass :class:`BatchRepositoryContract` instead. This module needs the
packages hypothesis and pytest.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from threading import Barrier
from typing import ClassVar, TypeAlias, TypeVar

try:
    import pytest
    from hypothesis import HealthCheck, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
except ImportError as error:
    raise ImportError(
        "atm_adapters.conformance.repository needs more packages; install them with: pip install hypothesis pytest"
    ) from error

from atm_core import MAX_MONEY, Account, AccountRepository, Transaction, TransactionKind
from atm_core.errors import AccountAlreadyExists, AccountNotFound, AtmError, BalanceOutOfRange, IdempotencyKeyReused
from atm_core.ports import BatchRepository
from atm_core.use_cases import deposit, get_account, open_account, withdraw

T = TypeVar("T")
Accounts: TypeAlias = AccountRepository[Account]


class RepositoryContract(ABC):
    """Tests for every ``AccountRepository[Account]``."""

    threads: ClassVar[int] = 8
    transactions_per_thread: ClassVar[int] = 250
    stateful_examples: ClassVar[int] = 25
    """The number of sequences of up to 50 random calls whose results are compared with a plain model."""

    @abstractmethod
    def new_repository(self) -> AbstractContextManager[Accounts]:
        """Yield an empty repository, and clean up after it."""

    @pytest.fixture
    def accounts(self) -> Iterator[Accounts]:
        """A repository with the accounts "0" and "1", which hold 1000.00 each."""
        with self.new_repository() as accounts:
            open_account(accounts, "0", 1000)
            open_account(accounts, "1", 1000)
            yield accounts

    def test_opened_account_has_its_opening_balance(self, accounts: Accounts) -> None:
        opened = open_account(accounts, "Savings_2-b", "-12.5")
        assert opened == get_account(accounts, "Savings_2-b") == Account("Savings_2-b", "-12.50")
        assert str(opened.balance) == str(get_account(accounts, "Savings_2-b").balance) == "-12.50"

    def test_account_numbers_are_case_sensitive(self, accounts: Accounts) -> None:
        open_account(accounts, "a", 1)
        open_account(accounts, "A", 2)
        assert get_account(accounts, "a").balance == 1

    def test_taken_account_number_is_refused_and_changes_nothing(self, accounts: Accounts) -> None:
        with pytest.raises(AccountAlreadyExists) as refusal:
            open_account(accounts, "0", 5)
        assert refusal.value.account_number == "0"
        assert get_account(accounts, "0").balance == 1000

    def test_every_call_refuses_an_unknown_account(self, accounts: Accounts) -> None:
        transactions = [Transaction("2", "deposit", 1), Transaction("2", "withdrawal", 1, "key")]
        calls = [partial(get_account, accounts, "2"), *(partial(accounts.execute, each) for each in transactions)]
        for call in calls:
            with pytest.raises(AccountNotFound) as refusal:
                call()
            assert refusal.value.account_number == "2"

    def test_deposit_and_withdrawal_return_the_new_balance(self, accounts: Accounts) -> None:
        assert deposit(accounts, "0", 100) == Account("0", 1100)
        assert withdraw(accounts, "0", "50.25") == Account("0", "1049.75")
        assert get_account(accounts, "0") == Account("0", "1049.75")
        assert get_account(accounts, "1") == Account("1", 1000)

    def test_account_may_be_overdrawn(self, accounts: Accounts) -> None:
        assert str(withdraw(accounts, "0", "1000.01").balance) == "-0.01"
        assert str(deposit(accounts, "0", "0.01").balance) == "0.00"

    def test_cents_are_exact_at_both_ends_of_the_range(self, accounts: Accounts) -> None:
        for _ in range(3):
            deposit(accounts, "0", "0.10")
        assert str(get_account(accounts, "0").balance) == "1000.30"
        open_account(accounts, "rich", MAX_MONEY - Decimal("0.01"))
        assert str(deposit(accounts, "rich", "0.01").balance) == "9999999999999.99"
        open_account(accounts, "poor", Decimal("0.01") - MAX_MONEY)
        assert str(withdraw(accounts, "poor", "0.01").balance) == "-9999999999999.99"
        assert str(get_account(accounts, "poor").balance) == "-9999999999999.99"

    def test_balance_out_of_range_is_refused_and_changes_nothing(self, accounts: Accounts) -> None:
        open_account(accounts, "rich", MAX_MONEY)
        with pytest.raises(BalanceOutOfRange) as refusal:
            deposit(accounts, "rich", "0.01", "key")
        assert (refusal.value.account_number, refusal.value.limit) == ("rich", MAX_MONEY)
        assert get_account(accounts, "rich").balance == MAX_MONEY

    def test_repeated_key_moves_money_once(self, accounts: Accounts) -> None:
        first = deposit(accounts, "0", 100, "key")
        withdraw(accounts, "0", 7)
        assert deposit(accounts, "0", "100.00", "key") == first == Account("0", 1100)
        assert get_account(accounts, "0").balance == 1093

    def test_repeated_transaction_without_a_key_counts_each_time(self, accounts: Accounts) -> None:
        deposit(accounts, "0", 100)
        assert deposit(accounts, "0", 100).balance == 1200

    def test_key_of_another_transaction_is_refused_and_changes_nothing(self, accounts: Accounts) -> None:
        deposit(accounts, "0", 100, "key")
        others: list[tuple[TransactionKind, str]] = [("deposit", "100.01"), ("withdrawal", "100")]
        for kind, amount in others:
            with pytest.raises(IdempotencyKeyReused) as refusal:
                accounts.execute(Transaction("0", kind, amount, "key"))
            assert (refusal.value.account_number, refusal.value.key) == ("0", "key")
        assert get_account(accounts, "0").balance == 1100

    def test_keys_are_scoped_to_their_account(self, accounts: Accounts) -> None:
        deposit(accounts, "0", 100, "key")
        assert withdraw(accounts, "1", 7, "key").balance == 993

    def test_keys_are_compared_character_by_character(self, accounts: Accounts) -> None:
        for key in ("key", "Key", " key", "key ", '"key"', "k" * 255, "%_'", "\\"):
            deposit(accounts, "0", 1, key)
        assert get_account(accounts, "0").balance == 1008

    def test_refused_transaction_leaves_its_key_free(self, accounts: Accounts) -> None:
        with pytest.raises(BalanceOutOfRange):
            deposit(accounts, "0", MAX_MONEY, "key")
        with pytest.raises(AccountNotFound):
            deposit(accounts, "2", 1, "key")
        open_account(accounts, "2")
        assert deposit(accounts, "0", 100, "key").balance == 1100
        assert deposit(accounts, "2", 2, "key").balance == 2

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

    def test_later_reads_see_every_answered_transaction(self, accounts: Accounts) -> None:
        def client() -> None:
            for _ in range(self.transactions_per_thread // 5):
                balance = deposit(accounts, "0", "0.01").balance
                assert get_account(accounts, "0").balance >= balance

        _run_together([client] * self.threads)

    def test_random_calls_agree_with_a_plain_model(self) -> None:
        class Comparison(_ModelComparison):
            new_repository = staticmethod(self.new_repository)

        run_state_machine_as_test(
            Comparison,
            settings=settings(
                max_examples=self.stateful_examples,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),  # creating a store on disk is slow
            ),
        )


class BatchRepositoryContract(RepositoryContract):
    """Tests for every repository with ``execute_batch``: all of the above, and batches."""

    @abstractmethod
    def new_repository(self) -> AbstractContextManager[BatchRepository]:
        """Yield an empty repository, and clean up after it."""

    def test_batch_is_executed_in_order(self, accounts: BatchRepository) -> None:
        outcomes = accounts.execute_batch(
            [Transaction("0", "deposit", 5), Transaction("1", "withdrawal", 1), Transaction("0", "withdrawal", 2000)]
        )
        assert outcomes == [Account("0", 1005), Account("1", 999), Account("0", -995)]
        assert get_account(accounts, "0").balance == -995

    def test_refusal_in_a_batch_does_not_affect_the_others(self, accounts: BatchRepository) -> None:
        outcomes = accounts.execute_batch(
            [
                Transaction("0", "deposit", 1, "key"),
                Transaction("2", "deposit", 1),
                Transaction("0", "deposit", 2, "key"),
                Transaction("0", "deposit", MAX_MONEY),
                Transaction("0", "deposit", 3),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            Account,
            AccountNotFound,
            IdempotencyKeyReused,
            BalanceOutOfRange,
            Account,
        ]
        assert get_account(accounts, "0").balance == 1004

    def test_key_counts_once_within_and_between_batches(self, accounts: BatchRepository) -> None:
        twice = [Transaction("0", "deposit", 1, "key")] * 2
        assert accounts.execute_batch(twice) == accounts.execute_batch(twice) == [Account("0", 1001)] * 2
        assert get_account(accounts, "0").balance == 1001

    def test_batch_may_be_empty_or_large(self, accounts: BatchRepository) -> None:
        assert list(accounts.execute_batch([])) == []
        batch = [Transaction(str(n % 2), "deposit", "0.01", f"key-{n}") for n in range(5000)]
        assert len(accounts.execute_batch(batch)) == 5000
        assert get_account(accounts, "0").balance == get_account(accounts, "1").balance == 1025


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


_account_numbers = st.sampled_from(["0", "1", "opened-later", "never_opened"])
_cents = st.one_of(st.integers(1, 100_000), st.integers(1, int(MAX_MONEY * 100)))
_keys = st.one_of(st.none(), st.sampled_from(["a", "b", "c"]))
_kinds: st.SearchStrategy[TransactionKind] = st.sampled_from(["deposit", "withdrawal"])


@dataclass
class _ModelAccount:
    """The model of an account: its balance in cents, and for each key the kind, the cents and the balance after."""

    cents: int
    recorded: dict[str, tuple[TransactionKind, int, int]]


class _ModelComparison(RuleBasedStateMachine):
    """Random calls whose results are compared with those of the model."""

    new_repository: Callable[[], AbstractContextManager[Accounts]]

    def __init__(self) -> None:
        super().__init__()
        self._cleanup = ExitStack()
        self._accounts = self._cleanup.enter_context(self.new_repository())
        self._model: dict[str, _ModelAccount] = {}

    def teardown(self) -> None:
        self._cleanup.close()

    @initialize()
    def open_two_accounts(self) -> None:
        for number in ("0", "1"):
            open_account(self._accounts, number, 1000)
            self._model[number] = _ModelAccount(100_000, {})

    @rule(number=_account_numbers.filter(lambda number: number != "never_opened"), cents=_cents, negative=st.booleans())
    def open(self, number: str, cents: int, negative: bool) -> None:
        opening = -cents if negative else cents
        expected: object = AccountAlreadyExists
        if number not in self._model:
            self._model[number] = _ModelAccount(opening, {})
            expected = _money(opening)
        self._check(lambda: open_account(self._accounts, number, _money(opening)), expected)

    @rule(kind=_kinds, number=_account_numbers, cents=_cents, key=_keys)
    def transact(self, kind: TransactionKind, number: str, cents: int, key: str | None) -> None:
        use_case = deposit if kind == "deposit" else withdraw
        self._check(
            lambda: use_case(self._accounts, number, _money(cents), key), self._expected(kind, number, cents, key)
        )

    @rule(number=_account_numbers)
    def read(self, number: str) -> None:
        expected = _money(self._model[number].cents) if number in self._model else AccountNotFound
        self._check(lambda: get_account(self._accounts, number), expected)

    @invariant()
    def balances_agree(self) -> None:
        for number, account in self._model.items():
            assert get_account(self._accounts, number) == Account(number, _money(account.cents))

    def _expected(self, kind: TransactionKind, number: str, cents: int, key: str | None) -> object:
        account = self._model.get(number)
        if account is None:
            return AccountNotFound
        if key is not None and key in account.recorded:
            first_kind, first_cents, balance = account.recorded[key]
            return _money(balance) if (first_kind, first_cents) == (kind, cents) else IdempotencyKeyReused
        after = account.cents + (cents if kind == "deposit" else -cents)
        if abs(after) > MAX_MONEY * 100:
            return BalanceOutOfRange
        account.cents = after
        if key is not None:
            account.recorded[key] = (kind, cents, after)
        return _money(after)

    def _check(self, call: Callable[[], Account], expected: object) -> None:
        try:
            outcome: object = call().balance
        except AtmError as refusal:
            outcome = type(refusal)
        assert outcome == expected


def _money(cents: int) -> Decimal:
    return Decimal(cents) / 100
