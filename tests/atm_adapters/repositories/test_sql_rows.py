"""Rows and values are converted without loss, and damaged rows are left to the audit."""

from datetime import UTC, datetime

import pytest

from atm_adapters.repositories.sql_rows import DamagedRow, account_from, entry_from, entry_row, journal_row_from
from atm_core import Account, Closing, Deposit, Entry, LimitChange, Opening, Reopening, Withdrawal

ACCOUNT = Account("0", "-12.34", 500, "0.01", last_entry=7)
LIMITED = Account("0", 0, 500, None, last_entry=8)
NOW = datetime.now(UTC)
ENTRIES = [
    Entry(Opening("0", "-12.34", 500, "0.01", "key", "note"), ACCOUNT, NOW),
    Entry(Deposit("0", "0.01"), ACCOUNT),
    Entry(Withdrawal("0", "9999999999999.99", "key"), ACCOUNT, NOW),
    Entry(LimitChange("0", 500, None, note="😀"), LIMITED, NOW),
    Entry(Closing("0", "key"), Account("0", 0, closed=True, last_entry=9), NOW),
    Entry(Reopening("0"), Account("0", 0, last_entry=10), NOW),
]


def test_account_is_read_from_its_row() -> None:
    assert repr(account_from(("0", -1234, 50_000, 1, False, 7))) == repr(ACCOUNT)
    assert repr(account_from(("0", 0, 50_000, None, 0, 8))) == repr(LIMITED)
    assert repr(account_from(("0", 0, None, None, 1, 9))) == repr(Account("0", 0, closed=True, last_entry=9))


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.transaction.kind for entry in ENTRIES])
def test_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert repr(entry_from((*entry_row(entry)[:-1], entry.recorded_at))) == repr(entry)


def test_journal_row_holds_an_account_or_an_entry() -> None:
    audited = journal_row_from(("0", 0, None, None, None, None, -1234, 50_000, 1, False, None, 7))
    assert repr(audited) == repr(("0", 0, ACCOUNT))
    assert journal_row_from((*entry_row(ENTRIES[2], NOW.isoformat()), None)) == ("0", 7, ENTRIES[2])


def test_entry_with_the_number_0_is_not_taken_for_the_account() -> None:
    entry = entry_row(ENTRIES[1], NOW.isoformat())
    _, _, value = journal_row_from((entry[0], 0, *entry[2:], None))
    assert isinstance(value, Entry)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (2, "gift"),
        (3, None),
        (3, -1),
        (3, 10**15),
        (3, "abc"),
        (5, ""),
        (6, 10**15),
        (6, None),
        (7, -1),
        (8, "abc"),
        (2, None),
        (4, 5),
        (5, 5),
        (6, "12"),
        (6, 1.5),
        (6, b"12"),
        (9, None),
        (9, 2),
        (9, -1),
        (9, "x"),
        (10, "now"),
        (10, 5),
        (10, "2026-11-24T09:08:11.728"),
        (10, datetime(2026, 11, 24)),  # noqa: DTZ001 - the damage
    ],
)
def test_damaged_entry_is_left_to_the_audit(column: int, value: object) -> None:
    row = [*entry_row(ENTRIES[2], NOW.isoformat()), None]
    row[column] = value
    assert journal_row_from(tuple(row)) == ("0", 7, None)
    with pytest.raises(DamagedRow, match="damaged: entry 7 of account '0' is not valid"):
        entry_from(tuple(row[:-1]))


def test_damaged_account_is_left_to_the_audit() -> None:
    assert journal_row_from(("0", 0, None, None, None, None, 10**15, None, None, False, None, 1)) == ("0", 0, None)
