"""Request ids. Each log line and each answer carries the client's ``X-Request-ID``, or a new one."""

import logging
import re
from collections.abc import Awaitable
from contextvars import ContextVar
from secrets import token_hex

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # no characters that could forge log lines

_current: ContextVar[bytes] = ContextVar("request_id", default=b"-")


class RequestIds:
    """Middleware that assigns an id to each request and adds it to the answer. It wraps the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request_id = _client_id(scope) or token_hex(16).encode()
        _current.set(request_id)

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, request_id)]
            return send(message)

        await self._app(scope, receive, send_with_id)


class RequestIdFilter(logging.Filter):
    """Sets ``request_id`` on each log record: the id of the current request, or ``-`` outside of one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the id, and keep the record."""
        record.request_id = _current.get().decode()
        return True


def _client_id(scope: Scope) -> bytes | None:
    """Return the client's id if it is well-formed."""
    for name, value in scope["headers"]:
        if name == _HEADER:
            return value if _WELL_FORMED.fullmatch(value) else None
    return None
