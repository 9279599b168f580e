"""The middleware around the whole application. It also sees requests that match no route.

Litestar serves ``/metrics/``, ``//metrics`` and ``/metrics%2F`` like ``/metrics``. A proxy's rule for ``/metrics``
would not protect them, so only the canonical form of a path is served.
"""

from collections.abc import Awaitable
from typing import Final, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from atm_adapters.front_ends.http.access import NOT_AUTHENTICATED, AccessGuard
from atm_adapters.front_ends.http.request_id import HEADER, begin_request

MAX_PATH_BYTES: Final = 1024
"""The longest path of the API has 211. Litestar caches 1,024 paths, so long ones must not reach it."""

_NO_ROUTE: Final = "/-"
SECURITY_HEADERS: Final = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Boundary:
    """Gives each request an id, lets only canonical paths match a route, and adds headers to each answer.

    HEAD is handled as GET, and its answer is sent without the body (RFC 9110, section 9.3.2).

    :param guard: checks the access tokens. Without one, every client may do everything.
    """

    def __init__(self, app: ASGIApp, guard: AccessGuard | None) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        token = None
        if self._guard is not None:
            scope["auth"] = token = self._guard.authenticate(scope)
        request_id = begin_request(scope, None if token is None else token.name)
        if not _is_canonical(scope["raw_path"]) or scope["path"] == NOT_AUTHENTICATED:
            scope["path"] = _NO_ROUTE
        if token is None and self._guard is not None and not self._guard.is_open(scope):
            scope["path"] = NOT_AUTHENTICATED
        if scope.get("method") == "HEAD":
            scope = cast("Scope", {**scope, "method": "GET"})  # a copy, because the server reads the method of its own
            send = _without_body(send)

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, request_id), *SECURITY_HEADERS]
            return send(message)

        await self._app(scope, receive, send_with_headers)


def _without_body(send: Send) -> Send:
    def send_head(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.body":
            message["body"] = b""
        return send(message)

    return send_head


def _is_canonical(path: bytes) -> bool:
    """Return whether a path, as sent, has no trailing, double or encoded slash and is not too long."""
    return (
        len(path) <= MAX_PATH_BYTES
        and path[:1] == b"/"
        and (path[-1:] != b"/" or path == b"/")
        and b"//" not in path
        and (b"%" not in path or b"%2f" not in path.lower())
    )
