"""Problem documents (RFC 9457): how the server describes an error, and how a client rebuilds it.

The type names the error's code. The facts of the error are extension members (section 3.2), so a client
rebuilds the exception of any error class of the core without a list of its own.
"""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from inspect import signature
from typing import Any, Final, get_type_hints

import msgspec

from atm_adapters.wire.error_responses import response_for
from atm_adapters.wire.errors import InvalidBody, UnknownRefusal
from atm_adapters.wire.untrusted_text import printable
from atm_core import AtmError, InvalidAmount, InvalidNote, OutcomeUnknown, StoreUnavailable

PROBLEM_JSON: Final = "application/problem+json"

_TYPE_PREFIX: Final = "urn:mini-atm:error:"
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def problem_document(error: AtmError) -> dict[str, Any]:
    """Return the members of the problem document that describes an error."""
    # The store's name and the reason for its failure are for the operator's log.
    if isinstance(error, StoreUnavailable):
        error = StoreUnavailable("of this server", "nothing was changed; try again shortly")
    elif isinstance(error, OutcomeUnknown):
        error = OutcomeUnknown("of this server", "its log says why", error.advice)
    response = response_for(error)
    members = _members(f"{_TYPE_PREFIX}{error.code}", response.title, response.status, str(error)) | facts_of(error)
    pointer = _pointer(error)
    if pointer is not None:
        members["errors"] = [{"pointer": pointer, "detail": str(error)}]
    return members


def http_problem_document(status: int, detail: str) -> dict[str, Any]:
    """Return the members of the problem document for an error of HTTP itself, whose status says everything."""
    return _members("about:blank", HTTPStatus(status).phrase, status, detail)


def decode_problem(body: bytes) -> AtmError | None:
    """Rebuild the error that a problem document describes. Its texts are escaped so that they can be printed.

    :returns: the error, :class:`UnknownRefusal` if its code is unknown here or its facts are incomplete, or
        None if the body is not a problem document of this API.
    """
    try:
        members = _decoder.decode(body)
    except (ValueError, RecursionError, InvalidOperation):
        return None
    if not isinstance(members, dict) or not str(members.get("type")).startswith(_TYPE_PREFIX):
        return None
    for error_class in _subclasses(AtmError):
        if members["type"] == f"{_TYPE_PREFIX}{getattr(error_class, 'code', None)}":
            try:
                return error_class(**_arguments(error_class, members))
            except (msgspec.ValidationError, TypeError, RecursionError):
                break
    return UnknownRefusal(printable(str(members.get("detail", "The server gave no reason."))))


def facts_of(error: AtmError) -> dict[str, object]:
    """Return the constructor arguments of an error, except rejected input, which may be anything."""
    hints = get_type_hints(type(error).__init__)
    return {name: getattr(error, name) for name in signature(type(error)).parameters if hints.get(name) is not object}


def _pointer(error: AtmError) -> str | None:
    """Return the JSON pointer to the wrong part of the request's body, if there is one."""
    match error:
        case InvalidBody():
            return error.pointer
        case InvalidAmount():
            return f"#/{error.parameter}"
        case InvalidNote():
            return "#/note"
    return None


def _members(type_: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": type_, "title": title, "status": int(status), "detail": detail}


def _arguments(error_class: type[AtmError], members: dict[str, Any]) -> dict[str, object]:
    hints = get_type_hints(error_class.__init__)
    return {
        name: None if hints.get(name) is object else msgspec.convert(_escaped(members[name]), hints.get(name, Any))
        for name in signature(error_class).parameters
        if name in members or hints.get(name) is object  # without the others, the class has its defaults or fails
    }


def _escaped(value: Any) -> Any:
    """Return a decoded JSON value with every text in it escaped by :func:`printable`."""
    match value:
        case str():
            return printable(value)
        case list():
            return [_escaped(each) for each in value]
        case dict():
            return {printable(name): _escaped(each) for name, each in value.items()}
    return value


def _subclasses(error_class: type[AtmError]) -> Iterator[type[AtmError]]:
    for subclass in error_class.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
