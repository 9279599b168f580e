"""What ``atm show``, ``atm history`` and ``atm accounts`` print: for people, for other programs in a pipe, and as JSON.

Accounts are printed a page at a time, so a million of them need no more memory than a thousand. Sums have no
thousands separators, because users copy them into commands, which do not accept separators.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Final, TypeAlias

from atm_adapters.wire.exact_json import encode_account, encode_page, entry_members, next_page_url
from atm_adapters.wire.untrusted_text import printable
from atm_core import Account, Entry, Page
from atm_core.money import MAX_MONEY, exact_sum
from atm_core.ports import ListableStore

Pages: TypeAlias = Iterable[Sequence[Account]]

_PAGE = 1000
_WIDEST_BALANCE = len(f"-{MAX_MONEY}")
_HISTORY_COLUMNS: Final = {"Entry": ">", "Time": "<", "Kind": "<", "Amount": ">", "Balance": ">", "Note": "<"}


def account_table(account: Account) -> str:
    """Format everything about an account for people, one fact in each line."""
    facts = {
        "Account": account.account_number,
        "Balance": str(account.balance),
        "Available": limit_text(account.available),
        "Overdraft limit": limit_text(account.overdraft_limit),
        "Withdrawal limit": limit_text(account.withdrawal_limit),
        "Status": status(account),
    }
    return "\n".join(f"{name:<16}  {value}" for name, value in facts.items())


def limit_text(limit: Decimal | None) -> str:
    """Return a limit in words."""
    return "unlimited" if limit is None else str(limit)


def status(account: Account) -> str:
    """Return whether the account is closed in a word."""
    return "closed" if account.closed else "open"


def history_table(page: Page, command: str) -> Iterator[str]:
    """Format a page of a history for people: aligned, with the command that shows older entries below.

    :param command: prints the account's history.
    """
    rows = [tuple(_HISTORY_COLUMNS), *map(_history_columns, page.entries)]
    yield from aligned(rows, _HISTORY_COLUMNS.values())
    if page.has_more:
        yield f"Older entries: {command} --before {page.entries[-1].account.last_entry}\n"


def aligned(rows: Sequence[Sequence[str]], alignments: Collection[str]) -> Iterator[str]:
    """Format rows as lines whose columns have the width of their longest text.

    :param alignments: of each column: ``<`` or ``>``.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, alignments, widths, strict=True)
        yield "  ".join(f"{text:{alignment}{width}}" for text, alignment, width in cells).rstrip() + "\n"


def history_tsv(page: Page) -> Iterator[str]:
    """Format a page of a history for programs such as ``awk``: one line for each entry, with tabs between its facts."""
    for entry in page.entries:
        yield "\t".join(_history_columns(entry)) + "\n"


def history_json(account_number: str, page: Page, limit: int) -> Iterator[str]:
    """Format a page of a history as the HTTP API answers it."""
    next_url = next_page_url(account_number, page, {"limit": limit})
    yield printable(encode_page(account_number, page, next_url).decode()) + "\n"


def _history_columns(entry: Entry) -> tuple[str, ...]:
    amount = entry.amount
    if amount is not None and entry.transaction.is_debit:
        amount = amount.copy_negate()
    facts = entry_members(entry)
    columns = (facts["entry"], facts["recorded_at"], facts["kind"], amount, facts["balance"], _limits_and_note(facts))
    return tuple("" if fact is None else printable(str(fact)) for fact in columns)


def _limits_and_note(facts: dict[str, Any]) -> str:
    """Return the limits that an entry set, unless an opening left them unlimited, and its note."""
    limits = {name: facts[f"{name}_limit"] for name in ("overdraft", "withdrawal") if f"{name}_limit" in facts}
    if facts["kind"] == "opening" and set(limits.values()) == {None}:
        limits = {}
    texts = [f"{name} limit {limit_text(limit)}" for name, limit in limits.items()]
    return "; ".join(filter(None, [", ".join(texts), facts["note"]]))


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
        yield "".join(
            _row(account.account_number, str(account.balance), width, "  closed" if account.closed else "")
            for account in page
        )
    yield "-" * (width + 2 + _WIDEST_BALANCE) + "\n"
    yield _row(counted(total.count, "account"), str(total.sum), width)


def _width_for(page: Sequence[Account], least: int) -> int:
    return max([least, *(len(account.account_number) for account in page)])


def _row(account_number: str, balance: str, width: int, mark: str = "") -> str:
    return f"{account_number:<{width}}  {balance:>{_WIDEST_BALANCE}}{mark}\n"


def format_tsv(pages: Pages) -> Iterator[str]:
    """Format accounts for programs such as ``awk``: one line for each, with tabs between number, balance and status."""
    for page in pages:
        yield "".join(f"{account.account_number}\t{account.balance}\t{status(account)}\n" for account in page)


def format_json(pages: Pages) -> Iterator[str]:
    """Format accounts as ``{"accounts": [...], "count": 2, "total": 2000.00}``, with one line for each account.

    The total is exact. It may have more digits than a double holds.
    """
    total = _Total()
    yield '{"accounts":['
    separator = "\n"
    for page in total.counting(pages):
        yield separator + ",\n".join(encode_account(account).decode() for account in page)
        separator = ",\n"
    yield f'\n],"count":{total.count},"total":{total.sum}}}\n'


def counted(number: int, noun: str) -> str:
    """Return a number with a noun in the singular or plural."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"
