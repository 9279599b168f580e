"""What ``atm verify`` prints about accounts that their journal does not explain."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from atm_adapters.front_ends.cli.listing import counted, limit_text, status
from atm_adapters.wire.exact_json import encode, encode_complete_account
from atm_adapters.wire.untrusted_text import printable
from atm_core import Account, AuditedAccount


def audit_report(accounts: int, entries: int, wrong: Sequence[AuditedAccount]) -> Iterator[str]:
    """Format an audit for people: one line for each account that is wrong, then the totals."""
    for audited in wrong:
        number = printable(audited.account_number)  # a damaged store may hold any text
        yield f"Account {number}: {' '.join(_findings(audited))}\n"
    verdict = f"{counted(len(wrong), 'account')} failed" if wrong else "every account matches its journal"
    yield f"Read {counted(accounts, 'account')} and {counted(entries, 'journal entry')}: {verdict}.\n"


def _findings(audited: AuditedAccount) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with an account."""
    account, expected = audited.account, audited.expected
    if account is None:
        yield f"It does not exist, or its row is damaged. It has {counted(audited.entries, 'journal entry')}."
    elif expected is None:
        yield "Its journal has no valid opening."
    else:
        for (fact, stored), right in zip(_facts(account).items(), _facts(expected).values(), strict=True):
            if stored != right:
                yield f"Its {fact} is {stored}, but its journal leads to {right}."
    if audited.first_mismatch is not None:
        yield f"Entry {audited.first_mismatch} is the first that does not follow from those before it."


def _facts(account: Account) -> dict[str, str]:
    return {
        "balance": str(account.balance),
        "overdraft limit": limit_text(account.overdraft_limit),
        "withdrawal limit": limit_text(account.withdrawal_limit),
        "status": status(account),
        "last entry": str(account.last_entry),
    }


def audit_document(accounts: int, entries: int, wrong: Iterable[AuditedAccount]) -> Iterator[str]:
    """Format an audit as ``{"accounts": 2, "entries": 5, "wrong": [...]}``.

    For each account that is wrong, ``account`` is what the store has for it and ``expected`` what its journal leads to.
    """
    found = [
        {**audited._asdict(), "account": _raw(audited.account), "expected": _raw(audited.expected)} for audited in wrong
    ]
    yield printable(encode({"accounts": accounts, "entries": entries, "wrong": found}).decode()) + "\n"


def _raw(account: Account | None) -> msgspec.Raw | None:
    return None if account is None else msgspec.Raw(encode_complete_account(account))
