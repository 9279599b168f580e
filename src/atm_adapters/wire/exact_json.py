"""Money in JSON: numbers stay exact between their bytes and a Decimal.

JSON does not limit the precision of numbers (RFC 8259, section 6), and most decoders read them as 64-bit
floats. This module converts digits to a Decimal and back without a float.
"""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from atm_adapters.wire.errors import InvalidBody
from atm_core import Account, AtmError, InvalidAmount, MoneyLike

AMOUNT_EXAMPLE = '{"amount": 10.25}'
OPENING_EXAMPLE = '{"account_number": "42", "balance": 5}'


class _AccountBody(msgspec.Struct):
    account_number: str
    balance: Decimal


class _AmountBody(msgspec.Struct):
    amount: msgspec.Raw = msgspec.Raw()  # the undecoded bytes


class _OpeningBody(msgspec.Struct):
    account_number: str
    balance: msgspec.Raw = msgspec.Raw(b"0")


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder(decimal_format="number")
_account_decoder = msgspec.json.Decoder(_AccountBody)
_amount_decoder = msgspec.json.Decoder(_AmountBody)
_opening_decoder = msgspec.json.Decoder(_OpeningBody)


def encode_account(account: Account) -> bytes:
    """Encode an account as ``{"account_number":"0","balance":1100.00}``, always with two decimals."""
    return _encoder.encode(_AccountBody(account.account_number, account.balance))


def encode(members: Mapping[str, object]) -> bytes:
    """Encode a JSON object, with each Decimal as an exact number."""
    return _encoder.encode(members)


def decode_account(body: bytes) -> Account:
    """Decode the output of :func:`encode_account`.

    :raises ValueError: if the body is anything else.
    """
    decoded = _account_decoder.decode(body)
    try:
        return Account(decoded.account_number, decoded.balance)
    except AtmError as error:
        raise ValueError(str(error)) from error


def decode_amount(body: bytes) -> MoneyLike:
    """Decode the amount in ``{"amount": 10.25}`` or ``{"amount": "10.25"}``. Other members are ignored.

    :returns: the exact value that was sent. The core decides whether it is acceptable.
    :raises InvalidBody: if the body is not a JSON object in UTF-8 with one member ``amount``.
    :raises InvalidAmount: if that member is neither a number nor a string.
    """
    try:
        token = bytes(_amount_decoder.decode(body.decode()).amount)
        amount = _money(token) if token else None
        _refuse_repeated(b"amount", body, AMOUNT_EXAMPLE)
    except _UNDECODABLE as error:
        raise _invalid(body, error, AMOUNT_EXAMPLE) from error
    if amount is None:
        raise InvalidBody("#/amount", "it has no amount", AMOUNT_EXAMPLE)
    return amount


def decode_opening(body: bytes) -> tuple[str, MoneyLike]:
    """Decode account number and opening balance in ``{"account_number": "42", "balance": 5}``.

    :returns: the exact values that were sent. Without a balance it is 0.
    :raises InvalidBody: if the body is not a JSON object in UTF-8 with a string ``account_number``.
    :raises InvalidAmount: if the balance is neither a number nor a string.
    """
    try:
        opening = _opening_decoder.decode(body.decode())
        balance = _money(bytes(opening.balance))
        for member in (b"account_number", b"balance"):
            _refuse_repeated(member, body, OPENING_EXAMPLE)
    except _UNDECODABLE as error:
        raise _invalid(body, error, OPENING_EXAMPLE) from error
    return opening.account_number, balance


def _invalid(body: bytes, error: Exception, example: str) -> InvalidBody:
    """Return the error for a body that cannot be decoded, in words for users of HTTP."""
    reason = str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {error.start})"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif not body:
        reason = "it is empty"
    return InvalidBody("#", reason, example)


def _money(token: bytes) -> MoneyLike:
    """Decode a sum of money from the bytes of a JSON number or string."""
    if token.startswith(b'"'):
        return msgspec.json.decode(token, type=str)
    text = token.decode()
    if text[0] not in "-0123456789":
        raise InvalidAmount(text, 'must be a JSON number or a string, such as 100, 10.25 or "10.25"')
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond the limits of Decimal
        raise InvalidAmount(text, "is too large or too precise to be money") from None


def _refuse_repeated(member: bytes, body: bytes, example: str) -> None:
    """Refuse a duplicate member, because decoders differ in which one they use (RFC 8259, section 4)."""
    if body.count(b'"%b"' % member) <= 1 and b"\\" not in body:
        return  # the usual body: without a backslash, the name has only one spelling
    name = member.decode()
    members = json.loads(body, parse_int=str, parse_float=str, object_pairs_hook=list)
    if sum(each == name for each, _ in members) > 1:
        raise InvalidBody(f"#/{name}", f"it has more than one {name}", example)
