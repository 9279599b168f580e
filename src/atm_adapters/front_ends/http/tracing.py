"""Traces, with Litestar's OpenTelemetry plugin and the extra ``opentelemetry``.

``OTEL_TRACES_EXPORTER`` turns them on and names the exporter: ``otlp`` (over HTTP), ``console``, or another
installed exporter. OpenTelemetry's own variables configure everything else.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable
from importlib.metadata import entry_points
from threading import Thread
from typing import Any

from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin
from litestar.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENTRY_POINTS = {"otlp": "otlp_proto_http"}  # the entry points of other exporters have the name in the variable
_FLUSH_SECONDS = 3.0


def tracing_plugins() -> list[InitPlugin]:
    """Return the plugins that trace requests, or none if tracing is off or cannot be set up."""
    exporter = os.environ.get(_EXPORTER, "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    try:
        from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin

        _set_up(exporter)
    except ImportError:
        logger.warning(
            "no traces: packages are missing; install them with: pip install opentelemetry-exporter-otlp-proto-http "
            "opentelemetry-instrumentation-asgi opentelemetry-sdk"
        )
        return []
    except KeyError:
        logger.warning("no traces: %s must name an installed exporter, such as otlp or console", _EXPORTER)
        return []
    config = OpenTelemetryConfig(scope_span_details_extractor=_before_routing, exclude_spans=["receive", "send"])
    return [OpenTelemetryPlugin(config), _Routes()]


def _set_up(exporter: str) -> None:
    """Set up the exporter of this process, unless the caller of ``create_app`` has set up one.

    :raises KeyError: if there is no such exporter.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        exporters = entry_points(group="opentelemetry_traces_exporter")
        make_exporter = exporters[_ENTRY_POINTS.get(exporter, exporter)].load()
        provider = TracerProvider(shutdown_on_exit=False)  # at exit it would wait for an unreachable collector
        provider.add_span_processor(BatchSpanProcessor(make_exporter()))
        trace.set_tracer_provider(provider)


def _before_routing(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return the first name of a span, before its route is known. The path would contain an account number."""
    return str(scope.get("method")), {}


class _Routes(InitPlugin):
    """Names spans by their routes, and flushes the exporter at shutdown."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware and the shutdown hook."""
        app_config.middleware.append(_named_by_route)
        app_config.on_shutdown.append(_flush)
        return app_config


def _named_by_route(app: ASGIApp) -> ASGIApp:
    from opentelemetry import trace
    from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE

    def name_span(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        span, route = trace.get_current_span(), scope["path_template"]
        span.update_name(f"{scope.get('method')} {route}")
        span.set_attribute(HTTP_ROUTE, route)
        return app(scope, receive, send)

    return name_span


async def _flush() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        flushing = Thread(target=provider.force_flush, daemon=True)  # force_flush() ignores its timeout
        flushing.start()
        await asyncio.to_thread(flushing.join, _FLUSH_SECONDS)
