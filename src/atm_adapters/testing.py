"""The port's contract as a test-suite, for anyone who writes a repository.

Subclass :class:`RepositoryContract` in a test module, say how to make an empty repository, and run
pytest. A repository with ``execute_batch`` takes :class:`BatchRepositoryContract` instead. Needs the
extra ``mini-atm[testing]``.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from decimal import Decimal
from threading import Barrier
from typing import ClassVar, TypeVar

try:
    import pytest
    from hypothesis import HealthCheck, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
except ImportError as error:
    raise ImportError(
        "atm_adapters.testing needs an extra; install it with: pip install 'mini-atm[testing]'"
    ) from error

from atm_adapters.group_commit import BatchRepository
from atm_core import (
    LARGEST_SUM,
    Account,
    AccountAlreadyExists,
    AccountNotFound,
    AccountRepository,
    AtmError,
    BalanceOutOfRange,
    KeyReused,
    Kind,
    Transaction,
    check_balance,
    deposit,
    open_account,
    withdraw,
)

T = TypeVar("T")


class RepositoryContract(ABC):
    """What every ``AccountRepository[Account]`` promises."""

    threads: ClassVar[int] = 8
    transactions_per_thread: ClassVar[int] = 250
    stateful_examples: ClassVar[int] = 25
    """How many sequences of up to 50 random steps are compared with a plain model."""

    @abstractmethod
    def new_repository(self) -> AbstractContextManager[AccountRepository[Account]]:
        """Make an empty repository, and clean up after it."""

    @pytest.fixture
    def accounts(self) -> Iterator[AccountRepository[Account]]:
        """A repository with the accounts "0" and "1", and 1000.00 in each."""
        with self.new_repository() as accounts:
            open_account(accounts, "0", 1000)
            open_account(accounts, "1", 1000)
            yield accounts

    def test_an_opened_account_is_found_with_its_opening_balance(self, accounts: AccountRepository[Account]) -> None:
        opened = open_account(accounts, "Savings_2-b", "-12.5")
        assert opened == check_balance(accounts, "Savings_2-b") == Account("Savings_2-b", "-12.50")
        assert str(opened.balance) == str(check_balance(accounts, "Savings_2-b").balance) == "-12.50"

    def test_account_numbers_that_differ_in_case_only_are_different(self, accounts: AccountRepository[Account]) -> None:
        open_account(accounts, "a", 1)
        open_account(accounts, "A", 2)
        assert check_balance(accounts, "a").balance == 1

    def test_opening_an_account_under_a_taken_number_is_refused_and_changes_nothing(
        self, accounts: AccountRepository[Account]
    ) -> None:
        with pytest.raises(AccountAlreadyExists) as refusal:
            open_account(accounts, "0", 5)
        assert refusal.value.account_number == "0"
        assert check_balance(accounts, "0").balance == 1000

    def test_an_unknown_account_is_refused_by_every_call(self, accounts: AccountRepository[Account]) -> None:
        calls: list[Callable[[], Account]] = [
            lambda: check_balance(accounts, "2"),
            lambda: deposit(accounts, "2", 1),
            lambda: withdraw(accounts, "2", 1, "key"),
        ]
        for call in calls:
            with pytest.raises(AccountNotFound) as refusal:
                call()
            assert refusal.value.account_number == "2"

    def test_deposits_and_withdrawals_answer_the_account_as_it_then_stands(
        self, accounts: AccountRepository[Account]
    ) -> None:
        assert deposit(accounts, "0", 100) == Account("0", 1100)
        assert withdraw(accounts, "0", "50.25") == Account("0", "1049.75")
        assert check_balance(accounts, "0") == Account("0", "1049.75")
        assert check_balance(accounts, "1") == Account("1", 1000)

    def test_an_account_may_be_overdrawn(self, accounts: AccountRepository[Account]) -> None:
        assert str(withdraw(accounts, "0", "1000.01").balance) == "-0.01"
        assert str(deposit(accounts, "0", "0.01").balance) == "0.00"

    def test_cents_are_exact_at_both_ends_of_the_range(self, accounts: AccountRepository[Account]) -> None:
        for _ in range(3):
            deposit(accounts, "0", "0.10")
        assert str(check_balance(accounts, "0").balance) == "1000.30"
        open_account(accounts, "rich", LARGEST_SUM - Decimal("0.01"))
        assert str(deposit(accounts, "rich", "0.01").balance) == "9999999999999.99"
        open_account(accounts, "poor", Decimal("0.01") - LARGEST_SUM)
        assert str(withdraw(accounts, "poor", "0.01").balance) == "-9999999999999.99"
        assert str(check_balance(accounts, "poor").balance) == "-9999999999999.99"

    def test_a_balance_out_of_range_is_refused_and_changes_nothing(self, accounts: AccountRepository[Account]) -> None:
        open_account(accounts, "rich", LARGEST_SUM)
        with pytest.raises(BalanceOutOfRange) as refusal:
            deposit(accounts, "rich", "0.01", "key")
        assert (refusal.value.account_number, refusal.value.limit) == ("rich", LARGEST_SUM)
        assert check_balance(accounts, "rich").balance == LARGEST_SUM

    def test_the_same_transaction_under_the_same_key_moves_money_once(
        self, accounts: AccountRepository[Account]
    ) -> None:
        first = deposit(accounts, "0", 100, "key")
        withdraw(accounts, "0", 7)
        assert deposit(accounts, "0", "100.00", "key") == first == Account("0", 1100)
        assert check_balance(accounts, "0").balance == 1093

    def test_without_a_key_the_same_transaction_counts_every_time(self, accounts: AccountRepository[Account]) -> None:
        deposit(accounts, "0", 100)
        assert deposit(accounts, "0", 100).balance == 1200

    def test_a_key_reused_for_another_transaction_is_refused_and_changes_nothing(
        self, accounts: AccountRepository[Account]
    ) -> None:
        deposit(accounts, "0", 100, "key")
        others: list[tuple[Kind, str]] = [("deposit", "100.01"), ("withdrawal", "100")]
        for kind, amount in others:
            with pytest.raises(KeyReused) as refusal:
                accounts.execute(Transaction("0", kind, amount, "key"))
            assert (refusal.value.account_number, refusal.value.key) == ("0", "key")
        assert check_balance(accounts, "0").balance == 1100

    def test_keys_of_different_accounts_have_nothing_to_do_with_each_other(
        self, accounts: AccountRepository[Account]
    ) -> None:
        deposit(accounts, "0", 100, "key")
        assert withdraw(accounts, "1", 7, "key").balance == 993

    def test_keys_are_compared_to_the_letter(self, accounts: AccountRepository[Account]) -> None:
        for key in ("key", "Key", " key", "key ", '"key"', "k" * 255, "%_'", "\\"):
            deposit(accounts, "0", 1, key)
        assert check_balance(accounts, "0").balance == 1008

    def test_a_refused_transaction_leaves_its_key_free(self, accounts: AccountRepository[Account]) -> None:
        with pytest.raises(BalanceOutOfRange):
            deposit(accounts, "0", LARGEST_SUM, "key")
        with pytest.raises(AccountNotFound):
            deposit(accounts, "2", 1, "key")
        open_account(accounts, "2")
        assert deposit(accounts, "0", 100, "key").balance == 1100
        assert deposit(accounts, "2", 2, "key").balance == 2

    def test_concurrent_transactions_on_one_account_all_count(self, accounts: AccountRepository[Account]) -> None:
        per_thread = self.transactions_per_thread

        def client(number: int) -> list[Decimal]:
            move = withdraw if number == 0 else deposit
            return [move(accounts, "0", "0.01").balance for _ in range(per_thread)]

        answers = _at_once([lambda n=n: client(n) for n in range(self.threads)])  # type: ignore[misc]
        moved = Decimal("0.01") * per_thread * (self.threads - 2)
        assert check_balance(accounts, "0").balance == 1000 + moved
        assert sum(map(len, answers)) == per_thread * self.threads

    def test_concurrent_deposits_are_each_answered_with_a_balance_of_their_own(
        self, accounts: AccountRepository[Account]
    ) -> None:
        def client() -> list[Decimal]:
            return [deposit(accounts, "0", "0.01").balance for _ in range(self.transactions_per_thread)]

        answers = [balance for balances in _at_once([client] * self.threads) for balance in balances]
        cents = range(1, self.threads * self.transactions_per_thread + 1)
        assert sorted(answers) == [1000 + Decimal(cent) / 100 for cent in cents]

    def test_concurrent_requests_under_one_key_move_money_once(self, accounts: AccountRepository[Account]) -> None:
        for attempt in range(20):
            key = f"attempt-{attempt}"
            answers = _at_once([lambda key=key: deposit(accounts, "0", 1, key)] * self.threads)  # type: ignore[misc]
            assert answers == [Account("0", 1001 + attempt)] * self.threads

    def test_an_answered_transaction_is_visible_to_every_later_read(self, accounts: AccountRepository[Account]) -> None:
        def client() -> None:
            for _ in range(self.transactions_per_thread // 5):
                answered = deposit(accounts, "0", "0.01").balance
                assert check_balance(accounts, "0").balance >= answered

        _at_once([client] * self.threads)

    def test_any_sequence_of_calls_agrees_with_a_plain_model(self) -> None:
        class Compared(_ComparedWithAModel):
            new_repository = staticmethod(self.new_repository)

        run_state_machine_as_test(
            Compared,
            settings=settings(
                max_examples=self.stateful_examples,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),  # a store on a disk is slow to make; that is its right
            ),
        )


class BatchRepositoryContract(RepositoryContract):
    """What a repository with ``execute_batch`` promises besides."""

    @abstractmethod
    def new_repository(self) -> AbstractContextManager[BatchRepository]:
        """Make an empty repository, and clean up after it."""

    def test_a_batch_is_carried_out_in_its_order(self, accounts: BatchRepository) -> None:
        outcomes = accounts.execute_batch(
            [Transaction("0", "deposit", 5), Transaction("1", "withdrawal", 1), Transaction("0", "withdrawal", 2000)]
        )
        assert outcomes == [Account("0", 1005), Account("1", 999), Account("0", -995)]
        assert check_balance(accounts, "0").balance == -995

    def test_a_refusal_in_a_batch_leaves_the_others_alone(self, accounts: BatchRepository) -> None:
        outcomes = accounts.execute_batch(
            [
                Transaction("0", "deposit", 1, "key"),
                Transaction("2", "deposit", 1),
                Transaction("0", "deposit", 2, "key"),
                Transaction("0", "deposit", LARGEST_SUM),
                Transaction("0", "deposit", 3),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            Account,
            AccountNotFound,
            KeyReused,
            BalanceOutOfRange,
            Account,
        ]
        assert check_balance(accounts, "0").balance == 1004

    def test_a_key_counts_once_within_a_batch_and_between_batches(self, accounts: BatchRepository) -> None:
        twice = [Transaction("0", "deposit", 1, "key")] * 2
        assert accounts.execute_batch(twice) == accounts.execute_batch(twice) == [Account("0", 1001)] * 2
        assert check_balance(accounts, "0").balance == 1001

    def test_a_batch_may_be_empty_or_large(self, accounts: BatchRepository) -> None:
        assert list(accounts.execute_batch([])) == []
        batch = [Transaction(str(n % 2), "deposit", "0.01", f"key-{n}") for n in range(5000)]
        assert len(accounts.execute_batch(batch)) == 5000
        assert check_balance(accounts, "0").balance == check_balance(accounts, "1").balance == 1025


def _at_once(calls: list[Callable[[], T]]) -> list[T]:
    """Call each in a thread of its own, all starting together, and give what they return."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(timeout=60)
        return call()

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Python changes threads so seldom that a lost update would be a matter of luck
    try:
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(run, calls))
    finally:
        sys.setswitchinterval(usual)


