"""The audit of balances and journals."""

from decimal import Decimal
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from atm_core import AuditedAccount, audit
from atm_core.audit import BookEntry

CENTS = st.integers(-(10**15) + 1, 10**15 - 1)
MOVED = st.integers(1, 10**15 - 1)


@st.composite
def books_of_one_account(draw: st.DrawFn) -> list[BookEntry]:
    opening = draw(CENTS)
    moved = draw(st.lists(MOVED | MOVED.map(lambda cents: -cents), max_size=10))
    balances = list(accumulate(moved, initial=opening))
    journal: list[BookEntry] = [
        ("0", entry, "deposit" if cents > 0 else "withdrawal", abs(cents), balance)
        for entry, (cents, balance) in enumerate(zip(moved, balances[1:], strict=True), 1)
    ]
    return [("0", 0, "opening", opening, balances[-1]), *journal]


@given(books_of_one_account())
def test_a_balance_that_is_its_opening_plus_its_journal_is_right(books: list[BookEntry]) -> None:
    (account,) = audit(books)
    assert account.is_right
    assert account.balance == account.expected == Decimal(books[0][4]) / 100
    assert account.entries == len(books) - 1


@given(books_of_one_account(), st.data())
def test_any_one_line_that_was_changed_or_is_missing_is_found(books: list[BookEntry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(books) - 1))
    number, entry, kind, amount, balance = books[at]
    changes: dict[str, list[BookEntry]] = {
        "amount": [(number, entry, kind, amount + data.draw(MOVED), balance)],
        "balance": [(number, entry, kind, amount, balance + data.draw(MOVED))],
    }
    if kind != "opening":
        changes["kind"] = [(number, entry, "deposit" if kind == "withdrawal" else "withdrawal", amount, balance)]
    change = data.draw(st.sampled_from([*changes, "missing"]))
    if change == "missing" and at == 0 and len(books) == 1:
        return  # nothing is left that could be right or wrong
    (account,) = audit([*books[:at], *changes.get(change, []), *books[at + 1 :]])
    assert not account.is_right
    if at > 0 and change != "missing":
        assert account.first_wrong_entry == entry


def test_accounts_are_told_apart_and_entries_of_none_are_found() -> None:
    books: list[BookEntry] = [
        ("0", 0, "opening", 100, 150),
        ("0", 1, "deposit", 50, 150),
        ("1", 0, "opening", 100, 100),
        ("9", 2, "deposit", 5, 5),
    ]
    assert list(audit(books)) == [
        AuditedAccount("0", Decimal("1.50"), Decimal("1.50"), 1, None),
        AuditedAccount("1", Decimal("1.00"), Decimal("1.00"), 0, None),
        AuditedAccount("9", None, Decimal("0.05"), 1, None),
    ]
    assert [account.is_right for account in audit(books)] == [True, True, False]


def test_what_is_no_sum_of_money_any_more_is_still_added_up_exactly() -> None:
    largest = 2**63 - 1
    (account,) = audit([("0", 0, "opening", largest, 0), ("0", 1, "deposit", largest, largest)])
    assert str(account.expected) == "184467440737095516.14"
    assert not account.is_right
