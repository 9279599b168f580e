"""What ``atm verify`` and ``atm backup`` print about accounts that their journal does not explain."""

from collections.abc import Iterable, Iterator

import msgspec

from atm_adapters.front_ends.cli.listing import counted, limit_text, status
from atm_adapters.wire.exact_json import encode, encode_complete_account
from atm_adapters.wire.untrusted_text import printable
from atm_core import Account, AuditedAccount


class Audit:
    """An audit that counts the ``accounts``, their ``entries``, and the account numbers that are ``wrong``.

    :param audited: as a store yields it.
    """

    def __init__(self, audited: Iterable[AuditedAccount]) -> None:
        self.accounts = self.entries = self.wrong = 0
        self._audited = audited

    def wrong_accounts(self) -> Iterator[AuditedAccount]:
        """Yield each account that its journal does not explain."""
        for audited in self._audited:
            self.accounts += audited.account is not None
            self.entries += audited.entries
            if not audited.is_consistent:
                self.wrong += 1
                yield audited


def audit_report(audit: Audit) -> Iterator[str]:
    """Format an audit for people: one line for each account that is wrong, then the totals."""
    for audited in audit.wrong_accounts():
        number = printable(audited.account_number)  # a damaged store may hold any text
        yield f"Account {number}: {' '.join(_findings(audited))}\n"
    verdict = f"{counted(audit.wrong, 'account')} failed" if audit.wrong else "every account matches its journal"
    yield f"Read {counted(audit.accounts, 'account')} and {counted(audit.entries, 'journal entry')}: {verdict}.\n"


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


def audit_document(audit: Audit) -> Iterator[str]:
    """Format an audit as ``{"wrong": [...], "accounts": 2, "entries": 5}``, with one line for each account.

    For each account that is wrong, ``account`` is what the store has for it and ``expected`` what its journal leads to.
    """
    begin = '{"wrong":['
    for audited in audit.wrong_accounts():
        found = {**audited._asdict(), "account": _raw(audited.account), "expected": _raw(audited.expected)}
        yield f"{begin}\n{printable(encode(found).decode())}"
        begin = ","
    end = "\n" if audit.wrong else begin
    yield f'{end}],"accounts":{audit.accounts},"entries":{audit.entries}}}\n'


def _raw(account: Account | None) -> msgspec.Raw | None:
    return None if account is None else msgspec.Raw(encode_complete_account(account))
