"""The audit finds every account and every entry that does not follow from the journal."""

from collections.abc import Iterable
from decimal import Decimal

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
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    audit,
    decide,
)
from atm_core.audit import JournalRow


def journal_of(*transactions: Transaction) -> list[JournalRow]:
    """Apply transactions on one account, and return the rows of a store that did the same."""
    accounts: dict[str, Account] = {}
    _, entries = decide(transactions, accounts, {})
    rows: list[JournalRow] = [(number, 0, account) for number, account in accounts.items()]
    return rows + [(entry.account.account_number, entry.account.last_entry, entry) for entry in entries]


def finding(rows: Iterable[JournalRow]) -> AuditedAccount:
    """Return the only finding."""
    (found,) = audit(rows)
    return found


LIFE = journal_of(
    Opening("0", 100, 0, 50, "opening"),
    Deposit("0", 5, "deposit", "note"),
    Withdrawal("0", 5),
    LimitChange("0", None, None, "limits"),
    Withdrawal("0", 100),
    Closing("0"),
    Reopening("0"),
    Deposit("0", 7),
)
ENTRIES = len(LIFE) - 1


def entry_at(number: int) -> Entry:
    """Return an entry of ``LIFE``."""
    _, _, entry = LIFE[number]
    assert isinstance(entry, Entry)
    return entry


def with_entry(number: int, transaction: Transaction | None = None, account: Account | None = None) -> list[JournalRow]:
    """Return ``LIFE`` with one entry changed."""
    entry = entry_at(number)
    changed = Entry(transaction or entry.transaction, account or entry.account)
    return [*LIFE[:number], ("0", number, changed), *LIFE[number + 1 :]]


def test_every_kind_of_entry_is_consistent() -> None:
    account = finding(LIFE)
    assert account == AuditedAccount("0", Account("0", 7), Account("0", 7), 8, None)
    assert account.account is not None
    assert account.account.last_entry == 8
    assert account.is_consistent


def test_damaged_journal_is_reported_at_its_first_wrong_entry() -> None:
    damaged = {
        "wrong balance": (with_entry(2, account=Account("0", 106, 0, 50, last_entry=2)), 2),
        "wrong limit": (with_entry(3, account=Account("0", 100, 0, 51, last_entry=3)), 3),
        "wrong limit of a limit change": (with_entry(4, LimitChange("0", 1, None, "limits")), 4),
        "wrong closed flag": (with_entry(6, account=Account("0", 0, last_entry=6)), 6),
        "wrong amount": (with_entry(8, Deposit("0", 8)), 8),
        "wrong kind": (with_entry(8, Withdrawal("0", 7)), 8),
        "forbidden withdrawal": (with_entry(3, Withdrawal("0", 51)), 3),
        "key twice": (with_entry(8, Deposit("0", 7, "deposit")), 8),
        "key of the opening": (with_entry(2, Deposit("0", 5, "opening")), 2),
        "damaged row": ([*LIFE[:3], ("0", 3, None), *LIFE[4:]], 3),
        "gap": ([*LIFE[:3], *LIFE[4:]], 4),
        "missing opening": ([LIFE[0], *LIFE[2:]], 2),
        "two openings": (with_entry(2, Opening("0", 105, 0, 50)), 2),
        "wrong number": ([*LIFE[:8], ("0", 9, entry_at(8)._replace(account=Account("0", 7, last_entry=9)))], 9),
        "number 0": ([("0", 0, entry_at(8)._replace(account=Account("0", 7, last_entry=0))), *LIFE], 0),
        "negative number": ([("0", -1, None), *LIFE], -1),
    }
    for name, (rows, first_mismatch) in damaged.items():
        account = finding(rows)
        assert not account.is_consistent, name
        assert account.first_mismatch == first_mismatch, name


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
    found = finding([("0", 0, account), *LIFE[1:]])
    assert not found.is_consistent
    assert (found.account, found.expected, found.entries, found.first_mismatch) == (account, Account("0", 7), 8, None)


def test_entry_without_an_account_is_found() -> None:
    found = finding(LIFE[1:])
    assert (found.account, found.expected, found.entries) == (None, Account("0", 7), 8)
    assert not found.is_consistent


def test_account_without_an_entry_is_found() -> None:
    found = finding([("0", 0, Account("0", 0))])
    assert found == AuditedAccount("0", Account("0", 0), None, 0, None)
    assert not found.is_consistent


@pytest.mark.parametrize("deleted", [(2, 3), (7, 8)])
def test_two_deleted_entries_that_cancel_out_are_found(deleted: tuple[int, int]) -> None:
    journal = journal_of(
        *[Opening("0", 0)], *[each for _ in range(4) for each in (Deposit("0", 5), Withdrawal("0", 5))]
    )
    found = finding([row for row in journal if row[1] not in deleted] if deleted == (2, 3) else journal[:-2])
    assert found.account == found.expected == Account("0", 0)
    assert not found.is_consistent


def test_expected_account_includes_entries_after_a_wrong_one() -> None:
    found = finding(with_entry(2, account=Account("0", 106, 0, 50, last_entry=2)))
    assert found.account == found.expected == Account("0", 7)


def test_balance_beyond_the_range_is_found() -> None:
    opening = entry_at(1)._replace(transaction=Opening("0", MAX_MONEY), account=Account("0", MAX_MONEY, last_entry=1))
    deposit = Entry(Deposit("0", "0.01"), Account("0", MAX_MONEY, last_entry=2))
    found = finding([("0", 0, Account("0", MAX_MONEY, last_entry=2)), ("0", 1, opening), ("0", 2, deposit)])
    assert found.first_mismatch == 2


def test_accounts_are_audited_separately() -> None:
    rows = [*journal_of(Opening("0", 1, key="key")), *journal_of(Opening("1", 2, key="key")), *LIFE[2:3]]
    assert [account.account_number for account in audit(rows)] == ["0", "1", "0"]
    assert [account.is_consistent for account in audit(rows)] == [True, True, False]


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
    lambda opening, others: journal_of(opening, *others),
    st.builds(Opening, st.just("0"), CENTS, LIMITS, LIMITS),
    st.lists(TRANSACTIONS, max_size=15),
)


@given(JOURNALS)
def test_journal_that_decide_made_is_consistent(journal: list[JournalRow]) -> None:
    account = finding(journal)
    assert account.is_consistent
    assert account.entries == len(journal) - 1


@given(JOURNALS, st.data())
def test_any_missing_or_changed_row_is_found(journal: list[JournalRow], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(journal) - 1))
    number, entry, value = journal[at]
    account = value.account if isinstance(value, Entry) else value
    assert account is not None
    balance, overdraft_limit, withdrawal_limit = data.draw(st.tuples(CENTS, LIMITS, LIMITS))
    other = Account("0", balance, overdraft_limit, withdrawal_limit, closed=data.draw(st.booleans()), last_entry=entry)
    assume(other != account)
    changed = other if isinstance(value, Account) else Entry(value.transaction, other) if value else None
    for rows in ([(number, entry, changed)], [(number, entry, None)], []):
        assert not finding([*journal[:at], *rows, *journal[at + 1 :]]).is_consistent