_account_numbers = st.sampled_from(["0", "1", "opened-later", "never_opened"])
_cents = st.one_of(st.integers(1, 100_000), st.integers(1, int(LARGEST_SUM * 100)))
_keys = st.one_of(st.none(), st.sampled_from(["a", "b", "c"]))
_kinds: st.SearchStrategy[Kind] = st.sampled_from(["deposit", "withdrawal"])


@dataclass
class _ModelAccount:
    """An account as a child would keep it: whole cents, and a list of what was answered under each key."""

    cents: int
    answered: dict[str, tuple[Kind, int, int]]


class _ComparedWithAModel(RuleBasedStateMachine):
    """Random calls, each compared with what the model says should come of it."""

    new_repository: Callable[[], AbstractContextManager[AccountRepository[Account]]]

    def __init__(self) -> None:
        super().__init__()
        self._cleanup = ExitStack()
        self._accounts = self._cleanup.enter_context(self.new_repository())
        self._model: dict[str, _ModelAccount] = {}

    def teardown(self) -> None:
        self._cleanup.close()

    @initialize()
    def open_the_usual_accounts(self) -> None:
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
    def move(self, kind: Kind, number: str, cents: int, key: str | None) -> None:
        use_case = deposit if kind == "deposit" else withdraw
        self._check(
            lambda: use_case(self._accounts, number, _money(cents), key), self._expected(kind, number, cents, key)
        )

    @rule(number=_account_numbers)
    def read(self, number: str) -> None:
        expected = _money(self._model[number].cents) if number in self._model else AccountNotFound
        self._check(lambda: check_balance(self._accounts, number), expected)

    @invariant()
    def balances_agree(self) -> None:
        for number, account in self._model.items():
            assert check_balance(self._accounts, number) == Account(number, _money(account.cents))

    def _expected(self, kind: Kind, number: str, cents: int, key: str | None) -> object:
        account = self._model.get(number)
        if account is None:
            return AccountNotFound
        if key is not None and key in account.answered:
            first_kind, first_cents, answer = account.answered[key]
            return _money(answer) if (first_kind, first_cents) == (kind, cents) else KeyReused
        after = account.cents + (cents if kind == "deposit" else -cents)
        if abs(after) > LARGEST_SUM * 100:
            return BalanceOutOfRange
        account.cents = after
        if key is not None:
            account.answered[key] = (kind, cents, after)
        return _money(after)

    def _check(self, call: Callable[[], Account], expected: object) -> None:
        try:
            outcome: object = call().balance
        except AtmError as refusal:
            outcome = type(refusal)
        assert outcome == expected


def _money(cents: int) -> Decimal:
    return Decimal(cents) / 100
