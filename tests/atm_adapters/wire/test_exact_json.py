"""Accounts and histories in JSON are converted between digits and Decimal without a float."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_adapters.wire.exact_json import (
    decode_account,
    decode_page,
    encode_account,
    encode_balance,
    encode_complete_account,
    encode_page,
    encode_receipt,
)
from atm_core import Account, Closing, Deposit, Entry, LimitChange, Opening, Page, Reopening, Withdrawal
from atm_core.money import from_minor_units

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
