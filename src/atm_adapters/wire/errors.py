"""Errors that adapters add to those of the core."""

from atm_core import AtmError


class InvalidBody(AtmError):
    """A request's body is not a JSON object with the expected members.

    ``pointer`` is the JSON pointer (RFC 6901, as a URI fragment) of the wrong part, ``reason`` says what is
    wrong with it, and ``example`` is a body that would be right.
    """

    code = "invalid-body"
    pointer: str
    reason: str
    example: str

    def __str__(self) -> str:
        return f"The body must be a JSON object such as {self.example}: {self.reason}."


class UnknownStore(AtmError):
    """A store URL has an unknown form. ``url`` is the URL without its password, ``reason`` says what would be right."""

    code = "unknown-store"
    url: str
    reason: str

    def __str__(self) -> str:
        return f"{self.url!a} is not a store URL. {self.reason}"


class UnknownRefusal(AtmError):
    """A server refused a request with a code that this release does not know. ``detail`` is the server's sentence."""

    code = "unknown-refusal"
    detail: str

    def __str__(self) -> str:
        return self.detail
