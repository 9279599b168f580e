"""The contract of ``AccountRepository`` and ``AccountHistory`` as tests for any repository.

Subclass :class:`RepositoryContract` in a test module, implement ``new_repository``, and run pytest. For a
repository with ``execute_batch``, subclass :class:`BatchRepositoryContract` instead. Both require history, because
every store has it. This module needs the packages hypothesis and pytest.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import ClassVar

try:
    import pytest
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test
except ImportError as error:
    raise ImportError(
        "atm_adapters.conformance.repository needs more packages; install them with: pip install hypothesis pytest"
    ) from error

from atm_adapters.conformance.repository_concurrency import ConcurrencyContract
from atm_adapters.conformance.repository_history import Accounts, HistoryContract
from atm_adapters.conformance.repository_model import ModelComparison
from atm_core import (
    MAX_MONEY,
    Account,
    AccountAlreadyExists,
    AccountClosed,
    AccountNotClosed,
    AccountNotFound,
    AtmError,
    BalanceNotZero,
    BalanceOutOfRange,
    Closing,
    Deposit,
    IdempotencyKeyReused,
    InsufficientFunds,
    LimitChange,
    MoneyLike,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    WithdrawalLimitExceeded,
    close_account,
    deposit,
    get_account,
    open_account,
    read_history,
    reopen_account,
    set_limits,
    withdraw,
)
from atm_core.ports import BatchRepository


class RepositoryContract(HistoryContract, ConcurrencyContract, ABC):
    """Tests for every ``AccountRepository[Account]`` with history."""

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

    def test_opening_under_a_key_happens_once(self, accounts: Accounts) -> None:
        first = open_account(accounts, "2", 5, 10, 20, "key", "note")
        withdraw(accounts, "2", 1)
        assert open_account(accounts, "2", "5.00", "10.00", 20, "key", "note") == first == Account("2", 5, 10, 20)
        others = [Opening("2", 6, 10, 20, "key", "note"), Opening("2", 5, 10, None, "key", "note")]
        others += [Opening("2", 5, None, 20, "key", "note"), Opening("2", 5, 10, 20, "key")]
        for other in others:
            with pytest.raises(IdempotencyKeyReused):
                accounts.execute(other)
        with pytest.raises(AccountAlreadyExists):
            open_account(accounts, "2", 5, 10, 20, "another key", "note")
        assert get_account(accounts, "2") == Account("2", 4, 10, 20)

    def test_every_call_refuses_an_unknown_account(self, accounts: Accounts) -> None:
        transactions = [
            Deposit("2", 1),
            Withdrawal("2", 1, "key"),
            LimitChange("2", None, None),
            Closing("2", "key"),
            Reopening("2"),
        ]
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

    def test_overdraft_limit_bounds_withdrawals(self, accounts: Accounts) -> None:
        assert open_account(accounts, "2", 10, 0).available == 10
        with pytest.raises(InsufficientFunds) as refusal:
            withdraw(accounts, "2", "10.01")
        assert (refusal.value.account_number, str(refusal.value.available)) == ("2", "10.00")
        assert withdraw(accounts, "2", 10).balance == 0
        set_limits(accounts, "2", "0.50", None)
        assert withdraw(accounts, "2", "0.50").available == 0
        with pytest.raises(InsufficientFunds):
            withdraw(accounts, "2", "0.01")
        assert get_account(accounts, "2") == Account("2", "-0.50", "0.50")

    def test_withdrawal_limit_bounds_one_withdrawal(self, accounts: Accounts) -> None:
        open_account(accounts, "2", 1000, None, 400)
        with pytest.raises(WithdrawalLimitExceeded) as refusal:
            withdraw(accounts, "2", "400.01")
        assert (refusal.value.account_number, str(refusal.value.limit)) == ("2", "400.00")
        withdraw(accounts, "2", 400)
        assert withdraw(accounts, "2", 400) == Account("2", 200, None, 400)

    def test_limits_can_be_set_and_removed(self, accounts: Accounts) -> None:
        withdraw(accounts, "0", 1500)
        both_limits: list[tuple[MoneyLike | None, MoneyLike | None]] = [
            (100, "99.99"), (None, 0), (MAX_MONEY, None), (0, MAX_MONEY), (None, None), (0, 0)
        ]  # fmt: skip
        for limits in both_limits:
            assert set_limits(accounts, "0", *limits) == get_account(accounts, "0") == Account("0", -500, *limits)
        with pytest.raises(WithdrawalLimitExceeded):
            withdraw(accounts, "0", "0.01")
        assert deposit(accounts, "0", 1) == Account("0", -499, 0, 0)
        assert set_limits(accounts, "0", 0, None).available == 0
        with pytest.raises(InsufficientFunds):
            withdraw(accounts, "0", "0.01")

    def test_only_balance_zero_can_be_closed(self, accounts: Accounts) -> None:
        with pytest.raises(BalanceNotZero) as refusal:
            close_account(accounts, "0")
        assert (refusal.value.account_number, str(refusal.value.balance)) == ("0", "1000.00")
        withdraw(accounts, "0", 1000)
        assert close_account(accounts, "0") == get_account(accounts, "0") == Account("0", 0, closed=True)

    def test_closed_account_refuses_changes_until_it_is_reopened(self, accounts: Accounts) -> None:
        open_account(accounts, "2", 0, 10, 20)
        with pytest.raises(AccountNotClosed):
            reopen_account(accounts, "2")
        close_account(accounts, "2")
        for refused in (Deposit("2", 1), Withdrawal("2", 1), Closing("2")):
            with pytest.raises(AccountClosed) as refusal:
                accounts.execute(refused)
            assert refusal.value.account_number == "2"
        with pytest.raises(AccountAlreadyExists):
            open_account(accounts, "2")
        assert set_limits(accounts, "2", 30, None) == Account("2", 0, 30, closed=True)
        assert reopen_account(accounts, "2") == Account("2", 0, 30)
        assert withdraw(accounts, "2", 30) == get_account(accounts, "2") == Account("2", -30, 30)

    def test_replay_returns_the_first_answer_whatever_happened_since(self, accounts: Accounts) -> None:
        transactions: list[Transaction] = [
            Opening("2", 5, 10, 20, "opening", "note"),
            Deposit("2", 5, "deposit"),
            Withdrawal("2", 10, "withdrawal"),
            LimitChange("2", 0, 0, "limits"),
            Closing("2", "closing"),
            Reopening("2", "reopening"),
            LimitChange("2", None, None, "no limits"),
            Closing("2"),
        ]
        answers = [accounts.execute(transaction) for transaction in transactions]
        for _ in range(2):
            for transaction, answer in zip(transactions[:-1], answers, strict=False):
                replayed = accounts.execute(transaction)
                assert (replayed, replayed.last_entry) == (answer, answer.last_entry)
        assert get_account(accounts, "2") == answers[-1] == Account("2", 0, closed=True)
        assert get_account(accounts, "2").last_entry == len(transactions)

    def test_note_may_be_any_text_of_140_characters(self, accounts: Accounts) -> None:
        for note in ("order 1234", "😀" * 140, "Größe \u00e9 e\u0301", "注文", '"quoted" \\ %s {}', " "):
            deposit(accounts, "0", 1, f"key {ascii(note)[:100]}", note)
            (entry,) = accounts.history("0", before=None, after=None, limit=1).entries
            assert entry.transaction.note == note

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
        deposit(accounts, "0", 100, "key", "note")
        others: list[Transaction] = [
            Deposit("0", "100.01", "key", "note"),
            Deposit("0", 100, "key", "another note"),
            Deposit("0", 100, "key"),
            Withdrawal("0", 100, "key", "note"),
            Opening("0", 100, key="key", note="note"),
            LimitChange("0", 100, None, "key", "note"),
            Closing("0", "key", "note"),
            Reopening("0", "key", "note"),
        ]
        for other in others:
            with pytest.raises(IdempotencyKeyReused) as refusal:
                accounts.execute(other)
            assert (refusal.value.account_number, refusal.value.key) == ("0", "key")
        assert get_account(accounts, "0") == Account("0", 1100)

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

    def test_random_calls_agree_with_a_plain_model(self) -> None:
        class Comparison(ModelComparison):
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
        outcomes = accounts.execute_batch([Deposit("0", 5), Withdrawal("1", 1), Withdrawal("0", 2000)])
        assert outcomes == [Account("0", 1005), Account("1", 999), Account("0", -995)]
        assert get_account(accounts, "0").balance == -995

    def test_refusal_in_a_batch_does_not_affect_the_others(self, accounts: BatchRepository) -> None:
        outcomes = accounts.execute_batch(
            [Deposit("0", 1, "key"), Deposit("2", 1), Deposit("0", 2, "key"), Deposit("0", MAX_MONEY), Deposit("0", 3)]
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
        twice = [Deposit("0", 1, "key")] * 2
        assert accounts.execute_batch(twice) == accounts.execute_batch(twice) == [Account("0", 1001)] * 2
        assert get_account(accounts, "0").balance == 1001

    def test_whole_life_of_an_account_fits_in_one_batch(self, accounts: BatchRepository) -> None:
        opening = Opening("2", 5, 0, 4, "opening", "note")
        outcomes = accounts.execute_batch(
            [
                Deposit("2", 1),
                opening,
                Withdrawal("2", 5),
                Withdrawal("2", 4, "withdrawal"),
                Opening("2", 5),
                LimitChange("2", None, None),
                Withdrawal("2", 1),
                Closing("2"),
                Deposit("2", 1),
                opening,
                Reopening("2"),
                Withdrawal("2", 9),
            ]
        )
        expected = [
            AccountNotFound("2"),
            Account("2", 5, 0, 4),
            WithdrawalLimitExceeded("2", Decimal("4.00")),
            Account("2", 1, 0, 4),
            AccountAlreadyExists("2"),
            Account("2", 1),
            Account("2", 0),
            Account("2", 0, closed=True),
            AccountClosed("2"),
            Account("2", 5, 0, 4),
            Account("2", 0),
            Account("2", -9),
        ]
        assert list(map(repr, map(_without_number, outcomes))) == list(map(repr, expected))
        assert get_account(accounts, "2").last_entry == 7
        numbers = [entry.account.last_entry for entry in read_history(accounts, "2", after=0).entries]
        assert numbers == [1, 2, 3, 4, 5, 6, 7]

    def test_openings_in_a_batch_are_like_single_ones(self, accounts: BatchRepository) -> None:
        openings = [Opening(f"new-{n}", n, n, None, f"key-{n}") for n in range(1000)]
        outcomes = accounts.execute_batch(openings)
        assert outcomes == [Account(f"new-{n}", n, n) for n in range(1000)]
        assert accounts.execute_batch(openings) == outcomes
        assert accounts.execute_batch([Opening("new-5", 0), Deposit("new-5", 1)])[1] == Account("new-5", 6, 5)

    def test_batch_may_be_empty_or_large(self, accounts: BatchRepository) -> None:
        assert list(accounts.execute_batch([])) == []
        batch = [Deposit(str(n % 2), "0.01", f"key-{n}") for n in range(5000)]
        assert len(accounts.execute_batch(batch)) == 5000
        assert get_account(accounts, "0").balance == get_account(accounts, "1").balance == 1025


def _without_number(outcome: Account | AtmError) -> Account | AtmError:
    """Return an account without the number of its last entry, for comparisons by text."""
    return replace(outcome, last_entry=0) if isinstance(outcome, Account) else outcome
