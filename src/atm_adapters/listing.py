"""What ``atm accounts`` and ``atm verify`` print: for people, for other programs in a pipe, and as JSON.

Accounts go through a page at a time, so a million of them need no more memory than a thousand. Sums have no
thousands separators, because they are copied into commands, which take none.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import TypeAlias

from atm_adapters.capabilities import ListableStore
from atm_adapters.exact_json import encode, encode_account
from atm_core import Account, AuditedAccount
from atm_core.money import exact_sum

Pages: TypeAlias = Iterable[Sequence[Account]]

_PAGE = 1000
_WIDEST_BALANCE = len("-9999999999999.99")


class _Total:
    """Counts accounts and adds up their balances while they go by."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = Decimal("0.00")

    def counting(self, pages: Pages) -> Iterator[Sequence[Account]]:
        """Give the pages as they are."""
        for page in pages:
            self.count += len(page)
            for account in page:
                self.sum = exact_sum(self.sum, account.balance)
            yield page


def pages_of(store: ListableStore) -> Iterator[Sequence[Account]]:
    """Give all accounts of a store, in its order."""
    after = ""
    while page := store.list_accounts(after, _PAGE):
        yield page
        after = page[-1].number


def table(pages: Pages) -> Iterator[str]:
    """Accounts for people: aligned, with the number of accounts and the sum of their balances below."""
    total = _Total()
    pages = total.counting(pages)
    first = next(pages, ())
    width = _width_for(first, len("1000000 accounts"))
    yield _row("Account", "Balance", width)
    for page in chain([first], pages):
        width = _width_for(page, width)
        yield "".join(_row(account.number, str(account.balance), width) for account in page)
    yield "-" * (width + 2 + _WIDEST_BALANCE) + "\n"
    yield _row(_counted(total.count, "account"), str(total.sum), width)


def _width_for(page: Sequence[Account], least: int) -> int:
    return max([least, *(len(account.number) for account in page)])


def _row(account_number: str, balance: str, width: int) -> str:
    return f"{account_number:<{width}}  {balance:>{_WIDEST_BALANCE}}\n"


def columns(pages: Pages) -> Iterator[str]:
    """Accounts for programs such as ``awk`` and ``cut``: a line for each, with a tab, and nothing else."""
    for page in pages:
        yield "".join(f"{account.number}\t{account.balance}\n" for account in page)


def json_document(pages: Pages) -> Iterator[str]:
    """Accounts as ``{"accounts": [...], "count": 2, "total": "2000.00"}``, a line for each account.

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
    """An audit for people: a line for each account that is wrong, and how much was read."""
    yield from map(_finding, wrong)
    verdict = f"{len(wrong)} found wrong" if wrong else "each balance is as its journal makes it"
    yield f"{_counted(accounts, 'account')} and {_counted(entries, 'journal entry')} read: {verdict}.\n"


def _finding(account: AuditedAccount) -> str:
    entries = _counted(account.entries, "journal entry")
    if account.balance is None:
        return f"Account {account.account_number} does not exist, but has {entries}.\n"
    if account.balance == account.expected:
        made = "as its journal makes it"
    else:
        made = f"but its opening balance and {entries} make {account.expected}"
    at = account.first_wrong_entry
    where = "" if at is None else f"; journal entry {at} is the first that records another balance than it left"
    return f"Account {account.account_number}: its balance is {account.balance}, {made}{where}.\n"


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def audit_document(accounts: int, entries: int, wrong: Iterable[AuditedAccount]) -> Iterator[str]:
    """An audit as ``{"accounts": 2, "entries": 5, "wrong": [...]}``.

    What an account should have is a string, because in damaged books it may have more digits than a double holds.
    """
    found = [{**account._asdict(), "expected": str(account.expected)} for account in wrong]
    yield encode({"accounts": accounts, "entries": entries, "wrong": found}).decode() + "\n"
