"""What holds after any transactions on any accounts, in any order and in any batches."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from atm_core import (
    Account,
    AtmError,
    Closing,
    Deposit,
    Entry,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    decide,
)

_numbers = st.sampled_from(["0", "1"])
_amounts = st.sampled_from(["0.01", "1", "5", "10"])  # few, so that balances of zero and replays are frequent
_limits = st.sampled_from([None, 0, "0.50", 7])
_key_and_note = (st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, "note"]))
_openings = st.builds(Opening, _numbers, st.sampled_from([0, 5, 10, "-0.01"]), _limits, _limits, *_key_and_note)
_transfers = st.builds(Deposit, _numbers, _amounts, *_key_and_note) | st.builds(
    Withdrawal, _numbers, _amounts, *_key_and_note
)
_closings = st.builds(Closing, _numbers, *_key_and_note) | st.builds(Reopening, _numbers, *_key_and_note)
_limit_changes = st.builds(LimitChange, _numbers, _limits, _limits, *_key_and_note)
_without_limit_changes = st.one_of(_openings, _transfers, _transfers, _closings)
_all = st.one_of(_without_limit_changes, _limit_changes)
_openings_first = st.tuples(*[st.builds(Opening, st.just(number), st.just(10), _limits, _limits) for number in "01"])


def _in_batches(transactions: st.SearchStrategy[Transaction]) -> st.SearchStrategy[list[Sequence[Transaction]]]:
    batches = st.lists(st.lists(transactions, min_size=1, max_size=6), max_size=10)
    return st.builds(lambda first, others: [first, *others], _openings_first, batches)


class Journal:
    """The smallest repository: what ``decide`` needs, and all entries."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.entries: list[Entry] = []
        self.recorded: dict[tuple[str, str], Entry] = {}

    def execute_batch(self, transactions: Sequence[Transaction]) -> list[Account | AtmError]:
        outcomes, entries = decide(transactions, self.accounts, self.recorded)
        self.entries += entries
        for entry in entries:
            if entry.transaction.key is not None:
                self.recorded[entry.transaction.account_number, entry.transaction.key] = entry
        return outcomes

    def everything(self) -> tuple[object, ...]:
        """Return a copy of everything that is stored."""
        return repr(self.accounts), list(self.entries), dict(self.recorded)


def journal_of(batches: Sequence[Sequence[Transaction]]) -> Journal:
    """Execute batches on a new journal."""
    journal = Journal()
    for batch in batches:
        journal.execute_batch(batch)
    return journal


@given(_in_batches(_all))
def test_balance_is_the_sum_of_the_entries(batches: list[Sequence[Transaction]]) -> None:
    journal = journal_of(batches)
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for entry in journal.entries:
        sign = -1 if isinstance(entry.transaction, Withdrawal) else 1
        sums[entry.account.account_number] += sign * (entry.amount or 0)
        assert entry.account.balance == sums[entry.account.account_number]
    assert sums == {number: account.balance for number, account in journal.accounts.items()}


@given(_in_batches(_without_limit_changes))
def test_overdraft_limit_from_the_start_is_never_exceeded(batches: list[Sequence[Transaction]]) -> None:
    for _, account, _ in journal_of(batches).entries:
        if account.overdraft_limit is not None:
            assert account.balance >= -account.overdraft_limit


@given(_in_batches(_all))
def test_replay_returns_the_first_answer_whatever_happened_since(batches: list[Sequence[Transaction]]) -> None:
    journal = journal_of(batches)
    before = journal.everything()
    for transaction, first_answer, _ in journal.recorded.values():
        for batch in ([transaction], [transaction, transaction]):
            assert list(map(repr, journal.execute_batch(batch))) == [repr(first_answer)] * len(batch)
    assert journal.everything() == before


@given(_in_batches(_all))
def test_entry_numbers_have_no_gaps(batches: list[Sequence[Transaction]]) -> None:
    journal = journal_of(batches)
    for number, account in journal.accounts.items():
        entries = [entry for entry in journal.entries if entry.account.account_number == number]
        assert [entry.account.last_entry for entry in entries] == list(range(1, account.last_entry + 1))
        assert repr(entries[-1].account) == repr(account)


@given(_in_batches(_all), _all)
def test_refused_transaction_leaves_no_trace(batches: list[Sequence[Transaction]], last: Transaction) -> None:
    journal = journal_of(batches)
    before, entries = journal.everything(), len(journal.entries)
    is_replay = (last.account_number, last.key) in journal.recorded
    (outcome,) = journal.execute_batch([last])
    if isinstance(outcome, AtmError):
        assert journal.everything() == before
    else:
        assert len(journal.entries) == entries + (not is_replay)


@given(_in_batches(_all))
def test_batches_make_no_difference(batches: list[Sequence[Transaction]]) -> None:
    one_by_one = Journal()
    outcomes = [outcome for batch in batches for each in batch for outcome in one_by_one.execute_batch([each])]
    in_batches = Journal()
    assert [repr(outcome) for batch in batches for outcome in in_batches.execute_batch(batch)] == list(
        map(repr, outcomes)
    )
    assert in_batches.everything() == one_by_one.everything()
