"""The documents of the API: ``/openapi.json``, the page ``/docs``, and the files that the page loads.

They are bytes that are made once. Making the OpenAPI document for each request took 3 ms of processor time.
"""

import asyncio
from functools import cache
from html import escape
from http import HTTPStatus
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, Final

from litestar import Litestar, Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.response import Redirect
from litestar.types import Receive, Scope, Send

from atm_adapters.front_ends.http.openapi import DESCRIPTION, describe_access
from atm_adapters.front_ends.http.schemas import SCHEMAS
from atm_adapters.wire.exact_json import encode

DOCS_PATH: Final = "/docs"
_TITLE: Final = "Mini-ATM"
_ASSETS: Final = f"{DOCS_PATH}/assets"
_MEDIA_TYPES: Final = {"swagger-ui-bundle.js": b"text/javascript", "swagger-ui.css": b"text/css"}
_CHUNK_BYTES: Final = 16 * 1024

_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(_TITLE)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{_ASSETS}/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="{_ASSETS}/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null}})</script>
</body>
</html>
"""


class FixedResponse:
    """Bytes as an ASGI response. A client that reads slowly holds a few chunks in memory, not all of it."""

    def __init__(self, body: bytes, media_type: bytes) -> None:
        self._body = body
        self._headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self._headers})
        for begin in range(0, len(self._body), _CHUNK_BYTES):
            end = begin + _CHUNK_BYTES
            chunk = self._body[begin:end]
            await send({"type": "http.response.body", "body": chunk, "more_body": end < len(self._body)})
            await asyncio.sleep(0)  # lets the transport send the chunk, and tell whether the client reads


def docs_routes(described: list[HTTPRouteHandler], *, needs_tokens: bool) -> list[HTTPRouteHandler]:
    """Return the route handlers of the documents.

    :param described: the route handlers that the OpenAPI document describes.
    :param needs_tokens: whether the server requires access tokens.
    """
    openapi = FixedResponse(_openapi_document(described, needs_tokens), b"application/json")
    page = FixedResponse(_PAGE.encode(), b"text/html; charset=utf-8")

    @get("/", include_in_schema=False, opt={"may": None}, sync_to_thread=False)
    def redirect_to_docs() -> Redirect:
        return Redirect(DOCS_PATH)

    @get("/openapi.json", include_in_schema=False, opt={"may": None})
    async def openapi_json() -> FixedResponse:
        return openapi

    @get(DOCS_PATH, include_in_schema=False, opt={"may": None})
    async def docs_page() -> FixedResponse:
        return page

    @get([f"{_ASSETS}/{name}" for name in _MEDIA_TYPES], include_in_schema=False, opt={"may": None})
    async def docs_asset(request: Request[Any, Any, Any]) -> FixedResponse:
        return _asset(request.scope["path"].rpartition("/")[2])

    return [redirect_to_docs, openapi_json, docs_page, docs_asset]


def _openapi_document(described: list[HTTPRouteHandler], needs_tokens: bool) -> bytes:
    """Let Litestar describe the routes. An application of its own has no other routes, such as Litestar's own docs."""
    config = OpenAPIConfig(title=_TITLE, version=version("mini-atm"), description=DESCRIPTION)
    openapi = Litestar(described, openapi_config=config, logging_config=None).openapi_schema
    openapi.components.schemas = SCHEMAS
    if needs_tokens:
        describe_access(openapi, {str(handler.operation_id): handler.opt["may"] for handler in described})
    return encode(openapi.to_schema())


@cache
def _asset(name: str) -> FixedResponse:
    # Importing the package would import a template engine, which the page does not need.
    path = Path(str(distribution("swagger-ui-py").locate_file(f"swagger_ui/static/{name}")))
    return FixedResponse(path.read_bytes(), _MEDIA_TYPES[name])
