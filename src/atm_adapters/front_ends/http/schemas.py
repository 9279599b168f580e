"""The schemas of the OpenAPI document, as data."""

from functools import partial
from typing import Final

from litestar.openapi.spec import OpenAPIType, Reference, Schema

from atm_core import MAX_MONEY
from atm_core.account import ACCOUNT_NUMBER_PATTERN, MAX_ACCOUNT_NUMBER_LENGTH
from atm_core.transaction import MAX_NOTE_LENGTH, NOTE_PATTERN

_LARGEST = float(MAX_MONEY)  # 15 digits, which a double prints without change
_WHOLE_DIGITS = MAX_MONEY.adjusted() + 1
_DECIMAL = rf"0*[0-9]{{1,{_WHOLE_DIGITS}}}(\.[0-9]{{1,2}}0*)?$"
_SURROGATES = r"\ud800-\udfff"  # which the regular expressions of many tools cannot name
_MONEY = partial(Schema, type=OpenAPIType.NUMBER, minimum=-_LARGEST, maximum=_LARGEST)

STRING: Final = Schema(type=OpenAPIType.STRING)
URI_REFERENCE: Final = Schema(type=OpenAPIType.STRING, format="uri-reference")  # type: ignore[arg-type]
_NULL = Schema(type=OpenAPIType.NULL)
_BOOLEAN = Schema(type=OpenAPIType.BOOLEAN)


def reference(schema: str) -> Reference:
    """Return a reference to one of the schemas."""
    return Reference(f"#/components/schemas/{schema}")


def _object(required: list[str], *examples: object, **properties: Schema | Reference) -> Schema:
    return Schema(type=OpenAPIType.OBJECT, properties=properties, required=required, examples=list(examples) or None)


def _or_null(schema: str, description: str) -> Schema:
    return Schema(description=description, one_of=[reference(schema), _NULL])


_UNLIMITED = "Null means unlimited."
_BALANCE: dict[str, Schema | Reference] = {
    "account_number": reference("AccountNumber"),
    "balance": reference("Balance"),
}
_RECEIPT: dict[str, Schema | Reference] = {**_BALANCE, "entry": reference("EntryNumber")}
_LIMITS: dict[str, Schema | Reference] = {
    "overdraft_limit": _or_null("Limit", f"How far below zero a withdrawal may bring the balance. {_UNLIMITED}"),
    "withdrawal_limit": _or_null("Limit", f"The most that one withdrawal may take. {_UNLIMITED}"),
}
_ACCOUNT: dict[str, Schema | Reference] = {
    **_BALANCE,
    "available": _or_null("Limit", f"The sum that can be withdrawn now in all. {_UNLIMITED}"),
    **_LIMITS,
    "closed": _BOOLEAN,
}
_BALANCE_EXAMPLE = {"account_number": "0", "balance": 1100.0}
_ACCOUNT_EXAMPLE = {
    **_BALANCE_EXAMPLE,
    "available": 1600.0,
    "overdraft_limit": 500.0,
    "withdrawal_limit": None,
    "closed": False,
}
_ENTRY: dict[str, Schema | Reference] = {
    "entry": reference("EntryNumber"),
    "kind": Schema(
        type=OpenAPIType.STRING,
        description="opening, deposit, withdrawal, limit-change, closing or reopening. Later releases may add others.",
        examples=["deposit"],
    ),
    "amount": _or_null("Balance", "What was deposited or withdrawn, or the opening balance. Null if no money moved."),
    "balance": reference("Balance"),
    "note": _or_null("Note", "Null without a note."),
    "recorded_at": Schema(
        description="In UTC, with milliseconds. Null if it is not known.",
        one_of=[Schema(type=OpenAPIType.STRING, format="date-time"), _NULL],  # type: ignore[arg-type]
    ),
}
_ENTRY_EXAMPLE = {
    "entry": 16,
    "kind": "deposit",
    "amount": 100.0,
    "balance": 1100.0,
    "note": "order 1234",
    "recorded_at": "2026-11-24T09:08:11.728Z",
}
_NEW_NOTE = _or_null("Note", "A text for people, shown in the history.")
_NEW_LIMITS: dict[str, Schema | Reference] = {
    name: Schema(description=schema.description, one_of=[reference("NewLimit"), _NULL])
    for name, schema in _LIMITS.items()
}

_READY: dict[str, Schema | Reference] = {
    "status": Schema(type=OpenAPIType.STRING, const="ready"),
    "store": Schema(type=OpenAPIType.STRING, examples=["sqlite"]),
    "durable": Schema(
        type=OpenAPIType.BOOLEAN, description="Whether answered transactions survive a power cut with these settings."
    ),
    "settings": Schema(
        type=OpenAPIType.OBJECT,
        description="The settings that decide this, with the store's names for them, as read back from it.",
        additional_properties=STRING,
        examples=[{"journal_mode": "wal", "synchronous": "FULL"}],
    ),
}
_TOKENS = Schema(
    type=OpenAPIType.STRING,
    description="Whether the server knows the current access tokens. If it is outdated, their file cannot be read.",
    enum=["current", "outdated"],
)
READY_WITH_TOKENS: Final = _object(["status", "tokens"], **_READY, tokens=_TOKENS)
"""Readiness of a server that requires access tokens. Only tokens with the verb ``monitor`` see facts of the store."""

