"""Money in JSON: everything that keeps a number exact between its bytes and a Decimal is here.

JSON's numbers have no precision of their own (RFC 8259, section 6), and most decoders take them for
64-bit floats. Here a number goes from its digits to a Decimal and back, and never through a float.
"""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from atm_core import Account, Amount, AtmError, InvalidAmount

_AMOUNT_EXAMPLE = '{"amount": 10.25}'
OPENING_EXAMPLE = '{"account_number": "42", "balance": 5}'


class InvalidBody(AtmError):
    """A request's body is not a JSON object with the members that it should have.

    ``pointer`` is the JSON pointer (RFC 6901, as a URI fragment) of what is wrong, ``reason`` says why,
    ``example`` is a body that would be right.
    """

    code = "invalid-body"

    def __init__(self, pointer: str, reason: str, example: str = _AMOUNT_EXAMPLE) -> None:
        super().__init__(pointer, reason, example)
        self.pointer = pointer
        self.reason = reason
        self.example = example

    def __str__(self) -> str:
        return f"The body must be a JSON object such as {self.example}: {self.reason}."


class _AccountBody(msgspec.Struct):
    account_number: str
    balance: Decimal


class _AmountBody(msgspec.Struct):
    amount: msgspec.Raw = msgspec.Raw()  # the bytes as they came, still to be decoded


class _OpeningBody(msgspec.Struct):
    account_number: str
    balance: msgspec.Raw = msgspec.Raw(b"0")


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder(decimal_format="number")
_account_decoder = msgspec.json.Decoder(_AccountBody)
_amount_decoder = msgspec.json.Decoder(_AmountBody)
_opening_decoder = msgspec.json.Decoder(_OpeningBody)


def encode_account(account: Account) -> bytes:
    """Write an account as ``{"account_number":"0","balance":1100.00}``: always two decimals, never a float."""
    return _encoder.encode(_AccountBody(account.number, account.balance))


def encode(members: Mapping[str, object]) -> bytes:
    """Write a JSON object, in which each Decimal becomes the number that it is, digit by digit."""
    return _encoder.encode(members)


def decode_account(body: bytes) -> Account:
    """Read what :func:`encode_account` wrote.

    :raises ValueError: if it is anything else.
    """
    read = _account_decoder.decode(body)
    try:
        return Account(read.account_number, read.balance)
    except AtmError as error:
        raise ValueError(str(error)) from error


def decode_amount(body: bytes) -> Amount:
    """Read the amount from ``{"amount": 10.25}`` or ``{"amount": "10.25"}``; other members are ignored.

    :returns: exactly what was sent. Whether it is acceptable is for the core to say.
    :raises InvalidBody: if the body is not a JSON object in UTF-8 with a member ``amount``.
    :raises InvalidAmount: if that member is neither a number nor a string.
    """
    try:
        token = bytes(_amount_decoder.decode(body.decode()).amount)
        amount = _money(token) if token else None
        _refuse_repeated(b"amount", body, _AMOUNT_EXAMPLE)
    except _UNDECODABLE as error:
        raise _invalid(body, error, _AMOUNT_EXAMPLE) from error
    if amount is None:
        raise InvalidBody("#/amount", "it has no amount")
    return amount


def decode_opening(body: bytes) -> tuple[str, Amount]:
    """Read the account number and the opening balance from ``{"account_number": "42", "balance": 5}``.

    :returns: both exactly as they were sent; the balance is 0 if there is none.
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
    """Say in the words of HTTP's users why a body can't be decoded."""
    reason = str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {error.start})"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif not body:
        reason = "it is empty"
    return InvalidBody("#", reason, example)


def _money(token: bytes) -> Amount:
    """Read a sum of money from the bytes of a JSON number or string."""
    if token.startswith(b'"'):
        return msgspec.json.decode(token, type=str)
    text = token.decode()
    if text[0] not in "-0123456789":
        raise InvalidAmount(text, 'must be a JSON number or a string, such as 100, 10.25 or "10.25"')
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what even a Decimal holds
        raise InvalidAmount(text, "is too large or too precise to be money") from None


def _refuse_repeated(member: bytes, body: bytes, example: str) -> None:
    """Refuse an object that has a member twice: decoders differ in which one counts (RFC 8259, section 4)."""
    if body.count(b'"%b"' % member) <= 1 and b"\\" not in body:
        return  # the usual body: nothing in it can spell the name in another way
    name = member.decode()
    members = json.loads(body, parse_int=str, parse_float=str, object_pairs_hook=list)
    if sum(each == name for each, _ in members) > 1:
        raise InvalidBody(f"#/{name}", f"it has more than one {name}", example)
