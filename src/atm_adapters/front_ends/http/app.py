"""The HTTP API as an ASGI application: ``uvicorn --factory atm_adapters.front_ends.http.app:create_app``."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from litestar import Litestar, Request, get
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException

from atm_adapters.bootstrap import open_async_store
from atm_adapters.front_ends.http.access import AccessGuard, authorize, not_authenticated
from atm_adapters.front_ends.http.boundary import Boundary
from atm_adapters.front_ends.http.cross_site import normalize_origin, refuse_cross_site
from atm_adapters.front_ends.http.docs import docs_routes
from atm_adapters.front_ends.http.health import health_routes
from atm_adapters.front_ends.http.late_store import LateStore
from atm_adapters.front_ends.http.problems import MetricsNotInstalled, answer_problem
from atm_adapters.front_ends.http.routes import account_routes
from atm_adapters.front_ends.http.tokens import Verb
from atm_adapters.front_ends.http.tracing import tracing_plugins
from atm_core import Account, AccountRepository, AtmError, StoreUnavailable
from atm_core.ports import AsyncStore

if TYPE_CHECKING:
    from atm_adapters.front_ends.http.metrics import Metrics

_Check: TypeAlias = Callable[[Request[Any, Any, Any]], Awaitable[None]]


def create_app(
    accounts: AccountRepository[Awaitable[Account]] | None = None,
    *,
    allowed_hosts: Collection[str] | None = None,
    allowed_origins: Collection[str] | None = None,
    tokens_file: str | None = None,
    starts_unready: bool = False,
) -> Litestar:
    """Return the application.

    :param accounts: the accounts to serve. The caller must close them. Their history is served if they are an
        ``AccountHistory`` too. None means the default store (``ATM_STORE``, or the file in the user data folder),
        which the application opens and closes.
    :param allowed_hosts: host names that are accepted in addition to IP addresses and loopback names. None means
        the names in ``ATM_ALLOW_HOST``, separated by spaces.
    :param allowed_origins: origins, such as ``https://example.org``, whose web pages may change accounts. None
        means the origins in ``ATM_ALLOW_ORIGIN``, separated by spaces.
    :param tokens_file: the file that lists the access tokens, as ``atm token`` writes it. None means the file in
        ``ATM_TOKENS_FILE``. Without a file, no authentication is required.
    :param starts_unready: if the default store cannot be opened, answer 503 and open it as soon as possible. It must
        exist, even if it is the file in the user data folder. If the tokens file cannot be read, accept no token and
        read it as soon as possible.
    :raises UnknownStore: if ``ATM_STORE`` is not a store URL.
    :raises StoreUnavailable: if the default store cannot be opened, unless ``starts_unready`` is set.
    :raises InvalidTokensFile: if the tokens file cannot be read, unless ``starts_unready`` is set.
    :raises ValueError: if an allowed origin is malformed.
    """
    if tokens_file is None:
        tokens_file = os.environ.get("ATM_TOKENS_FILE") or None
    guard = None if tokens_file is None else AccessGuard(tokens_file, starts_without_tokens=starts_unready)
    if allowed_hosts is None:
        allowed_hosts = os.environ.get("ATM_ALLOW_HOST", "").split()
    if allowed_origins is None:
        allowed_origins = os.environ.get("ATM_ALLOW_ORIGIN", "").split()
    allowed_origins = [normalize_origin(origin) for origin in allowed_origins]
    metrics = _metrics()
    lifespan = []
    if accounts is None:
        accounts = store = _open_default_store(metrics, starts_unready)

        @asynccontextmanager
        async def closing(_: Litestar) -> AsyncIterator[None]:
            try:
                if isinstance(store, LateStore):
                    await store.start()
                yield
            finally:
                await store.close()

        lifespan.append(closing)

    routes = [*account_routes(accounts), *health_routes(accounts, guard)]
    app = Litestar(
        route_handlers=[
            *routes,
            *docs_routes(routes, needs_tokens=guard is not None),
            *([metrics_not_installed] if metrics is None else []),
            *([] if guard is None else [not_authenticated]),
        ],
        plugins=[*([] if metrics is None else [metrics]), *tracing_plugins()],
        before_request=_before_request(refuse_cross_site(allowed_hosts, allowed_origins), guard),
        cors_config=_cors(allowed_origins) if allowed_origins else None,
        lifespan=lifespan,
        exception_handlers={AtmError: answer_problem, HTTPException: answer_problem, Exception: answer_problem},
        logging_config=None,  # the caller configures logging
        openapi_config=None,  # its router would answer unknown paths below /docs with HTML
    )
    for route in app.routes:
        if "GET" in route.methods:
            route.methods.add("HEAD")  # for the answers to OPTIONS; the boundary handles HEAD as GET
    if guard is not None:
        guard.open_to_everyone(app.routes)
    app.asgi_handler = Boundary(app.asgi_handler, guard)  # Litestar's middleware does not see unknown paths
    return app


def _before_request(refuse: _Check, guard: AccessGuard | None) -> _Check:
    """Return the function that Litestar calls before each request, and that raises if it is refused."""
    if guard is None:
        return refuse

    async def check(request: Request[Any, Any, Any]) -> None:
        await refuse(request)
        authorize(request)

    return check


def _open_default_store(metrics: "Metrics | None", may_be_late: bool) -> AsyncStore:
    # A file that was moved away is waited for. A new one in its place would be another store.
    open_default = partial(open_async_store, create=False if may_be_late else None, observer=metrics)
    try:
        return open_default()
    except StoreUnavailable as error:
        if not may_be_late:
            raise
        return LateStore(open_default, error)


@get("/metrics", include_in_schema=False, sync_to_thread=False, opt={"may": Verb.monitor})
def metrics_not_installed() -> None:
    """Say which package to install."""
    raise MetricsNotInstalled


def _cors(allowed_origins: list[str]) -> CORSConfig:
    """Let pages of these origins send requests and read the answers (https://fetch.spec.whatwg.org)."""
    return CORSConfig(
        allow_origins=allowed_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-ID"],
        expose_headers=["Link", "Location", "Preference-Applied", "Retry-After", "X-Request-ID"],
    )


def _metrics() -> "Metrics | None":
    try:
        from atm_adapters.front_ends.http.metrics import Metrics
    except ImportError:  # prometheus-client is not installed
        return None
    return Metrics()
