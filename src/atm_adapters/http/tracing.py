"""Traces, by Litestar's plugin for OpenTelemetry, with the extra ``opentelemetry``.

They are made when ``OTEL_TRACES_EXPORTER`` says where they go: ``otlp`` (over HTTP), ``console``, or the
name of another exporter that is installed. All else is as OpenTelemetry's own variables say.
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
_ENTRY_POINTS = {"otlp": "otlp_proto_http"}  # the others are called there as in the variable
_FLUSH_SECONDS = 3.0


def tracing_plugins() -> list[InitPlugin]:
    """Make the plugins that trace requests; none unless that was asked for and can be done."""
    exporter = os.environ.get(_EXPORTER, "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    try:
        from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin

        _set_up(exporter)
    except ImportError:
        logger.warning("no traces: they need an extra; install it with: pip install 'mini-atm[opentelemetry]'")
        return []
    except KeyError:
        logger.warning("no traces: %s names no exporter that is installed, such as otlp or console", _EXPORTER)
        return []
    config = OpenTelemetryConfig(scope_span_details_extractor=_before_routing, exclude_spans=["receive", "send"])
    return [OpenTelemetryPlugin(config), _Routes()]


def _set_up(exporter: str) -> None:
    """Make the process send its traces, unless whoever made the application has seen to that.

    :raises KeyError: if there is no such exporter.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        make_exporter = entry_points(group="opentelemetry_traces_exporter")[
            _ENTRY_POINTS.get(exporter, exporter)
        ].load()
        provider = TracerProvider(shutdown_on_exit=False)  # it would wait long for a collector that is away
        provider.add_span_processor(BatchSpanProcessor(make_exporter()))
        trace.set_tracer_provider(provider)


def _before_routing(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Name a span whose route is not known yet; the path has an account's number in it."""
    return str(scope.get("method")), {}


class _Routes(InitPlugin):
    """Names spans by their routes, and sends what is left when the application ends."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add both to an application."""
        app_config.middleware.append(_named_by_route)
        app_config.on_shutdown.append(_flush)
        return app_config


def _named_by_route(app: ASGIApp) -> ASGIApp:
    from opentelemetry import trace
    from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE

    def name_and_go_on(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        span, route = trace.get_current_span(), scope["path_template"]
        span.update_name(f"{scope.get('method')} {route}")
        span.set_attribute(HTTP_ROUTE, route)
        return app(scope, receive, send)

    return name_and_go_on


async def _flush() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        flushing = Thread(target=provider.force_flush, daemon=True)  # which minds no time limit of its own
        flushing.start()
        await asyncio.to_thread(flushing.join, _FLUSH_SECONDS)
