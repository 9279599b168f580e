"""The guard against requests from web pages of other sites.

A page can send requests to a server on its visitor's machine or network, with a body and without a preflight.
Browsers state the source of a request in headers that a page cannot change (``Sec-Fetch-Site``,
https://www.w3.org/TR/fetch-metadata/, and ``Origin``, RFC 6454). A page can also let its own host name resolve to
the server's address (DNS rebinding), which makes it "same-origin". The server therefore accepts as Host only IP
addresses, which a page cannot rebind, loopback names, and names that the operator allows.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.exceptions import HTTPException

from atm_adapters.wire.loopback import is_loopback

MAX_HOST_LENGTH: Final = 300
"""A name has at most 253 characters (RFC 1035). Longer values are refused before they reach a cache."""

_ONLY_READS = {"GET", "HEAD", "OPTIONS"}
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)


class HostNotAllowed(HTTPException):
    """The Host header names a host that this server does not accept."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "This Host is not accepted. The operator can allow it with: atm serve --allow-host NAME"


class InvalidHostHeader(HTTPException):
    """The request has no Host header or more than one (RFC 9112, section 3.2)."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "A request must have exactly one Host header."


class CrossSiteRequest(HTTPException):
    """A web page of another site sent the request."""

    status_code = HTTPStatus.FORBIDDEN
    detail = (
        "Pages of other sites may not change accounts. The operator can allow one with: atm serve --allow-origin URL"
    )


def normalize_origin(origin: str) -> str:
    """Return an origin in the form that browsers send: in lower case, and without a path.

    :raises ValueError: if it is not an origin such as ``https://example.org``. There is no wildcard.
    """
    normal = origin.lower().removesuffix("/")
    if _ORIGIN.fullmatch(normal) is None:
        raise ValueError(f"{origin!a} is not an origin. Write it like https://example.org, without path or wildcard.")
    return normal


def refuse_cross_site(
    allowed_hosts: Collection[str], allowed_origins: Collection[str]
) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """Return a function that Litestar calls before each request, and that raises for requests from other sites.

    :param allowed_hosts: host names, without a port, that are accepted in addition to IP addresses, loopback names
        and the address that the server states for itself.
    :param allowed_origins: origins whose pages may change accounts, as :func:`normalize_origin` returns them.
    """
    hosts = {name.lower() for name in allowed_hosts}
    origins = set(allowed_origins)

    @lru_cache(1024)
    def is_accepted(host: bytes, server: str) -> bool:
        name = _without_port(_text(host))
        return name in hosts or name == server or is_loopback(name) or _is_ip_address(name)

    async def refuse(request: Request[Any, Any, Any]) -> None:
        scope = request.scope
        host, origin, fetch_site = None, None, None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise InvalidHostHeader
                host = value
            elif name == b"origin":
                origin = _text(value)
            elif name == b"sec-fetch-site":
                fetch_site = value

        if host is None:
            raise InvalidHostHeader
        # The server states its own address. With uvicorn this is an IP address, with test clients a name.
        if len(host) > MAX_HOST_LENGTH or not is_accepted(host, scope["server"][0] if scope["server"] else ""):
            raise HostNotAllowed

        if scope["method"] in _ONLY_READS or origin in origins:
            return
        if fetch_site is not None:
            is_cross_site = fetch_site not in (b"same-origin", b"none")  # none: the user entered the address
        else:  # a browser from before 2023, or no browser
            is_cross_site = origin is not None and origin.partition("://")[2] != _text(host)
        if is_cross_site:
            raise CrossSiteRequest

    return refuse


def _text(value: bytes) -> str:
    return value.decode("latin-1").lower()


def _without_port(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as [::1
        return host


def _is_ip_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
