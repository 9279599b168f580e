"""Money in JSON: everything that keeps a number exact between its bytes and a Decimal is here.

JSON's numbers have no precision of their own (RFC 8259, section 6), and most decoders take them for
64-bit floats. Here a number goes from its digits to a Decimal and back, and never through a float.
"""

import json
from decimal import Decimal, InvalidOperation

import msgspec

from atm_core import Account, Amount, AtmError, InvalidAmount


class InvalidBody(AtmError):
    """A request's body is not a JSON object with an amount.

    ``pointer`` is the JSON pointer (RFC 6901, as a URI fragment) of what is wrong, ``reason`` says why.
    """

    code = "invalid-body"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(pointer, reason)
        self.pointer = pointer
        self.reason = reason

    def __str__(self) -> str:
        return f'The body must be a JSON object such as {{"amount": 10.25}}: {self.reason}.'


class _AccountBody(msgspec.Struct):
    account_number: str
    balance: Decimal


class _AmountBody(msgspec.Struct):
    amount: msgspec.Raw = msgspec.Raw()  # the bytes as they came, still to be decoded


_account_encoder = msgspec.json.Encoder(decimal_format="number")
_amount_decoder = msgspec.json.Decoder(_AmountBody)


def encode_account(account: Account) -> bytes:
    """Write an account as ``{"account_number":"0","balance":1100.00}``: always two decimals, never a float."""
    return _account_encoder.encode(_AccountBody(account.number, account.balance))


def decode_amount(body: bytes) -> Amount:
    """Read the amount from ``{"amount": 10.25}`` or ``{"amount": "10.25"}``; other members are ignored.

    :returns: exactly what was sent. Whether it is acceptable is for the core to say.
    :raises InvalidBody: if the body is not a JSON object in UTF-8 with a member ``amount``.
    :raises InvalidAmount: if that member is neither a number nor a string.
    """
    try:
        token = bytes(_amount_decoder.decode(body.decode()).amount)
        text = msgspec.json.decode(token, type=str) if token.startswith(b'"') else token.decode()
        _refuse_repeated_amount(body)
    except msgspec.DecodeError as error:
        raise InvalidBody("#", "it is empty" if not body else str(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidBody("#", f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InvalidBody("#", "it is nested too deeply") from error

    if not token:
        raise InvalidBody("#/amount", "it has no amount")
    if token.startswith(b'"'):
        return text
    if text[0] not in "-0123456789":
        raise InvalidAmount(text, 'must be a JSON number or a string, such as 100, 10.25 or "10.25"')
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what even a Decimal holds
        raise InvalidAmount(text, "is too large or too precise to be money") from None


def _refuse_repeated_amount(body: bytes) -> None:
    """Refuse an object with two amounts: decoders differ in which one counts (RFC 8259, section 4)."""
    if body.count(b'"amount"') == 1 and b"\\" not in body:
        return  # the usual body: nothing in it can spell the name in another way
    members = json.loads(body, parse_int=str, parse_float=str, object_pairs_hook=list)
    if sum(name == "amount" for name, _ in members) > 1:
        raise InvalidBody("#/amount", "it has more than one amount")