SCHEMAS: Final[dict[str, Schema]] = {
    "AccountNumber": Schema(
        type=OpenAPIType.STRING,
        pattern=f"^{ACCOUNT_NUMBER_PATTERN}$",
        min_length=1,
        max_length=MAX_ACCOUNT_NUMBER_LENGTH,
        examples=["0"],
    ),
    "Amount": Schema(
        description="A sum in the currency's major unit: positive, exact, in whole cents. "
        "A string is for clients whose numbers are floats.",
        one_of=[
            _MONEY(minimum=0.01, multiple_of=0.01, examples=[100, 10.25]),
            # At least one digit is not 0, because amounts are positive.
            Schema(type=OpenAPIType.STRING, pattern=rf"^(?=.*[1-9]){_DECIMAL}", examples=["100", "10.25"]),
        ],
        examples=[100, "10.25"],
    ),
    "Balance": _MONEY(
        description="In the currency's major unit, an exact number with two decimals. Negative when overdrawn.",
        examples=[1100.0],
    ),
    "Limit": _MONEY(description="In the currency's major unit, an exact number.", minimum=0, examples=[500.0]),
    "NewLimit": Schema(
        description="A sum in the currency's major unit, zero or more, as a number or a string.",
        one_of=[_MONEY(minimum=0, multiple_of=0.01), Schema(type=OpenAPIType.STRING, pattern=f"^{_DECIMAL}")],
        examples=[500, "10.25"],
    ),
    "Note": Schema(
        type=OpenAPIType.STRING,
        pattern=f"^{NOTE_PATTERN.replace(_SURROGATES, '')}$",
        min_length=1,
        max_length=MAX_NOTE_LENGTH,
        examples=["order 1234"],
    ),
    "EntryNumber": Schema(
        type=OpenAPIType.INTEGER,
        description="The number of the entry within the account: 1 for the opening, and one more for each next entry.",
        minimum=1,
        examples=[16],
    ),
    "AccountBalance": _object(list(_BALANCE), _BALANCE_EXAMPLE, **_BALANCE),
    "Receipt": _object(list(_RECEIPT), {**_BALANCE_EXAMPLE, "entry": 16}, **_RECEIPT),
    "Account": _object(list(_ACCOUNT), _ACCOUNT_EXAMPLE, **_ACCOUNT),
    "AccountAfterEntry": _object(
        [*_ACCOUNT, "entry"], {**_ACCOUNT_EXAMPLE, "entry": 16}, **_ACCOUNT, entry=reference("EntryNumber")
    ),
    "Entry": _object(list(_ENTRY), _ENTRY_EXAMPLE, **_ENTRY, **_LIMITS),
    "History": _object(
        ["account_number", "entries", "next"],
        {"account_number": "0", "entries": [_ENTRY_EXAMPLE], "next": "/accounts/0/history?before=16&limit=1"},
        account_number=reference("AccountNumber"),
        entries=Schema(type=OpenAPIType.ARRAY, items=reference("Entry")),
        next=Schema(
            description="The address of the page that follows, also in the header Link. Null at the end.",
            one_of=[URI_REFERENCE, _NULL],
        ),
    ),
    "Transaction": _object(
        ["amount"],
        {"amount": 100},
        {"amount": "10.25", "note": "order 1234"},
        amount=reference("Amount"),
        note=_NEW_NOTE,
    ),
    "Opening": _object(
        ["account_number"],
        {"account_number": "42", "balance": 5},
        {"account_number": "43", "overdraft_limit": 0, "withdrawal_limit": "400.00"},
        account_number=reference("AccountNumber"),
        balance=Schema(
            description="The opening balance, as a number or a string. It may be negative. The default is 0.",
            one_of=[_MONEY(multiple_of=0.01), Schema(type=OpenAPIType.STRING, pattern=f"^-?{_DECIMAL}")],
        ),
        **_NEW_LIMITS,
        note=_NEW_NOTE,
    ),
    "Limits": _object(
        list(_NEW_LIMITS), {"overdraft_limit": 500, "withdrawal_limit": None}, **_NEW_LIMITS, note=_NEW_NOTE
    ),
    "WithNote": _object([], {"note": "moved away"}, note=_NEW_NOTE),
    "Live": _object(["status"], status=Schema(type=OpenAPIType.STRING, const="live")),
    "Ready": _object(["status"], **_READY),
    "Problem": _object(
        ["type", "title", "status", "detail"],
        type=URI_REFERENCE,
        title=STRING,
        status=Schema(type=OpenAPIType.INTEGER, minimum=400, maximum=599),
        detail=STRING,
        errors=Schema(
            type=OpenAPIType.ARRAY,
            description="The wrong parts of the body, by JSON pointer.",
            items=_object(
                ["pointer", "detail"], pointer=Schema(type=OpenAPIType.STRING, examples=["#/amount"]), detail=STRING
            ),
        ),
    ),
}
SCHEMAS[
    "Problem"
].description = "An error (RFC 9457). Further members carry the facts of the error, such as account_number."
