"""Traces that a running server sends to a collector."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.postgres import free_port
from support.server import running_server

from atm_adapters.front_ends.http.tracing import tracing_plugins


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """Receive spans by OTLP over HTTP."""
    spans: list[Span] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def test_spans_are_named_by_route_and_sent_before_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        with running_server("memory:", tmp_path) as server:
            parent = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
            answer = httpx.post(f"{server.address}/accounts/0/deposit", json={"amount": 1}, headers=parent)
            assert answer.status_code == 200
            assert httpx.get(f"{server.address}/accounts/kilroy/balance").status_code == 404
            assert httpx.get(f"{server.address}/kilroy").status_code == 404
            server.stop()
    assert [span.name for span in spans] == [
        "POST /accounts/{account_number}/deposit",
        "GET /accounts/{account_number}/balance",
        "GET",
    ]
    assert spans[0].trace_id.hex() == trace_id


def test_unreachable_collector_does_not_delay_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with running_server("memory:", tmp_path) as server:
        assert httpx.get(f"{server.address}/accounts/0/balance").status_code == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "environment", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}]
)
def test_tracing_is_off_without_an_exporter(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing_plugins() == []


def test_missing_package_and_unknown_exporter_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    assert tracing_plugins() == []
    monkeypatch.setitem(sys.modules, "litestar.plugins.opentelemetry", None)
    assert tracing_plugins() == []
    assert [record.message for record in caplog.records] == [
        "no traces: OTEL_TRACES_EXPORTER must name an installed exporter, such as otlp or console",
        "no traces: packages are missing; install them with: pip install opentelemetry-exporter-otlp-proto-http "
        "opentelemetry-instrumentation-asgi opentelemetry-sdk",
    ]
