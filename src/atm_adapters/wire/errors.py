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


class NotAuthenticated(AtmError):
    """A server needs an access token, and the request has none, or one that is unknown, expired or revoked."""

    code = "not-authenticated"

    def __str__(self) -> str:
        return (
            "A valid access token is needed: it is missing, unknown, expired or revoked. Send it in the header "
            "Authorization: Bearer TOKEN. The command takes it from ATM_TOKEN or --token-file."
        )


class NotAllowed(AtmError):
    """The access token of a request does not cover the call for this account. ``verb`` is what the call needs."""

    code = "not-allowed"
    verb: str

    def __str__(self) -> str:
        return f"The access token does not allow this. It needs the verb {self.verb!r} and access to the account."


class InvalidTokensFile(AtmError):
    """The file of access tokens cannot be read or written, or is malformed."""

    code = "invalid-tokens-file"
    file: str
    reason: str

    def __str__(self) -> str:
        return f"The tokens file {self.file} cannot be used: {self.reason}."
