"""What a worker exports when OpenTelemetry's environment variables ask for it, as a collector receives it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.broker import Broker
from tests.worker_process import worker_process
from warren.bus import Client, TraceContext

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples"


class Collector:
    """What came in, by path, uncompressed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    def spans(self) -> list[Span]:
        requests = map(ExportTraceServiceRequest.FromString, self.bodies["/v1/traces"])
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metric_names(self) -> set[str]:
        requests = map(ExportMetricsServiceRequest.FromString, self.bodies["/v1/metrics"])
        return {
            metric.name
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.bodies[self.path].append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_spans_and_metrics_are_exported_where_the_environment_says(broker: Broker, prefix: str) -> None:
    trace = TraceContext.new()
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "text workers"}
        async with worker_process(EXAMPLES / "digest", broker.url, prefix, environment=environment) as worker:
            async with Client(broker.url, prefix=prefix, timeout_s=60) as client:
                result = await client.call("digest", "summarise", {}, trace=trace)
            assert await worker.terminate() == 0
    assert result.trace is not None
    exported = {span.span_id.hex(): span for span in collector.spans()}
    attached = {span.context.span_id: span for span in result.trace.spans if span.name != f"send {prefix}.requests"}
    assert exported.keys() > attached.keys()
    for span_id, span in attached.items():
        assert exported[span_id].trace_id.hex() == trace.trace_id
        assert exported[span_id].name == span.name
        assert exported[span_id].parent_span_id.hex() == span.parent_id
    assert {"messaging.process.duration", "warren.run.fuel", "warren.run.memory"} <= collector.metric_names()


async def test_a_trace_that_is_not_sampled_is_not_exported_and_still_comes_with_the_result(
    broker: Broker, prefix: str
) -> None:
    trace = TraceContext(TraceContext.new().trace_id, "b7ad6b7169203331", sampled=False)
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with worker_process(EXAMPLES / "digest", broker.url, prefix, environment=environment) as worker:
            async with Client(broker.url, prefix=prefix, timeout_s=60) as client:
                result = await client.call("digest", "summarise", {}, trace=trace)
            assert await worker.terminate() == 0
    assert result.trace is not None
    assert {span.context.trace_id for span in result.trace.spans} == {trace.trace_id}
    assert collector.spans() == []
