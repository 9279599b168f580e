"""Accounts, histories and exported entries in JSON: numbers stay exact between their bytes and a Decimal.

JSON does not limit the precision of numbers (RFC 8259, section 6), and most decoders read them as 64-bit
floats. This module converts digits to a Decimal and back without a float.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec

from atm_core import Account, AtmError, Entry, Page
from atm_core.transaction import transaction_of

_EntryNumber = Annotated[int, msgspec.Meta(ge=0)]


class _Balance(msgspec.Struct):
    account_number: str
    balance: Decimal


class _Receipt(_Balance):
    entry: int


class _Account(_Balance):
    available: Decimal | None
    overdraft_limit: Decimal | None
    withdrawal_limit: Decimal | None
    closed: bool


class _CompleteAccount(_Account):
    entry: int


class _DecodedAccount(_Balance):
    overdraft_limit: Decimal | None = None
    withdrawal_limit: Decimal | None = None
    closed: bool = False
    entry: _EntryNumber = 0


class _DecodedEntry(msgspec.Struct):
    entry: _EntryNumber
    kind: str
    amount: Decimal | None
    balance: Decimal
    note: str | None
    recorded_at: datetime | None
    key: str | None = None
    overdraft_limit: Decimal | None = None
    withdrawal_limit: Decimal | None = None
    closed: bool = False


class _DecodedPage(msgspec.Struct):
    account_number: str
    entries: list[_DecodedEntry]
    next: str | None


class _ExportedEntry(msgspec.Struct, forbid_unknown_fields=True):
    account_number: str
    entry: Annotated[int, msgspec.Meta(ge=1)]
    kind: str
    amount: Decimal | None
    balance: Decimal
    overdraft_limit: Decimal | None
    withdrawal_limit: Decimal | None
    closed: bool
    note: str | None
    key: str | None
    recorded_at: Annotated[datetime, msgspec.Meta(tz=True)] | None


EXPORT_MEMBERS: Final = _ExportedEntry.__struct_fields__
"""The names of an exported entry's members, in their order."""

_encoder = msgspec.json.Encoder(decimal_format="number")
_account_decoder = msgspec.json.Decoder(_DecodedAccount)
_page_decoder = msgspec.json.Decoder(_DecodedPage)
_export_decoder = msgspec.json.Decoder(_ExportedEntry)
_member_counter = json.JSONDecoder(object_pairs_hook=len)  # msgspec takes the last of several equal names


def encode(members: Mapping[str, object]) -> bytes:
    """Encode a JSON object, with each Decimal as an exact number."""
    return _encoder.encode(members)


def encode_balance(account: Account) -> bytes:
    """Encode an account as ``{"account_number":"0","balance":1100.00}``, always with two decimals."""
    return _encoder.encode(_Balance(account.account_number, account.balance))


def encode_receipt(account: Account) -> bytes:
    """Encode an account as :func:`encode_balance` does, with the number of its last entry as ``entry``."""
    return _encoder.encode(_Receipt(account.account_number, account.balance, account.last_entry))


def encode_account(account: Account) -> bytes:
    """Encode all facts about an account but its last entry. A limit of null is unlimited."""
    return _encoder.encode(_Account(*_facts(account)))


def encode_complete_account(account: Account) -> bytes:
    """Encode an account as :func:`encode_account` does, with the number of its last entry as ``entry``."""
    return _encoder.encode(_CompleteAccount(*_facts(account), account.last_entry))


def _facts(account: Account) -> tuple[str, Decimal, Decimal | None, Decimal | None, Decimal | None, bool]:
    """Return the values of ``_Account`` in its order."""
    return (
        account.account_number,
        account.balance,
        account.available,
        account.overdraft_limit,
        account.withdrawal_limit,
        account.closed,
    )


def decode_account(body: bytes) -> Account:
    """Decode an account in any of its forms. Facts that are missing have the defaults of :class:`Account`.

    :raises ValueError: if the body is anything else.
    """
    decoded = _account_decoder.decode(body)
    try:
        return Account(
            decoded.account_number,
            decoded.balance,
            decoded.overdraft_limit,
            decoded.withdrawal_limit,
            closed=decoded.closed,
            last_entry=decoded.entry,
        )
    except AtmError as error:
        raise ValueError(str(error)) from error


