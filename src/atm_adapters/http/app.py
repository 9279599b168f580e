"""The HTTP API as an ASGI application: ``uvicorn --factory atm_adapters.http.app:create_app``."""

import os
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litestar_offline_docs
from litestar import Litestar, MediaType, Request, get
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.params import FromPath
from litestar.response import File

from atm_adapters.http.cross_site import normal_origin, refuse_cross_site
from atm_adapters.http.health import health_routes
from atm_adapters.http.openapi import SCHEMAS
from atm_adapters.http.problems import MetricsNotInstalled, answer_problem
from atm_adapters.http.request_id import RequestIds
from atm_adapters.http.routes import account_routes
from atm_adapters.http.tracing import tracing_plugins
from atm_adapters.stores import open_awaitable_store
from atm_core import Account, AccountRepository, AtmError

if TYPE_CHECKING:
    from atm_adapters.http.metrics import Metrics

DOCS_PATH = "/docs"
_DOCS_ASSETS = f"{DOCS_PATH}/assets"
_SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "swagger-ui.css": "text/css",
}


def create_app(
    accounts: AccountRepository[Awaitable[Account]] | None = None,
    *,
    allowed_hosts: Collection[str] | None = None,
    allowed_origins: Collection[str] | None = None,
) -> Litestar:
    """Make the application.

    :param accounts: the accounts to serve; who passes them closes them. None means the default store
        (``ATM_STORE``, or the file in the user's data folder), which the application opens and closes.
    :param allowed_hosts: names that a server on the loopback interface answers to besides the loopback's
        own. None means what ``ATM_ALLOW_HOST`` names, separated by spaces.
    :param allowed_origins: origins, such as ``https://example.org``, whose web pages may move money. None
        means what ``ATM_ALLOW_ORIGIN`` names, separated by spaces.
    :raises UnknownStore: if ``ATM_STORE`` names nothing known.
    :raises StoreUnavailable: if the default store can't be opened.
    :raises ValueError: if an allowed origin is ill-formed.
    """
    if allowed_hosts is None:
        allowed_hosts = os.environ.get("ATM_ALLOW_HOST", "").split()
    if allowed_origins is None:
        allowed_origins = os.environ.get("ATM_ALLOW_ORIGIN", "").split()
    allowed_origins = [normal_origin(origin) for origin in allowed_origins]
    metrics = _metrics()
    lifespan = []
    if accounts is None:
        accounts = store = open_awaitable_store(observer=metrics)

        @asynccontextmanager
        async def closing(_: Litestar) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await store.close()

        lifespan.append(closing)

    app = Litestar(
        route_handlers=[
            *account_routes(accounts),
            *health_routes(accounts),
            openapi_json,
            docs_asset,
            *([metrics_not_installed] if metrics is None else []),
        ],
        plugins=[*([] if metrics is None else [metrics]), *tracing_plugins()],
        before_request=refuse_cross_site(allowed_hosts, allowed_origins),
        cors_config=_cors(allowed_origins) if allowed_origins else None,
        lifespan=lifespan,
        exception_handlers={AtmError: answer_problem, HTTPException: answer_problem, Exception: answer_problem},
        logging_config=None,  # whoever runs the application configures logging
        openapi_config=OpenAPIConfig(
            title="Mini-ATM",
            version=version("mini-atm"),
            description="Account balances, exact to the cent: read, deposit, withdraw.",
            path=DOCS_PATH,
            render_plugins=[_swagger_from_here()],
        ),
    )
    app.openapi_schema.components.schemas = SCHEMAS
    app.asgi_handler = RequestIds(app.asgi_handler)  # not as middleware of Litestar's, which unknown paths never reach
    return app


@get("/openapi.json", media_type=MediaType.JSON, include_in_schema=False, sync_to_thread=False)
def openapi_json(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Answer the API's description."""
    return request.app.openapi_schema.to_schema()


@get("/metrics", include_in_schema=False, sync_to_thread=False)
def metrics_not_installed() -> None:
    """Tell what to install."""
    raise MetricsNotInstalled


@get(f"{_DOCS_ASSETS}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
def docs_asset(name: FromPath[str]) -> File:
    """Answer a file that the docs page loads; they have fixed names, and no other file can be named."""
    if name not in _SWAGGER_FILES:
        raise NotFoundException
    path = Path(litestar_offline_docs.__file__).parent / "static" / name
    return File(path, content_disposition_type="inline", media_type=_SWAGGER_FILES[name])


def _cors(allowed_origins: list[str]) -> CORSConfig:
    """Let pages of these origins send what the API takes, and read what it answers (https://fetch.spec.whatwg.org)."""
    return CORSConfig(
        allow_origins=allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type", "Idempotency-Key", "X-Request-ID"],
        expose_headers=["Location", "Retry-After", "X-Request-ID"],
    )


def _metrics() -> "Metrics | None":
    try:
        from atm_adapters.http.metrics import Metrics
    except ImportError:  # without the extra
        return None
    return Metrics()


def _swagger_from_here() -> SwaggerRenderPlugin:
    """Swagger UI with its files served by this application, so that it works without the internet."""
    return SwaggerRenderPlugin(
        path="/",
        js_url=f"{_DOCS_ASSETS}/swagger-ui-bundle.js",
        css_url=f"{_DOCS_ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{_DOCS_ASSETS}/swagger-ui-standalone-preset.js",
        favicon="<link rel='icon' href='data:,'>",
    )
