"""PostgresAccountRepository: exports and imports of the whole journal."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from atm_adapters.repositories.postgres import PostgresAccountRepository
from atm_core import Account, Deposit, Entry, Opening, deposit
from atm_core.errors import AccountNotFound, StoreNotEmpty
from atm_core.transaction import Closing, LimitChange, Reopening, Withdrawal

TIME = datetime(2026, 11, 24, 17, 51, 38, 123457, tzinfo=timezone(timedelta(hours=5, minutes=30)))
JOURNAL = [
    Entry(Opening("10", 5, key="a", note="näh 😀"), Account("10", 5, last_entry=1), TIME),
    Entry(Withdrawal("10", "5.00", key='it\'s "quoted" \\ %\t'.strip()), Account("10", 0, last_entry=2), TIME),
    Entry(LimitChange("10", 0, "99.99"), Account("10", 0, 0, "99.99", last_entry=3), TIME + timedelta(microseconds=1)),
    Entry(Closing("10"), Account("10", 0, 0, "99.99", closed=True, last_entry=4), datetime.max.replace(tzinfo=UTC)),
    Entry(Reopening("10"), Account("10", 0, 0, "99.99", last_entry=5), datetime(1, 1, 2, tzinfo=UTC)),
    Entry(Opening("9", "-999999999999.99", None, 0), Account("9", "-999999999999.99", None, 0, last_entry=1)),
    Entry(Deposit("9", "0.01", "a"), Account("9", "-999999999999.98", None, 0, last_entry=2), TIME),
]


def test_exported_journal_equals_the_imported_one(url: str) -> None:
    with PostgresAccountRepository(url, []) as accounts:
        accounts.import_entries(iter(JOURNAL))
        assert list(accounts.export_entries()) == JOURNAL
        assert all(e.recorded_at is None or e.recorded_at.tzinfo is UTC for e in accounts.export_entries())
        assert list(accounts.export_entries("9")) == JOURNAL[5:]
        assert (accounts.count_accounts(), accounts.count_entries()) == (2, 7)
        assert [a.is_consistent for a in accounts.audit()] == [True] * 2
        assert deposit(accounts, "9", "0.01", "a").last_entry == 2
        assert deposit(accounts, "9", "0.01", "b").last_entry == 3
        with pytest.raises(AccountNotFound):
            next(accounts.export_entries("8"))
        with pytest.raises(StoreNotEmpty):
            accounts.import_entries([])
