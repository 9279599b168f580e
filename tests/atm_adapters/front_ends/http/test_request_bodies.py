"""Bodies are decoded to the exact values that were sent, or refused with the part that is wrong."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_adapters.front_ends.http.request_bodies import LIMITS, MOVEMENT, NOTE, OPENING, RequestBody
from atm_adapters.wire.errors import InvalidBody
from atm_core import InvalidAmount


def decode_amount(body: bytes) -> object:
    return MOVEMENT.decode(body)["amount"]


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
        (b'{"amount": 1, "note": 5}', "#/note", "its note is not a string"),
        (b'{"amount": 1, "note": ["x"]}', "#/note", "its note is not a string"),
        (b'{"amount": 1, "note": "x", "note": "x"}', "#/note", "it has more than one note"),
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


def test_members_become_the_arguments_of_the_use_case() -> None:
    assert MOVEMENT.decode(b'{"amount": "1.50", "note": "order 1234"}') == {"amount": "1.50", "note": "order 1234"}
    assert MOVEMENT.decode(b'{"amount": 1, "note": null}') == MOVEMENT.decode(b'{"amount": 1}')
    assert LIMITS.decode(b'{"overdraft_limit": 500.00, "withdrawal_limit": null}') == {
        "overdraft_limit": 500,
        "withdrawal_limit": None,
        "note": None,
    }
    assert OPENING.decode(b'{"account_number": "42"}') == {
        "account_number": "42",
        "balance": 0,
        "overdraft_limit": None,
        "withdrawal_limit": None,
        "note": None,
    }


def test_body_of_closing_may_be_missing() -> None:
    assert NOTE.decode(b"") == {}
    assert NOTE.decode(b"{}") == {"note": None}
    assert NOTE.decode(b'{"note": "moved away"}') == {"note": "moved away"}
    with pytest.raises(InvalidBody):
        NOTE.decode(b" ")


@pytest.mark.parametrize(
    ("call", "body", "pointer"),
    [
        (LIMITS, b'{"overdraft_limit": 5}', "#/withdrawal_limit"),
        (LIMITS, b'{"withdrawal_limit": 5}', "#/overdraft_limit"),
        (LIMITS, b'{"overdraft_limit": 1, "withdrawal_limit": 1, "overdraft_limit": 1}', "#/overdraft_limit"),
        (LIMITS, b'{"overdraft_limit": 1, "withdrawal_limit": 1, "withdrawal_limit": 1}', "#/withdrawal_limit"),
        (OPENING, b'{"account_number": 7}', "#/account_number"),
        (OPENING, b'{"account_number": "7", "account_number": "7"}', "#/account_number"),
        (OPENING, b'{"account_number": "7", "balance": 1, "b\\u0061lance": 1}', "#/balance"),
        (NOTE, b'{"note": "a", "note": "b"}', "#/note"),
        (NOTE, b"[]", "#"),
    ],
)
def test_wrong_member_is_named(call: RequestBody, body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        call.decode(body)
    assert refusal.value.pointer == pointer
    assert call.example in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "body", "parameter"),
    [
        (OPENING, '{"account_number": "7", "balance": null}', "balance"),
        (OPENING, '{"account_number": "7", "overdraft_limit": false}', "overdraft_limit"),
        (LIMITS, '{"overdraft_limit": null, "withdrawal_limit": [1]}', "withdrawal_limit"),
        (LIMITS, '{"overdraft_limit": 1e99999999999999999999, "withdrawal_limit": 1}', "overdraft_limit"),
    ],
)
def test_wrong_sum_of_money_is_named(call: RequestBody, body: str, parameter: str) -> None:
    with pytest.raises(InvalidAmount) as refusal:
        call.decode(body.encode())
    assert refusal.value.parameter == parameter


@pytest.mark.parametrize("call", [MOVEMENT, OPENING, LIMITS, NOTE])
def test_examples_are_accepted(call: RequestBody) -> None:
    assert call.decode(call.example.encode())
