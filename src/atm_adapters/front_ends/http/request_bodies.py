"""The JSON bodies of requests, decoded to the arguments of the use cases. Sums of money stay exact."""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from atm_adapters.wire.errors import InvalidBody
from atm_core import InvalidAmount, MoneyLike

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_WRONG_MEMBER = re.compile(r" - at `\$\.(\w+)`$")  # the end of msgspec's messages

_REQUIRED: Final = msgspec.Raw()
_ZERO: Final = msgspec.Raw(b"0")
_UNLIMITED: Final = msgspec.Raw(b"null")


# The other members are strings. A member of type Raw is the bytes of a sum of money, or of null for no limit.
class _Note(msgspec.Struct):
    note: str | None = None


class _Movement(_Note):
    amount: msgspec.Raw = _REQUIRED


class _Limits(_Note):
    overdraft_limit: msgspec.Raw = _REQUIRED
    withdrawal_limit: msgspec.Raw = _REQUIRED


class _Opening(_Note, kw_only=True):
    account_number: str
    balance: msgspec.Raw = _ZERO
    overdraft_limit: msgspec.Raw = _UNLIMITED
    withdrawal_limit: msgspec.Raw = _UNLIMITED


class RequestBody:
    """The members of a body.

    :param members: the type of each member, by the name of the use case's argument.
    :param example: a correct body, for error messages.
    :param is_required: whether an empty body is an error. Otherwise it is the same as ``{}``.
    """

    def __init__(self, members: type[msgspec.Struct], example: str, *, is_required: bool = True) -> None:
        self.example = example
        self.is_required = is_required
        self._names = members.__struct_fields__
        self._sums = [field.name for field in msgspec.structs.fields(members) if field.type is msgspec.Raw]
        self._decoder = msgspec.json.Decoder(members)

    def decode(self, body: bytes) -> dict[str, Any]:
        """Return the arguments in a body. Other members are ignored.

        :returns: the exact values that were sent. The core decides whether they are acceptable.
        :raises InvalidBody: if the body is not a JSON object in UTF-8 with these members, each at most once.
        :raises InvalidAmount: if a sum of money is neither a number nor a string.
        """
        if not body and not self.is_required:
            return {}
        try:
            text = body.decode()
            arguments = msgspec.structs.asdict(self._decoder.decode(text))
            for name in self._sums:
                arguments[name] = self._money(name, bytes(arguments[name]))
            if text.count(":") > 1:  # more than one member
                self._refuse_repeated(text)
        except _UNDECODABLE as error:
            raise self._invalid(body, error) from error
        return arguments

    def _money(self, name: str, token: bytes) -> MoneyLike | None:
        """Decode a sum of money from the bytes of a JSON number or string, or a limit also from null."""
        if not token:
            raise InvalidBody(f"#/{name}", f"it has no {name}", self.example)
        if token.startswith(b'"'):
            return msgspec.json.decode(token, type=str)
        if token == b"null" and name.endswith("_limit"):
            return None
        text = token.decode()
        if text[0] not in "-0123456789":
            raise InvalidAmount(text, 'must be a JSON number or a string, such as 100, 10.25 or "10.25"', name)
        try:
            return Decimal(text)
        except InvalidOperation:  # an exponent beyond the limits of Decimal
            raise InvalidAmount(text, "is too large or too precise to be money", name) from None

    def _refuse_repeated(self, text: str) -> None:
        """Refuse duplicate members, because decoders differ in which one they use (RFC 8259, section 4)."""
        if "\\" not in text and all(text.count(f'"{name}"') <= 1 for name in self._names):
            return  # without a backslash, a name has only one spelling
        pairs = json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=list)
        sent = [name for name, _ in pairs]
        for name in self._names:
            if sent.count(name) > 1:
                raise InvalidBody(f"#/{name}", f"it has more than one {name}", self.example)

    def _invalid(self, body: bytes, error: Exception) -> InvalidBody:
        """Return the error for a body that cannot be decoded, in words for users of HTTP."""
        pointer, reason = "#", str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = f"it is not UTF-8 (byte {error.start})"
        elif isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        elif not body:
            reason = "it is empty"
        elif member := _WRONG_MEMBER.search(reason):
            pointer, reason = f"#/{member[1]}", f"its {member[1]} is not a string"
        return InvalidBody(pointer, reason, self.example)


MOVEMENT: Final = RequestBody(_Movement, '{"amount": 10.25}')
OPENING: Final = RequestBody(_Opening, '{"account_number": "42", "balance": 5}')
LIMITS: Final = RequestBody(_Limits, '{"overdraft_limit": 500, "withdrawal_limit": null}')
NOTE: Final = RequestBody(_Note, '{"note": "moved away"}', is_required=False)