def next_page_url(account_number: str, page: Page, parameters: Mapping[str, object]) -> str | None:
    """Return the address of the page that follows, or None at the end.

    :param parameters: of the query for this page: ``before`` or ``after``, and ``limit``.
    """
    if not page.has_more:
        return None
    cursor: dict[str, object] = {"after" if "after" in parameters else "before": page.entries[-1].account.last_entry}
    return (
        f"/accounts/{account_number}/history?{urlencode(cursor | dict(parameters) | cursor)}"  # the cursor comes first
    )


def encode_page(account_number: str, page: Page, next_url: str | None, *, complete: bool = False) -> bytes:
    """Encode a page of an account's history.

    :param next_url: as :func:`next_page_url` returns it.
    :param complete: whether every entry has the members of :func:`entry_members` that a remote repository needs.
    """
    entries = [entry_members(entry, complete=complete) for entry in page.entries]
    return encode({"account_number": account_number, "entries": entries, "next": next_url})


def entry_members(entry: Entry, *, complete: bool = False) -> dict[str, object]:
    """Return the members of an entry in JSON.

    :param complete: whether to add the key, and the limits and ``closed`` of the account after the entry. Otherwise
        only the kinds of transaction that set the limits have them.
    """
    transaction, account, recorded_at = entry
    members = {
        "entry": account.last_entry,
        "kind": transaction.kind,
        "amount": entry.amount,
        "balance": account.balance,
        "note": transaction.note,
        "recorded_at": None if recorded_at is None else _timestamp(recorded_at, "milliseconds"),
    }
    if complete or hasattr(transaction, "overdraft_limit"):
        members |= {"overdraft_limit": account.overdraft_limit, "withdrawal_limit": account.withdrawal_limit}
    if complete:
        members |= {"closed": account.closed, "key": transaction.key}
    return members


def decode_page(body: bytes) -> Page:
    """Decode the output of :func:`encode_page`. Missing members have the defaults of :class:`Account`.

    :raises ValueError: if the body is anything else, or has an entry of an unknown kind.
    """
    page = _page_decoder.decode(body)
    try:
        return Page([_entry(page.account_number, each) for each in page.entries], has_more=page.next is not None)
    except AtmError as error:
        raise ValueError(str(error)) from error


def exported_members(entry: Entry) -> dict[str, object]:
    """Return every fact about an entry under the names of :data:`EXPORT_MEMBERS`. Times keep their microseconds."""
    members = {"account_number": entry.account.account_number, **entry_members(entry, complete=True)}
    if entry.recorded_at is not None:
        members["recorded_at"] = _timestamp(entry.recorded_at, "microseconds")
    return {name: members[name] for name in EXPORT_MEMBERS}


def encode_entry(entry: Entry) -> bytes:
    """Encode an entry as a line of an export, without the line's end. Equal entries are equal lines."""
    return encode(exported_members(entry))


def decode_entry(line: bytes) -> Entry:
    """Decode the output of :func:`encode_entry`. The time of the entry is in UTC.

    :raises ValueError: if the line is anything else. Each member must occur once, and no others.
    """
    decoded = _export_decoder.decode(line)
    if _member_counter.decode(line.decode()) != len(EXPORT_MEMBERS):
        raise ValueError("a member occurs twice: each must occur once")
    try:
        if decoded.recorded_at is not None:
            decoded.recorded_at = decoded.recorded_at.astimezone(UTC)
        return _entry(decoded.account_number, decoded)
    except (AtmError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _entry(account_number: str, decoded: _DecodedEntry | _ExportedEntry) -> Entry:
    limits = decoded.overdraft_limit, decoded.withdrawal_limit
    account = Account(account_number, decoded.balance, *limits, closed=decoded.closed, last_entry=decoded.entry)
    transaction = transaction_of(decoded.kind, account_number, decoded.amount, *limits, decoded.key, decoded.note)
    return Entry(transaction, account, decoded.recorded_at)


def _timestamp(moment: datetime, precision: str) -> str:
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
