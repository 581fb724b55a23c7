"""OpenTelemetry's SDK, set up by its own standard environment variables alone, and used nowhere else.

Without them nothing is set up and nothing is exported; traces still come with every result. Spans are recorded by
Warren itself (see `warren.bus.trace`) and handed to the SDK finished, so that exporting costs nothing where nobody
asked for it. Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from warren.bus import Span
from warren.manifests import runtime_version

_log = logging.getLogger(__name__)

_SCOPE: Final = InstrumentationScope("warren", str(runtime_version()))

_KINDS: Final = {
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
}

ExportSpans = Callable[[list[Span]], None]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the environment asks for: a function that exports spans, a meter whose metrics are exported."""

    export_spans: ExportSpans | None = None
    meter: Meter | None = None


@contextmanager
def telemetry() -> Iterator[Telemetry]:
    """Set up what the environment asks for. On leaving, what has not been sent yet is sent."""
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "warren-worker")})
    with ExitStack() as to_send:
        meter = export_spans = None
        if _wanted("metrics"):
            meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
            to_send.callback(meters.shutdown)
            metrics.set_meter_provider(meters)
            meter = meters.get_meter("warren.workers", str(runtime_version()))
        if _wanted("traces"):
            processor = BatchSpanProcessor(OTLPSpanExporter())
            to_send.callback(processor.shutdown)
            export_spans = _exporter(processor, resource)
        yield Telemetry(export_spans, meter)


def _wanted(signal: str) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp" if _has_endpoint(signal) else "none")
    if exporter not in ("otlp", "none"):
        _log.warning("OTEL_%s_EXPORTER=%s is not supported; only otlp and none are", signal.upper(), exporter)
    return exporter == "otlp"


def _has_endpoint(signal: str) -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def _exporter(processor: BatchSpanProcessor, resource: Resource) -> ExportSpans:
    def export(spans: list[Span]) -> None:
        for span in spans:
            if span.context.sampled:
                processor.on_end(_readable(span, resource))

    return export


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=_context(span.context.trace_id, span.context.span_id, span.context.tracestate),
        parent=_context(span.context.trace_id, span.parent_id, None) if span.parent_id else None,
        resource=resource,
        attributes=dict(span.attributes),
        kind=_KINDS[span.kind],
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_ns,
        end_time=span.start_ns + span.duration_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str, tracestate: str | None) -> SpanContext:
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([tracestate]) if tracestate else trace.DEFAULT_TRACE_STATE,
    )
