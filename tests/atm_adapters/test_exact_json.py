"""A number goes from its digits to a Decimal and back, and never through a float."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_adapters.exact_json import InvalidBody, decode_amount, encode_account
from atm_core import Account, InvalidAmount
from atm_core.money import from_minor_units


@given(st.integers(-999_999_999_999_999, 999_999_999_999_999))
def test_every_balance_is_written_with_two_decimals_and_a_client_with_doubles_reads_it_right(cents: int) -> None:
    balance = from_minor_units(cents)
    written = encode_account(Account("0", balance))
    assert written == f'{{"account_number":"0","balance":{balance}}}'.encode()
    assert f"{json.loads(written)['balance']:.2f}" == str(balance)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_json_number_is_read_as_the_decimal_that_its_digits_say(number: Decimal) -> None:
    digits = str(number).replace("E+", "e")
    assert decode_amount(f'{{"amount": {digits}}}'.encode()) == Decimal(digits)


def test_an_amount_elsewhere_in_the_body_is_no_second_amount() -> None:
    assert decode_amount(b'{"note": "amount", "amount": 7, "x": {"amount": 8, "y": [1e999]}, "\\"": 1}') == 7


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_string_is_read_as_it_is(text: str) -> None:
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
def test_a_body_that_is_not_an_object_with_an_amount_is_refused_and_the_refusal_points_at_it(
    body: bytes, pointer: str, reason: str
) -> None:
    with pytest.raises(InvalidBody) as refusal:
        decode_amount(body)
    assert refusal.value.pointer == pointer
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    "token", ["true", "false", "null", "[]", "[1]", "{}", '{"amount": 1}', "1e99999999999999999999"]
)
def test_an_amount_that_is_neither_number_nor_string_or_beyond_any_number_is_refused(token: str) -> None:
    with pytest.raises(InvalidAmount):
        decode_amount(f'{{"amount": {token}}}'.encode())
