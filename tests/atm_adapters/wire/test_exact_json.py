"""Money in JSON is converted between digits and Decimal without a float."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_adapters.wire.errors import InvalidBody
from atm_adapters.wire.exact_json import decode_amount, encode_account
from atm_core import Account, InvalidAmount
from atm_core.money import from_minor_units


@given(st.integers(-999_999_999_999_999, 999_999_999_999_999))
def test_every_balance_survives_a_client_that_reads_doubles(cents: int) -> None:
    balance = from_minor_units(cents)
    encoded = encode_account(Account("0", balance))
    assert encoded == f'{{"account_number":"0","balance":{balance}}}'.encode()
    assert f"{json.loads(encoded)['balance']:.2f}" == str(balance)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_json_number_is_decoded_exactly(number: Decimal) -> None:
    digits = str(number).replace("E+", "e")
    assert decode_amount(f'{{"amount": {digits}}}'.encode()) == Decimal(digits)


def test_nested_amount_is_not_a_duplicate() -> None:
    assert decode_amount(b'{"note": "amount", "amount": 7, "x": {"amount": 8, "y": [1e999]}, "\\"": 1}') == 7


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_string_is_decoded_unchanged(text: str) -> None:
    assert decode_amount(json.dumps({"amount": text}).encode()) == text


@pytest.mark.parametrize(
    ("body", "pointer", "reason"),
    [
        (b"", "#", "it is empty"),
        (b"{", "#", "truncated"),
        (b"{}", "#/amount", "it has no amount"),
        (b'{"Amount": 1}', "#/amount", "it has no amount"),
        (b'{"amount": 1, "amount": 1}', "#/amount", "it has more than one amount"),
        (b'{"amount": "x", "amo\\u0075nt": 1}', "#/amount", "it has more than one amount"),
        (b"[]", "#", "array"),
        (b"1", "#", "int"),
        (b"null", "#", "null"),
        (b'{"amount": 01}', "#", "malformed"),
        (b'{"amount": +1}', "#", "malformed"),
        (b'{"amount": .5}', "#", "malformed"),
        (b'{"amount": NaN}', "#", "malformed"),
        (b'{"amount": Infinity}', "#", "malformed"),
        (b'{"amount": 0x10}', "#", "malformed"),
        (b'{"amount": 1,}', "#", "malformed"),
        (b"{'amount': 1}", "#", "malformed"),
        (b'{"amount": 1} {}', "#", "trailing"),
        (b'\xef\xbb\xbf{"amount": 1}', "#", "malformed"),
        ('{"amount": 1}'.encode("utf-16"), "#", "not UTF-8"),
        (b'{"amount": "\xff"}', "#", "not UTF-8 (byte 12)"),
        (b'{"other": "\xff", "amount": 1}', "#", "not UTF-8"),
        (b'{"amount": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "#", "nested too deeply"),
        (b'{"other": ' + b'{"a":' * 10_000, "#", "nested too deeply"),
    ],
)
def test_invalid_body_is_refused_with_pointer_and_reason(body: bytes, pointer: str, reason: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        decode_amount(body)
    assert refusal.value.pointer == pointer
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    "token", ["true", "false", "null", "[]", "[1]", "{}", '{"amount": 1}', "1e99999999999999999999"]
)
def test_amount_that_is_no_decodable_number_or_string_is_refused(token: str) -> None:
    with pytest.raises(InvalidAmount):
        decode_amount(f'{{"amount": {token}}}'.encode())
