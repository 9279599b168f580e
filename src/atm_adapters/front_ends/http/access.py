"""The check of access tokens (RFC 6750). If the server has a tokens file, all requests but a few need one.

The boundary authenticates each request before it is routed, also those to unknown paths. Each route states in its
option ``may`` which verb it needs, or None if it is for everyone. It is checked after routing. Both checks happen
before the body is read.
"""

import logging
from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, TypeAlias

from litestar import Request, asgi
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import Receive, Scope, Send

from atm_adapters.front_ends.http.tokens import TOKEN_BYTES, TOKEN_ID, AccessToken, Verb, read_tokens
from atm_adapters.wire.errors import InvalidTokensFile, NotAllowed, NotAuthenticated

logger = logging.getLogger(__name__)

NOT_AUTHENTICATED: Final = "/-/not-authenticated"
"""Requests without a valid token are routed here."""

_CHECK_SECONDS: Final = 1.0  # changes of the file take effect within two seconds
_NO_DIGEST: Final = bytes(32)
_PREFLIGHT: Final = {b"origin", b"access-control-request-method"}

_Version: TypeAlias = tuple[int, int, int, int]


class AccessGuard:
    """Checks the tokens of requests against a file, which may change while the server runs.

    If the file cannot be read any more, the tokens that it had last remain valid.

    :param file: the file, as ``atm token`` writes it.
    :param starts_without_tokens: if the file cannot be read at the start, no token is valid until it can be.
    :raises InvalidTokensFile: if the file cannot be read at the start, unless ``starts_without_tokens`` is set.
    """

    def __init__(self, file: str, *, starts_without_tokens: bool = False) -> None:
        self._file = file
        self._version: _Version | None = None
        self._tokens: Mapping[bytes, AccessToken] = {}
        self._presented: dict[bytes, bytes] = {}  # right tokens by id, because a hash takes 2 % of a request
        self._is_current = True
        self._open_paths: frozenset[str] = frozenset()
        try:
            self._read()
        except InvalidTokensFile as error:
            if not starts_without_tokens:
                raise
            self._report(error)
        self._next_check = monotonic() + _CHECK_SECONDS

    def open_to_everyone(self, routes: Iterable[BaseRoute]) -> None:
        """Let requests to the routes whose option ``may`` is None pass without a token."""
        self._open_paths = frozenset(
            route.path
            for route in routes
            if isinstance(route, HTTPRoute) and all(_may(handler) is None for handler in _stated(route))
        )

    def authenticate(self, scope: Scope) -> AccessToken | None:
        """Return the token of a request, or None unless it has exactly one valid token.

        The header is removed from the request, so that no log and no trace can contain it.
        """
        headers = scope["headers"]
        presented = None
        for field in headers:  # a list comprehension takes three times as long
            if field[0] == b"authorization":
                if presented is not None:
                    scope["headers"] = [field for field in headers if field[0] != b"authorization"]
                    return None
                presented = field
        if presented is None:
            return None
        headers.remove(presented)  # type: ignore[attr-defined] # servers pass a list
        scheme, _, secret = presented[1].partition(b" ")
        secret = secret.strip(b" ")
        if len(secret) != TOKEN_BYTES or scheme.lower() != b"bearer":
            return None
        if monotonic() >= self._next_check:
            self._check_file()
        token = self._matching(secret)
        return token if token is not None and time() < token.expires_at else None

    def is_open(self, scope: Scope) -> bool:
        """Return whether a request is answered without a token.

        A CORS preflight is, because browsers send it without one (https://fetch.spec.whatwg.org/#cors-preflight-fetch).
        """
        if scope.get("method") == "OPTIONS":
            return {name for name, _ in scope["headers"]} >= _PREFLIGHT
        return scope["path"] in self._open_paths

    def is_current(self) -> bool:
        """Return whether the tokens are those of the file."""
        if monotonic() >= self._next_check:
            self._check_file()
        return self._is_current

    def _matching(self, secret: bytes) -> AccessToken | None:
        """Return the token of the file that matches. The comparison takes the same time for all secrets of an id."""
        token_id = secret[TOKEN_ID]
        if (presented := self._presented.get(token_id)) and compare_digest(secret, presented):
            return self._tokens[token_id]
        token = self._tokens.get(token_id)
        is_right = compare_digest(sha256(secret).digest(), _NO_DIGEST if token is None else token.digest)
        if token is None or not is_right:
            return None
        self._presented[token_id] = secret
        return token

    def _check_file(self) -> None:
        """Read the file again if it was changed, or could not be read before."""
        self._next_check = monotonic() + _CHECK_SECONDS
        if self._is_current and _version(self._file) == self._version:
            return
        try:
            self._read()
        except InvalidTokensFile as error:
            if self._is_current:
                self._report(error)
        else:
            self._is_current = True
            logger.info("the tokens file %s was read again", self._file)

    def _read(self) -> None:
        version = _version(self._file)  # before it is read, so that no change is missed
        self._tokens = read_tokens(self._file)
        self._presented.clear()
        self._version = version

    def _report(self, error: InvalidTokensFile) -> None:
        self._is_current = False
        logger.error("%s Until it can be read, %d tokens that were read before remain valid.", error, len(self._tokens))


@asgi(NOT_AUTHENTICATED, copy_scope=False)
async def not_authenticated(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    """Refuse a request that the boundary did not authenticate."""
    raise NotAuthenticated


def authorize(request: Request[Any, Any, Any]) -> None:
    """Check that the token of an authenticated request covers its call.

    :raises NotAllowed: if it does not.
    """
    scope = request.scope
    if scope["method"] == "OPTIONS":  # answers with the methods of a route
        return
    verb = _may(scope["route_handler"])
    if verb is None:
        return
    token: AccessToken = scope["auth"]  # the boundary let no request without one through to such a route
    if not token.covers(verb, scope["path_params"].get("account_number")):
        raise NotAllowed(verb.value)


def may_monitor(request: Request[Any, Any, Any]) -> bool:
    """Return whether a request may see how the server works: it has a token for this, or no token is needed."""
    if "auth" not in request.scope:  # there is no guard
        return True
    token: AccessToken | None = request.scope["auth"]
    return token is not None and token.covers(Verb.monitor, None)


def _stated(route: HTTPRoute) -> list[HTTPRouteHandler]:
    """Return the handlers of a route without the one for OPTIONS, which Litestar adds."""
    return [handler for handler in route.route_handlers if "OPTIONS" not in handler.http_methods]


def _may(handler: BaseRouteHandler) -> Verb | None:
    """Return the verb that a call needs, or None if it is for everyone. Every route states it."""
    verb: Verb | None = handler.opt["may"]
    return verb


def _version(file: str) -> _Version | None:
    """Return facts that differ between two versions of a file, or None if there is no such file.

    The time of the last change also changes if only the permissions do, or if a copy keeps the time of its original.
    """
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns
