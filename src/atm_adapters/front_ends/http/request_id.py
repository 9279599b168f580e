"""Request ids. Each log line and each answer carries the client's ``X-Request-ID``, or a new one."""

import logging
import re
from contextvars import ContextVar
from random import getrandbits
from typing import Final

from litestar.types import Scope

HEADER: Final = b"x-request-id"

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # no characters that could forge log lines

_current: ContextVar[bytes] = ContextVar("request_id", default=b"-")


def begin_request(scope: Scope) -> bytes:
    """Return the id of a request, and set it for the log lines of the current task."""
    # Not from `secrets`: an id is no secret, and the operating system's random numbers cost a system call.
    request_id = _client_id(scope) or b"%032x" % getrandbits(128)
    _current.set(request_id)
    return request_id


class RequestIdFilter(logging.Filter):
    """Sets ``request_id`` on each log record: the id of the current request, or ``-`` outside of one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the id, and keep the record."""
        record.request_id = _current.get().decode()
        return True


def _client_id(scope: Scope) -> bytes | None:
    """Return the client's id if it is well-formed."""
    for name, value in scope["headers"]:
        if name == HEADER:
            return value if _WELL_FORMED.fullmatch(value) else None
    return None
