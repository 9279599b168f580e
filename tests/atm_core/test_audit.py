"""The audit finds every balance that does not match its journal."""

from decimal import Decimal
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from atm_core import AuditedAccount, audit
from atm_core.audit import JournalRow

CENTS = st.integers(-(10**15) + 1, 10**15 - 1)
POSITIVE_CENTS = st.integers(1, 10**15 - 1)


@st.composite
def journals_of_one_account(draw: st.DrawFn) -> list[JournalRow]:
    opening = draw(CENTS)
    changes = draw(st.lists(POSITIVE_CENTS | POSITIVE_CENTS.map(lambda cents: -cents), max_size=10))
    balances = list(accumulate(changes, initial=opening))
    entries: list[JournalRow] = [
        ("0", entry, "deposit" if cents > 0 else "withdrawal", abs(cents), balance)
        for entry, (cents, balance) in enumerate(zip(changes, balances[1:], strict=True), 1)
    ]
    return [("0", 0, "opening", opening, balances[-1]), *entries]


@given(journals_of_one_account())
def test_balance_that_matches_its_journal_is_consistent(journal: list[JournalRow]) -> None:
    (account,) = audit(journal)
    assert account.is_consistent
    assert account.balance == account.expected == Decimal(journal[0][4]) / 100
    assert account.entries == len(journal) - 1


@given(journals_of_one_account(), st.data())
def test_any_changed_or_missing_row_is_found(journal: list[JournalRow], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(journal) - 1))
    number, entry, kind, amount, balance = journal[at]
    changes: dict[str, list[JournalRow]] = {
        "amount": [(number, entry, kind, amount + data.draw(POSITIVE_CENTS), balance)],
        "balance": [(number, entry, kind, amount, balance + data.draw(POSITIVE_CENTS))],
    }
    if kind != "opening":
        changes["kind"] = [(number, entry, "deposit" if kind == "withdrawal" else "withdrawal", amount, balance)]
    change = data.draw(st.sampled_from([*changes, "missing"]))
    if change == "missing" and at == 0 and len(journal) == 1:
        return  # an empty journal has no finding
    (account,) = audit([*journal[:at], *changes.get(change, []), *journal[at + 1 :]])
    assert not account.is_consistent
    if at > 0 and change != "missing":
        assert account.first_mismatch == entry


def test_audit_separates_accounts_and_reports_entries_without_one() -> None:
    journal: list[JournalRow] = [
        ("0", 0, "opening", 100, 150),
        ("0", 1, "deposit", 50, 150),
        ("1", 0, "opening", 100, 100),
        ("9", 2, "deposit", 5, 5),
    ]
    assert list(audit(journal)) == [
        AuditedAccount("0", Decimal("1.50"), Decimal("1.50"), 1, None),
        AuditedAccount("1", Decimal("1.00"), Decimal("1.00"), 0, None),
        AuditedAccount("9", None, Decimal("0.05"), 1, None),
    ]
    assert [account.is_consistent for account in audit(journal)] == [True, True, False]


def test_values_beyond_the_range_of_money_are_added_exactly() -> None:
    largest = 2**63 - 1
    (account,) = audit([("0", 0, "opening", largest, 0), ("0", 1, "deposit", largest, largest)])
    assert str(account.expected) == "184467440737095516.14"
    assert not account.is_consistent
