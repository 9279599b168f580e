"""The audit and the replay find every account and every entry that does not follow from the journal."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atm_core import (
    MAX_MONEY,
    Account,
    AuditedAccount,
    Closing,
    Deposit,
    Entry,
    InconsistentJournal,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    audit,
    decide,
)
from atm_core.audit import JournalRow, replayed
from atm_core.transaction import transaction_of

NOW = datetime.now(UTC)


def entries_of(*transactions: Transaction) -> list[Entry]:
    """Apply transactions, and return the entries."""
    _, entries = decide(transactions, {}, {}, NOW)
    return entries


def rows_of(entries: Sequence[Entry]) -> list[JournalRow]:
    """Return the rows of a store with the entries of one account."""
    rows: list[JournalRow] = [("0", entry.account.last_entry, entry) for entry in entries]
    return [("0", 0, entries[-1].account), *rows]


def changed(entry: Entry, **facts: Any) -> Entry:
    """Return the entry as a store reads it if some of its facts are changed."""
    transaction, account, recorded_at = entry
    now: dict[str, Any] = {
        "account_number": account.account_number,
        "last_entry": account.last_entry,
        "kind": transaction.kind,
        "amount": entry.amount,
        "balance": account.balance,
        "overdraft_limit": account.overdraft_limit,
        "withdrawal_limit": account.withdrawal_limit,
        "closed": account.closed,
        "note": transaction.note,
        "key": transaction.key,
        "recorded_at": recorded_at,
    } | facts
    number, limits = now["account_number"], (now["overdraft_limit"], now["withdrawal_limit"])
    return Entry(
        transaction_of(now["kind"], number, now["amount"], *limits, now["key"], now["note"]),
        Account(number, now["balance"], *limits, closed=now["closed"], last_entry=now["last_entry"]),
        now["recorded_at"],
    )


def finding(rows: Iterable[JournalRow]) -> AuditedAccount:
    """Return the only finding."""
    (found,) = audit(rows)
    return found


LIFE = entries_of(
    Opening("0", 100, 0, 50, "opening"),
    Deposit("0", 5, "deposit", "note"),
    Withdrawal("0", 5),
    LimitChange("0", None, None, "limits"),
    Withdrawal("0", 100),
    Closing("0"),
    Reopening("0"),
    Deposit("0", 7),
)
ROWS = rows_of(LIFE)


def with_fact(number: int, **facts: Any) -> list[Entry]:
    """Return ``LIFE`` with facts of one entry changed."""
    return [*LIFE[: number - 1], changed(LIFE[number - 1], **facts), *LIFE[number:]]


def test_every_kind_of_entry_is_consistent() -> None:
    account = finding(ROWS)
    assert account == AuditedAccount("0", Account("0", 7), Account("0", 7), 8, None)
    assert account.account is not None
    assert account.account.last_entry == 8
    assert account.is_consistent


DAMAGED = {
    "wrong balance": (with_fact(2, balance=106), 2),
    "wrong balance of the opening": (with_fact(1, balance=101), 1),
    "wrong limit": (with_fact(3, withdrawal_limit=51), 3),
    "wrong limit of a limit change": (with_fact(4, overdraft_limit=1), 5),
    "wrong closed flag": (with_fact(6, closed=False), 6),
    "wrong amount": (with_fact(8, amount=8), 8),
    "wrong kind": (with_fact(8, kind="withdrawal"), 8),
    "wrong number": (with_fact(8, last_entry=9), 9),
    "no time": (with_fact(8, recorded_at=None), 8),
    "forbidden withdrawal": (with_fact(3, amount=51, balance=54), 3),
    "forbidden deposit": ([*LIFE[:6], changed(LIFE[7], last_entry=7, closed=True)], 7),
    "closing above zero": (with_fact(3, kind="closing", amount=None, balance=105, closed=True), 3),
    "balance beyond the range": (
        [*entries_of(Opening("0", MAX_MONEY)), changed(LIFE[7], last_entry=2, amount="0.01", balance=MAX_MONEY)],
        2,
    ),
    "gap": ([*LIFE[:2], *LIFE[3:]], 4),
    "missing opening": (LIFE[1:], 2),
    "two openings": (with_fact(2, kind="opening", amount=105), 2),
    "entry twice": ([*LIFE[:2], *LIFE[1:]], 2),
    "number 0": ([changed(LIFE[7], last_entry=0), *LIFE], 0),
}
every_damage = pytest.mark.parametrize(("entries", "wrong"), DAMAGED.values(), ids=DAMAGED)


@every_damage
def test_first_wrong_entry_is_found(entries: list[Entry], wrong: int) -> None:
    account = finding(rows_of(entries))
    assert not account.is_consistent
    assert account.first_mismatch == wrong


@pytest.mark.parametrize(("number", "balance"), [(-1, 7), (3, 12)])
def test_damaged_row_is_found_and_left_out(number: int, balance: int) -> None:
    rows = sorted([*[row for row in ROWS if row[1] != number], ("0", number, None)], key=lambda row: row[1])
    assert finding(rows).first_mismatch == number
    assert finding(rows).expected == Account("0", balance)


def test_openings_of_an_upgraded_store_have_no_time() -> None:
    entries = with_fact(1, recorded_at=None)
    assert finding(rows_of(entries)).is_consistent
    assert list(replayed(entries)) == entries


def test_keys_are_left_to_the_stores() -> None:
    entries = with_fact(8, key="deposit")
    assert finding(rows_of(entries)).is_consistent
    assert list(replayed(entries)) == entries


@pytest.mark.parametrize(
    "account",
    [
        Account("0", 8, last_entry=8),
        Account("0", 7, 0, last_entry=8),
        Account("0", 7, None, 0, last_entry=8),
        Account("0", 7, closed=True, last_entry=8),
        Account("0", 7, last_entry=9),
        None,
    ],
)
def test_wrong_account_is_found(account: Account | None) -> None:
    found = finding([("0", 0, account), *ROWS[1:]])
    assert not found.is_consistent
    assert (found.account, found.expected, found.entries, found.first_mismatch) == (account, Account("0", 7), 8, None)


def test_entry_without_an_account_is_found() -> None:
    found = finding(ROWS[1:])
    assert (found.account, found.expected, found.entries) == (None, Account("0", 7), 8)
    assert not found.is_consistent


def test_account_without_an_entry_is_found() -> None:
    found = finding([("0", 0, Account("0", 0))])
    assert found == AuditedAccount("0", Account("0", 0), None, 0, None)
    assert not found.is_consistent


@pytest.mark.parametrize("deleted", [(2, 3), (7, 8)])
def test_two_deleted_entries_that_cancel_out_are_found(deleted: tuple[int, int]) -> None:
    journal = rows_of(
        entries_of(Opening("0", 0), *[each for _ in range(4) for each in (Deposit("0", 5), Withdrawal("0", 5))])
    )
    found = finding([row for row in journal if row[1] not in deleted] if deleted == (2, 3) else journal[:-2])
    assert found.account == found.expected == Account("0", 0)
    assert not found.is_consistent


def test_expected_account_includes_entries_after_a_wrong_one() -> None:
    found = finding(rows_of(with_fact(2, balance=106)))
    assert found.account == found.expected == Account("0", 7)


def test_accounts_are_audited_separately() -> None:
    others = [("1", number, value) for _, number, value in rows_of(entries_of(Opening("1", 2)))]
    assert [account.account_number for account in audit([*ROWS, *others, *ROWS[2:3]])] == ["0", "1", "0"]
    assert [account.is_consistent for account in audit([*ROWS, *others, *ROWS[2:3]])] == [True, True, False]


CENTS = st.decimals(-1000, 1000, places=2)
POSITIVE_CENTS = st.decimals(Decimal("0.01"), 1000, places=2)
LIMITS = st.none() | st.decimals(0, 1000, places=2)
TRANSACTIONS = st.one_of(
    st.builds(Deposit, st.just("0"), POSITIVE_CENTS),
    st.builds(Withdrawal, st.just("0"), POSITIVE_CENTS),
    st.builds(LimitChange, st.just("0"), LIMITS, LIMITS),
    st.builds(Closing, st.just("0")),
    st.builds(Reopening, st.just("0")),
)
JOURNALS = st.builds(
    lambda opening, others: entries_of(opening, *others),
    st.builds(Opening, st.just("0"), CENTS, LIMITS, LIMITS),
    st.lists(TRANSACTIONS, max_size=15),
)


@given(JOURNALS)
def test_journal_that_decide_made_is_consistent(entries: list[Entry]) -> None:
    account = finding(rows_of(entries))
    assert account.is_consistent
    assert account.entries == len(entries)
    assert list(replayed(entries)) == entries


@given(JOURNALS, st.data())
def test_any_missing_or_changed_row_is_found(entries: list[Entry], data: st.DataObject) -> None:
    journal = rows_of(entries)
    at = data.draw(st.integers(0, len(journal) - 1))
    number, entry, value = journal[at]
    account = value.account if isinstance(value, Entry) else value
    assert account is not None
    balance, overdraft_limit, withdrawal_limit = data.draw(st.tuples(CENTS, LIMITS, LIMITS))
    other = Account("0", balance, overdraft_limit, withdrawal_limit, closed=data.draw(st.booleans()), last_entry=entry)
    assume(other != account)
    wrong = other if isinstance(value, Account) else Entry(value.transaction, other, NOW) if value else None
    for rows in ([(number, entry, wrong)], [(number, entry, None)], []):
        assert not finding([*journal[:at], *rows, *journal[at + 1 :]]).is_consistent


def assert_inconsistent(entries: list[Entry], account_number: str, entry: int) -> None:
    """Assert that the replay yields the entries before the wrong one, and names that one."""
    yielded: list[Entry] = []
    with pytest.raises(InconsistentJournal) as raised:
        yielded.extend(replayed(entries))
    wrong = entries[len(yielded)].account
    assert yielded == entries[: len(yielded)]
    assert (wrong.account_number, wrong.last_entry) == (account_number, entry)
    assert raised.value.args == (account_number, entry)


@every_damage
def test_replay_stops_at_the_first_wrong_entry(entries: list[Entry], wrong: int) -> None:
    assert_inconsistent(entries, "0", wrong)


def of_account(number: str) -> list[Entry]:
    """Return a journal of one account."""
    return entries_of(Opening(number, 1, key="key"), Deposit(number, 2, "deposit"))


def test_accounts_are_ordered_by_code_points() -> None:
    numbers = ["-", "0", "00", "1", "10", "2", "A", "Z", "_", "a", "aB", "b"]
    entries = [entry for number in numbers for entry in of_account(number)]
    assert list(replayed(entries)) == entries
    for first, second in pairwise(numbers):
        assert_inconsistent([*of_account(second), *of_account(first)], first, 1)


def test_two_groups_of_one_account_are_found() -> None:
    opening, deposit = of_account("0")
    assert_inconsistent([opening, *of_account("1"), deposit], "0", 2)
    assert_inconsistent([opening, deposit, *of_account("1"), opening, deposit], "0", 1)


def test_entry_of_an_account_that_was_not_opened_is_found() -> None:
    assert_inconsistent([*of_account("0"), of_account("1")[1]], "1", 2)


def test_replay_reads_no_further_than_it_yields() -> None:
    source = iter(LIFE)
    assert next(replayed(source)) is LIFE[0]
    assert list(source) == LIFE[1:]


def test_empty_journal_is_consistent() -> None:
    assert list(replayed([])) == []
    assert list(audit([])) == []


def changes_of(entry: Entry, entries: list[Entry]) -> st.SearchStrategy[dict[str, object]]:
    """Return changes of one fact, but not of those that stand for themselves.

    These are the key, the note, the time, and the limits that the transaction sets.
    """
    changes: dict[str, st.SearchStrategy[object]] = {
        "last_entry": st.integers(0, 17), "balance": CENTS, "closed": st.booleans()
    }  # fmt: skip
    if len(entries) > 1:
        changes["account_number"] = st.sampled_from(["-", "1"])
    if entry.amount is None:
        changes["kind"] = st.sampled_from(["limit-change", "closing", "reopening"])
    else:
        changes["amount"] = POSITIVE_CENTS
        if entry.amount > 0:
            changes["kind"] = st.sampled_from(["opening", "deposit", "withdrawal"])
    if not hasattr(entry.transaction, "overdraft_limit"):
        changes |= {"overdraft_limit": LIMITS, "withdrawal_limit": LIMITS, "recorded_at": st.none()}
    return st.one_of([st.fixed_dictionaries({name: values}) for name, values in changes.items()])


@given(JOURNALS, st.data())
def test_any_changed_fact_is_found_by_the_replay(entries: list[Entry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    wrong = changed(entries[at], **data.draw(changes_of(entries[at], entries)))
    assume(repr(wrong) != repr(entries[at]))
    with pytest.raises(InconsistentJournal):
        list(replayed([*entries[:at], wrong, *entries[at + 1 :]]))
