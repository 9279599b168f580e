"""An id for each request, to find all that the log says about it: the client's ``X-Request-ID``, or a new one."""

import logging
import re
from collections.abc import Awaitable
from contextvars import ContextVar
from secrets import token_hex

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # nothing that could forge or flood a log

_current: ContextVar[bytes] = ContextVar("request_id", default=b"-")


class RequestIds:
    """Middleware that gives each request an id and sends it back; it goes around everything that answers or logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request_id = _given(scope) or token_hex(16).encode()
        _current.set(request_id)

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, request_id)]
            return send(message)

        await self._app(scope, receive, send_with_id)


class RequestIdFilter(logging.Filter):
    """Gives each log record a ``request_id``: that of the request being handled, or ``-`` outside of one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add it; nothing is filtered out."""
        record.request_id = _current.get().decode()
        return True


def _given(scope: Scope) -> bytes | None:
    """The id that the client chose, if it is well formed."""
    for name, value in scope["headers"]:
        if name == _HEADER:
            return value if _WELL_FORMED.fullmatch(value) else None
    return None
