"""Accounts and histories in JSON are converted between digits and Decimal without a float."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_adapters.wire.exact_json import (
    decode_account,
    decode_entry,
    decode_page,
    encode_account,
    encode_balance,
    encode_complete_account,
    encode_entry,
    encode_page,
    encode_receipt,
)
from atm_core import (
    Account,
    Closing,
    Deposit,
    Entry,
    LimitChange,
    Opening,
    Page,
    Reopening,
    Transaction,
    Withdrawal,
    decide,
)
from atm_core.money import from_minor_units
from atm_core.transaction import NOTE_PATTERN

ACCOUNT = Account("0", "-5", "10", "400", closed=False, last_entry=7)
MORNING = datetime(2026, 11, 24, 9, 8, 11, 728_000, UTC)

cents = st.integers(-999_999_999_999_999, 999_999_999_999_999).map(from_minor_units)
limits = st.none() | st.integers(0, 999_999_999_999_999).map(from_minor_units)


@given(cents)
def test_every_balance_survives_a_client_that_reads_doubles(balance: Decimal) -> None:
    encoded = encode_balance(Account("0", balance))
    assert encoded == f'{{"account_number":"0","balance":{balance}}}'.encode()
    assert f"{json.loads(encoded)['balance']:.2f}" == str(balance)


def test_accounts_have_the_documented_members() -> None:
    assert encode_receipt(ACCOUNT) == b'{"account_number":"0","balance":-5.00,"entry":7}'
    assert encode_account(ACCOUNT) == (
        b'{"account_number":"0","balance":-5.00,"available":5.00,'
        b'"overdraft_limit":10.00,"withdrawal_limit":400.00,"closed":false}'
    )
    assert encode_account(Account("1", 0)) == (
        b'{"account_number":"1","balance":0.00,"available":null,'
        b'"overdraft_limit":null,"withdrawal_limit":null,"closed":false}'
    )
    assert encode_complete_account(ACCOUNT) == encode_account(ACCOUNT)[:-1] + b',"entry":7}'


@given(
    st.builds(Account, st.just("a_B-9"), cents, limits, limits, closed=st.booleans(), last_entry=st.integers(0, 2**53))
)
def test_complete_account_is_decoded_without_loss(account: Account) -> None:
    decoded = decode_account(encode_complete_account(account))
    assert decoded == account
    assert decoded.last_entry == account.last_entry


def test_missing_facts_have_the_defaults_of_an_account() -> None:
    assert decode_account(encode_balance(ACCOUNT)) == Account("0", "-5")
    assert decode_account(encode_receipt(ACCOUNT)).last_entry == 7
    assert decode_account(encode_account(ACCOUNT)) == ACCOUNT


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"{", b"\xff",
        b'{"account_number": "0"}',
        b'{"account_number": 0, "balance": 1}',
        b'{"account_number": "a b", "balance": 1}',
        b'{"account_number": "0", "balance": 0.001}',
        b'{"account_number": "0", "balance": NaN}',
        b'{"account_number": "0", "balance": 1, "overdraft_limit": -1}',
        b'{"account_number": "0", "balance": 1, "closed": 1}',
        b'{"account_number": "0", "balance": 1, "entry": -1}',
        b'{"account_number": "0", "balance": 1, "entry": 1.5}',
    ],
)  # fmt: skip
def test_body_that_is_no_account_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_account(body)


ENTRIES = [
    Entry(Opening("0", 5, None, 400, "o", "first"), Account("0", 5, None, 400, last_entry=1), None),
    Entry(LimitChange("0", 10, None), Account("0", 5, 10, last_entry=2), MORNING),
    Entry(Deposit("0", "1.50", 'k"1', "order 1234"), Account("0", "6.50", 10, last_entry=3), MORNING),
    Entry(Withdrawal("0", "6.50"), Account("0", 0, 10, last_entry=4), MORNING),
    Entry(Closing("0", "c"), Account("0", 0, 10, closed=True, last_entry=5), MORNING),
    Entry(Reopening("0"), Account("0", 0, 10, last_entry=6), MORNING),
]


def test_complete_history_is_decoded_without_loss() -> None:
    for has_more in (False, True):
        page = Page(ENTRIES, has_more)
        decoded = decode_page(encode_page("0", page, "/next" if has_more else None, complete=True))
        assert decoded == page
        assert [entry.account.last_entry for entry in decoded.entries] == [1, 2, 3, 4, 5, 6]


def test_history_has_the_documented_members() -> None:
    encoded = encode_page("0", Page([ENTRIES[3], ENTRIES[0]], has_more=True), "/accounts/0/history?before=1&limit=2")
    assert encoded == (
        b'{"account_number":"0","entries":['
        b'{"entry":4,"kind":"withdrawal","amount":6.50,"balance":0.00,"note":null,'
        b'"recorded_at":"2026-11-24T09:08:11.728Z"},'
        b'{"entry":1,"kind":"opening","amount":5.00,"balance":5.00,"note":"first","recorded_at":null,'
        b'"overdraft_limit":null,"withdrawal_limit":400.00}],'
        b'"next":"/accounts/0/history?before=1&limit=2"}'
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.transaction.kind)
def test_only_kinds_that_set_limits_show_them(entry: Entry) -> None:
    members = json.loads(encode_page("0", Page([entry], has_more=False), None))["entries"][0]
    assert ("overdraft_limit" in members) == (entry.transaction.kind in ("opening", "limit-change"))
    assert (members["amount"] is None) == (entry.transaction.kind in ("limit-change", "closing", "reopening"))


def test_times_are_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 24, 10, 8, 11, 999_999, timezone(timedelta(hours=1)))
    entry = ENTRIES[2]._replace(recorded_at=moment)
    assert b'"2026-11-24T09:08:11.999Z"' in encode_page("0", Page([entry], has_more=False), None)


def test_history_without_the_optional_members_is_decoded() -> None:
    (entry,) = decode_page(encode_page("0", Page([ENTRIES[2]], has_more=False), None)).entries
    assert entry.transaction == Deposit("0", "1.50", note="order 1234")
    assert entry.account == Account("0", "6.50")


ENTRY = {"entry": 1, "kind": "deposit", "amount": 1, "balance": 1, "note": None, "recorded_at": None}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {**ENTRY, "kind": "fee"},
        {**ENTRY, "kind": "closing"},
        {**ENTRY, "amount": None},
        {**ENTRY, "amount": -1},
        {**ENTRY, "balance": None},
        {**ENTRY, "note": "\n"},
        {**ENTRY, "recorded_at": "yesterday"},
        {**ENTRY, "entry": -1},
    ],
)
def test_page_with_an_invalid_entry_is_refused(entry: dict[str, object]) -> None:
    body = {"account_number": "0", "entries": [entry], "next": None}
    with pytest.raises(ValueError, match=r"."):
        decode_page(json.dumps(body).encode())


LINE = (
    b'{"account_number":"0","entry":3,"kind":"deposit","amount":1.50,"balance":6.50,"overdraft_limit":10.00,'
    b'"withdrawal_limit":null,"closed":false,"note":"order 1234","key":"k\\"1","recorded_at":%s}'
)


def test_exported_entry_has_the_documented_members() -> None:
    assert encode_entry(ENTRIES[2]) == LINE % b'"2026-11-24T09:08:11.728000Z"'
    assert encode_entry(ENTRIES[2]._replace(recorded_at=None)) == LINE % b"null"


number = st.just("a_B-9")
amounts = st.integers(1, 999_999_999_999_999).map(from_minor_units)
key_and_note = (
    st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255),
    st.none() | st.from_regex(re.compile(NOTE_PATTERN), fullmatch=True),
)
transactions = st.one_of(
    st.builds(Deposit, number, amounts, *key_and_note),
    st.builds(Withdrawal, number, amounts, *key_and_note),
    st.builds(LimitChange, number, limits, limits, *key_and_note),
    st.builds(Closing, number, *key_and_note),
    st.builds(Reopening, number, *key_and_note),
)
openings = st.builds(Opening, number, cents | st.just(0), limits, limits, *key_and_note)
zones = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
moments = st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001 - a bound


@given(openings, st.lists(transactions, max_size=5), moments)
def test_exported_entry_is_imported_without_loss(
    opening: Opening, others: list[Transaction], recorded_at: datetime | None
) -> None:
    _, entries = decide([opening, *others], {}, {}, recorded_at)
    for entry in entries:
        imported = decode_entry(encode_entry(entry))
        assert imported == entry
        assert imported.account.last_entry == entry.account.last_entry
        assert encode_entry(imported) == encode_entry(entry)


EXPORTED = json.loads(LINE % b"null")


@pytest.mark.parametrize("member", EXPORTED)
def test_exported_entry_without_a_member_is_refused(member: str) -> None:
    with pytest.raises(ValueError, match=member):
        decode_entry(json.dumps({name: value for name, value in EXPORTED.items() if name != member}).encode())


@pytest.mark.parametrize("member", EXPORTED)
def test_exported_entry_with_a_member_twice_is_refused(member: str) -> None:
    again = json.dumps({member: EXPORTED[member]}).encode()
    with pytest.raises(ValueError, match="twice"):
        decode_entry(again[:-1] + b"," + (LINE % b"null")[1:])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("account_number", b'"a b"'),
        ("account_number", b"0"),
        ("account_number", b'"\xff"'),
        ("account_number", b'"\\ud800"'),
        ("entry", b"0"),
        ("entry", b"-1"),
        ("entry", b"3.0"),
        ("entry", b'"3"'),
        ("entry", b"9" * 100_000),
        ("kind", b'"fee"'),
        ("kind", b'"closing"'),
        ("kind", b"null"),
        ("amount", b"null"),
        ("amount", b"0"),
        ("amount", b"-1.50"),
        ("amount", b"1.505"),
        ("amount", b"12345678901234567.89"),
        ("amount", b"1e999999999"),
        ("amount", b"1e-999999999"),
        ("amount", b"1e99999999999999999999"),
        ("amount", b"9" * 100_000),
        ("amount", b"NaN"),
        ("amount", b'"NaN"'),
        ("amount", b'"sNaN"'),
        ("amount", b"Infinity"),
        ("amount", b"[" * 100_000),
        ("amount", b'{"amount":' * 100_000),
        ("balance", b"null"),
        ("balance", b"12345678901234567.89"),
        ("balance", b"true"),
        ("overdraft_limit", b"-1"),
        ("withdrawal_limit", b"0.001"),
        ("closed", b"0"),
        ("closed", b"null"),
        ("note", b'""'),
        ("note", b'"\\n"'),
        ("key", b'""'),
        ("key", b'"\xc3\xa9"'),
        ("recorded_at", b'"yesterday"'),
        ("recorded_at", b'"2026-11-24"'),
        ("recorded_at", b'"2026-11-24T09:08:11"'),
        ("recorded_at", b'"0001-01-01T00:00:00+01:00"'),
        ("recorded_at", b"1764000000"),
        ("settled", b"true"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value)[:24],
)
def test_exported_entry_with_a_wrong_member_is_refused(member: str, value: bytes) -> None:
    members = {name: json.dumps(each).encode() for name, each in EXPORTED.items()} | {member: value}
    with pytest.raises(ValueError, match=r"."):
        decode_entry(b"{" + b",".join(b'"%s":%s' % (name.encode(), each) for name, each in members.items()) + b"}")


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"\xef\xbb\xbf" + LINE % b"null", LINE % b"null" * 2])
def test_line_that_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_entry(line)


def test_spelling_of_json_makes_no_difference() -> None:
    line = LINE % b'"2026-11-24T10:08:11.728+01:00"'
    members = json.loads(line, parse_float=str)
    spelled = json.dumps(dict(reversed(members.items())), indent=1).replace('"1.50"', "15e-1").replace('"6.50"', "6.5")
    assert decode_entry(spelled.replace('"10.00"', "10").encode()) == ENTRIES[2]
