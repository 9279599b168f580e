"""What ``/metrics`` tells Prometheus, with the extra ``metrics``: Litestar's figures of requests, and those of commits.

No label names an account. With several workers each writes its figures into files of a folder that
all of them share, ``PROMETHEUS_MULTIPROC_DIR``, and whoever is asked adds them up.
"""

import os
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin
from litestar.plugins.prometheus import PrometheusConfig, PrometheusController, PrometheusMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.multiprocess import mark_process_dead

from atm_adapters.http.problems import problem_code

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


class _RequestCounter(PrometheusMiddleware):
    """Litestar's middleware, with the same metrics and labels, which it looks up once instead of at every request.

    That looking up, and a URL made to be thrown away, took as long as answering.
    """

    def __init__(self, app: ASGIApp, config: PrometheusConfig) -> None:
        super().__init__(app, config)
        self._app_name = config.app_name
        self._found: dict[tuple[str, str, int], _RequestMetrics] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, and count it."""
        method, path = str(scope.get("method")), scope["path_template"]
        status = HTTPStatus.OK.value

        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        in_progress = self._metrics_for(method, path, status).in_progress
        in_progress.inc()
        began = perf_counter()
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            seconds = perf_counter() - began
            in_progress.dec()
            metrics = self._metrics_for(method, path, status)
            metrics.total.inc()
            metrics.duration.observe(seconds)
            if metrics.errors is not None:
                metrics.errors.inc()

    def _metrics_for(self, method: str, path: str, status: int) -> "_RequestMetrics":
        key = (method, path, status)
        if key not in self._found:
            labels: dict[str, str | int | float] = {
                "method": method,
                "path": path,
                "status_code": status,
                "app_name": self._app_name,
            }
            values = labels.values()
            is_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            self._found[key] = _RequestMetrics(
                # Of which the status is not known yet; Litestar says 200.
                in_progress=self.requests_in_progress(labels).labels(method, path, 200, self._app_name),
                total=self.request_count(labels).labels(*values),
                duration=self.request_time(labels).labels(*values),
                errors=self.requests_error_count(labels).labels(*values) if is_error else None,
            )
        return self._found[key]


class _RequestMetrics(NamedTuple):
    in_progress: Gauge
    total: Counter
    duration: Histogram
    errors: Counter | None


_REQUESTS = PrometheusConfig(app_name="mini-atm", prefix="atm", group_path=True, middleware_class=_RequestCounter)


class Metrics(InitPlugin):
    """Counts requests, refusals and commits, and answers ``/metrics``. It is a ``CommitObserver``."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what counts and what answers to an application."""
        _forget_dead_workers()
        app_config.middleware.append(_REQUESTS.middleware)
        app_config.after_exception.append(_count_refusal)
        app_config.route_handlers.append(_MetricsRoute)
        return app_config

    def waiting(self, transactions: int, /) -> None:
        _queue_length.set(transactions)

    def committed(self, transactions: int, seconds: float, /) -> None:
        _batch_size.observe(transactions)
        _commit_seconds.observe(seconds)


class _MetricsRoute(PrometheusController):
    include_in_schema = False


async def _count_refusal(error: Exception, _: Scope) -> None:
    _refusals.labels(problem_code(error)).inc()


def _forget_dead_workers() -> None:
    """Take away what workers that died told of their present, such as how many waited; what they counted stays."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        for file in Path(folder).glob("gauge_live*_[0-9]*.db"):
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)  # asks whether it lives
            except ProcessLookupError:
                with suppress(FileNotFoundError):  # another worker was quicker
                    mark_process_dead(pid)  # type: ignore[no-untyped-call]
            except PermissionError:  # a process of somebody else's has that number now
                continue
