"""Metrics for Prometheus at ``/metrics``, with the extra ``metrics``: metrics of requests and of commits.

No label contains an account number. With several workers, each writes its metrics into a shared folder,
``PROMETHEUS_MULTIPROC_DIR``, and the worker that answers ``/metrics`` adds them up.
"""

import os
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final, NamedTuple

from litestar import get
from litestar.config.app import AppConfig
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import InitPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from atm_adapters.front_ends.http.docs import FixedResponse
from atm_adapters.front_ends.http.problems import problem_code
from atm_adapters.front_ends.http.tokens import Verb

RENDER_SECONDS: Final = 1.0
"""For how long the rendered metrics are served again."""

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name for it

if folder := os.environ.get(_FOLDER):  # a cleaner of temporary files may have removed it
    Path(folder).mkdir(parents=True, exist_ok=True)

_batch_size = Histogram(
    "atm_commit_batch_size", "Transactions that shared a commit.", buckets=[2**power for power in range(11)]
)
_commit_seconds = Histogram(
    "atm_commit_duration_seconds",
    "How long the store took for a commit.",
    buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
)
_queue_length = Gauge(
    "atm_commit_queue_length", "Transactions that wait for the next commit.", multiprocess_mode="livesum"
)
_refusals = Counter("atm_refusals", "Requests answered with a problem document.", ["code"])
# Opens this process's file of counters, so that no request fails if the folder disappears. An alert watches the code.
_refusals.labels("store-unavailable")


# The names and labels of Litestar's plugin for Prometheus.
_LABELS: Final = ("method", "path", "status_code", "app_name")
_in_progress = Gauge(
    "atm_requests_in_progress", "Total requests currently in progress", _LABELS, multiprocess_mode="livesum"
)
_total = Counter("atm_requests", "Total requests", _LABELS)
_seconds = Histogram("atm_request_duration_seconds", "Request duration, in seconds", _LABELS)
_errors = Counter("atm_requests_error", "Total errors in requests", _LABELS)


class _RequestMetrics(NamedTuple):
    in_progress: Gauge
    total: Counter
    seconds: Histogram
    errors: Counter | None


class _MetricsByRequest(dict[tuple[str, str, int], _RequestMetrics]):
    """The metrics for each method, path and status. A look-up for each request takes as long as the answer."""

    def __missing__(self, key: tuple[str, str, int]) -> _RequestMetrics:
        method, path, status = key
        labels = (*key, "mini-atm")
        metrics = self[key] = _RequestMetrics(
            in_progress=_in_progress.labels(method, path, 200, "mini-atm"),  # its status is not known yet
            total=_total.labels(*labels),
            seconds=_seconds.labels(*labels),
            errors=_errors.labels(*labels) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None,
        )
        return metrics


class _RequestCounter:
    """Middleware that counts and times the requests of each route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._metrics = _MetricsByRequest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and count it."""
        method, path = str(scope.get("method")), scope["path_template"]
        status = HTTPStatus.OK.value

        def send_and_observe(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        in_progress = self._metrics[method, path, status].in_progress
        in_progress.inc()
        began = perf_counter()
        try:
            await self._app(scope, receive, send_and_observe)
        finally:
            seconds = perf_counter() - began
            in_progress.dec()
            metrics = self._metrics[method, path, status]
            metrics.total.inc()
            metrics.seconds.observe(seconds)
            if metrics.errors is not None:
                metrics.errors.inc()


class Metrics(InitPlugin):
    """Counts requests, refusals and commits, and serves ``/metrics``. It is a ``CommitObserver``."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware, the hook and the route."""
        _forget_dead_workers()
        app_config.middleware.append(_RequestCounter)
        app_config.after_exception.append(_count_refusal)
        app_config.route_handlers.append(_metrics_route())
        return app_config

    def waiting(self, transactions: int, /) -> None:
        _queue_length.set(transactions)

    def committed(self, transactions: int, seconds: float, /) -> None:
        _batch_size.observe(transactions)
        _commit_seconds.observe(seconds)


def _metrics_route() -> HTTPRouteHandler:
    """Return a route handler that renders the metrics at most once a second, because that takes milliseconds."""
    rendered, render_at = FixedResponse(b"", b""), 0.0

    @get("/metrics", include_in_schema=False, opt={"may": Verb.monitor})
    async def metrics() -> FixedResponse:
        nonlocal rendered, render_at
        if monotonic() >= render_at:
            rendered = FixedResponse(generate_latest(_registry()), CONTENT_TYPE_LATEST.encode())
            render_at = monotonic() + RENDER_SECONDS
        return rendered

    return metrics


def _registry() -> CollectorRegistry:
    if _FOLDER not in os.environ:
        return REGISTRY
    Path(os.environ[_FOLDER]).mkdir(parents=True, exist_ok=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


async def _count_refusal(error: Exception, _: Scope) -> None:
    _refusals.labels(problem_code(error)).inc()


def _forget_dead_workers() -> None:
    """Delete the gauges of workers that died. Their counters stay."""
    if folder := os.environ.get(_FOLDER):
        for file in Path(folder).glob("gauge_live*_[0-9]*.db"):
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)  # checks whether the process exists
            except ProcessLookupError:
                with suppress(FileNotFoundError):  # another worker deleted it
                    mark_process_dead(pid)  # type: ignore[no-untyped-call]
            except PermissionError:  # another user's process has this id now
                continue
