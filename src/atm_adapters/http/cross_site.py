"""What keeps the web pages of other sites from moving money with their visitor's browser.

A page can send a request to a server on its visitor's machine or network, with a body and without
asking first. Browsers say where such a request comes from, and a page can't change what they say
(``Sec-Fetch-Site``, https://www.w3.org/TR/fetch-metadata/; ``Origin``, RFC 6454). And a page can have its
own name point to 127.0.0.1 (DNS rebinding), which makes it "the same site": so a server on the loopback
interface answers to loopback names only.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.exceptions import HTTPException

from atm_adapters.loopback import is_loopback

_ONLY_READS = {"GET", "HEAD", "OPTIONS"}
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)


class ForeignHost(HTTPException):
    """The request names a host that this server is not known by."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "This server is not known by that Host. Who runs it can allow the name with --allow-host."


class NotOneHost(HTTPException):
    """The request has no Host or several (RFC 9112, section 3.2)."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "A request must have one Host."


class ForeignPage(HTTPException):
    """The request was made by a web page of another site."""

    status_code = HTTPStatus.FORBIDDEN
    detail = "A web page of another site may not do that. Who runs the server can allow it with --allow-origin."


def normal_origin(origin: str) -> str:
    """Write an origin as browsers do: in lower case, and with nothing after host and port.

    :raises ValueError: if it is not an origin such as ``https://example.org``. There is no wildcard.
    """
    normal = origin.lower().removesuffix("/")
    if _ORIGIN.fullmatch(normal) is None:
        raise ValueError(
            f"{origin!a} is not an origin: write it like https://example.org, without a path or a wildcard."
        )
    return normal


def refuse_cross_site(
    allowed_hosts: Collection[str], allowed_origins: Collection[str]
) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """Make what is called before each request is handled, and refuses what a browser sends for a page of another site.

    :param allowed_hosts: names, without a port, that a server answers to on the loopback interface
        besides the loopback's own.
    :param allowed_origins: origins whose pages may move money, as :func:`normal_origin` writes them.
    """
    hosts = {name.lower() for name in allowed_hosts}
    origins = set(allowed_origins)

    async def refuse(request: Request[Any, Any, Any]) -> None:
        scope = request.scope
        host, origin, fetch_site = None, None, None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise NotOneHost
                host = value.decode("latin-1").lower()
            elif name == b"origin":
                origin = value.decode("latin-1").lower()
            elif name == b"sec-fetch-site":
                fetch_site = value

        if host is None:
            raise NotOneHost
        server = scope["server"]
        if server and is_loopback(server[0]):
            host_name = _without_port(host)
            if not is_loopback(host_name) and host_name not in hosts:
                raise ForeignHost

        if scope["method"] in _ONLY_READS or origin in origins:
            return
        if fetch_site is not None:
            is_foreign = fetch_site not in (b"same-origin", b"none")  # none: asked for by the user, not by a page
        else:  # a browser from before 2023, or no browser
            is_foreign = origin is not None and origin.partition("://")[2] != host
        if is_foreign:
            raise ForeignPage

    return refuse


@lru_cache(1024)
def _without_port(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as [::1
        return host
