"""What ``atm accounts`` and ``atm verify`` print: for people, for other programs in a pipe, and as JSON.

Accounts are printed a page at a time, so a million of them need no more memory than a thousand. Sums have no
thousands separators, because users copy them into commands, which do not accept separators.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import TypeAlias

from atm_adapters.wire.exact_json import encode, encode_account
from atm_adapters.wire.untrusted_text import printable
from atm_core import Account, AuditedAccount
from atm_core.money import MAX_MONEY, exact_sum
from atm_core.ports import ListableStore

Pages: TypeAlias = Iterable[Sequence[Account]]

_PAGE = 1000
_WIDEST_BALANCE = len(f"-{MAX_MONEY}")


class _Total:
    """The number of the accounts that were listed, and the sum of their balances."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = Decimal("0.00")

    def counting(self, pages: Pages) -> Iterator[Sequence[Account]]:
        """Yield the pages unchanged, and add their accounts to the total."""
        for page in pages:
            self.count += len(page)
            for account in page:
                self.sum = exact_sum(self.sum, account.balance)
            yield page


def iter_pages(store: ListableStore) -> Iterator[Sequence[Account]]:
    """Yield all accounts of a store page by page, in the order of the store."""
    after = ""
    while page := store.list_accounts(after, _PAGE):
        yield page
        after = page[-1].account_number


def format_table(pages: Pages) -> Iterator[str]:
    """Format accounts for people: aligned, with the number of accounts and the sum of their balances below."""
    total = _Total()
    pages = total.counting(pages)
    first = next(pages, ())
    width = _width_for(first, len("1000000 accounts"))
    yield _row("Account", "Balance", width)
    for page in chain([first], pages):
        width = _width_for(page, width)
        yield "".join(_row(account.account_number, str(account.balance), width) for account in page)
    yield "-" * (width + 2 + _WIDEST_BALANCE) + "\n"
    yield _row(_counted(total.count, "account"), str(total.sum), width)


def _width_for(page: Sequence[Account], least: int) -> int:
    return max([least, *(len(account.account_number) for account in page)])


def _row(account_number: str, balance: str, width: int) -> str:
    return f"{account_number:<{width}}  {balance:>{_WIDEST_BALANCE}}\n"


def format_tsv(pages: Pages) -> Iterator[str]:
    """Format accounts for programs such as ``awk``: one line for each, with its number, a tab and its balance."""
    for page in pages:
        yield "".join(f"{account.account_number}\t{account.balance}\n" for account in page)


def format_json(pages: Pages) -> Iterator[str]:
    """Format accounts as ``{"accounts": [...], "count": 2, "total": "2000.00"}``, with one line for each account.

    The total is a string, because it may have more digits than a double holds.
    """
    total = _Total()
    yield '{"accounts":['
    separator = "\n"
    for page in total.counting(pages):
        yield separator + ",\n".join(encode_account(account).decode() for account in page)
        separator = ",\n"
    yield f'\n],"count":{total.count},"total":"{total.sum}"}}\n'


def audit_report(accounts: int, entries: int, wrong: Sequence[AuditedAccount]) -> Iterator[str]:
    """Format an audit for people: one line for each account with a wrong balance, then the totals."""
    yield from map(_finding, wrong)
    verdict = f"{_counted(len(wrong), 'account')} failed" if wrong else "every balance matches its journal"
    yield f"Read {_counted(accounts, 'account')} and {_counted(entries, 'journal entry')}: {verdict}.\n"


def _finding(account: AuditedAccount) -> str:
    entries = _counted(account.entries, "journal entry")
    number = printable(account.account_number)  # a damaged store may hold any text
    if account.balance is None:
        return f"Account {number} does not exist, but has {entries}.\n"
    if account.balance == account.expected:
        comparison = "which matches the amounts in its journal"
    else:
        comparison = f"but its opening balance and {entries} add up to {account.expected}"
    at = account.first_mismatch
    where = "" if at is None else f" The first journal entry with a wrong balance is {at}."
    return f"Account {number}: its balance is {account.balance}, {comparison}.{where}\n"


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def audit_document(accounts: int, entries: int, wrong: Iterable[AuditedAccount]) -> Iterator[str]:
    """Format an audit as ``{"accounts": 2, "entries": 5, "wrong": [...]}``.

    The expected balance is a string, because in a damaged journal it may have more digits than a double holds.
    """
    found = [{**account._asdict(), "expected": str(account.expected)} for account in wrong]
    yield printable(encode({"accounts": accounts, "entries": entries, "wrong": found}).decode()) + "\n"
