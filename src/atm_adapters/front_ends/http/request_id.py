"""Request ids. Each log line and each answer carries the client's ``X-Request-ID``, or a new one.

If the request has a valid access token, its log lines also carry the name of the token.
"""

import logging
import re
from contextvars import ContextVar
from random import getrandbits
from typing import Final

from litestar.types import Scope

HEADER: Final = b"x-request-id"

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # no characters that could forge log lines

_current: ContextVar[tuple[bytes, str | None]] = ContextVar("request", default=(b"-", None))


def begin_request(scope: Scope, token_name: str | None) -> bytes:
    """Return the id of a request, and set it for the log lines of the current task.

    :param token_name: the name of the request's access token, for the same lines.
    """
    # Not from `secrets`: an id is no secret, and the operating system's random numbers cost a system call.
    request_id = _client_id(scope) or b"%032x" % getrandbits(128)
    _current.set((request_id, token_name))
    return request_id


class RequestIdFilter(logging.Filter):
    """Sets ``request_id`` on each log record: the id of the current request, or ``-`` outside of one.

    Sets ``token`` to the name of the request's access token if it has one. ``caller`` has both.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes, and keep the record."""
        encoded_id, token_name = _current.get()
        request_id = encoded_id.decode()
        record.request_id = record.caller = request_id
        if token_name is not None:
            record.token = token_name
            record.caller = f"{request_id} {token_name}"
        return True


def _client_id(scope: Scope) -> bytes | None:
    """Return the client's id if it is well-formed."""
    for name, value in scope["headers"]:
        if name == HEADER:
            return value if _WELL_FORMED.fullmatch(value) else None
    return None
