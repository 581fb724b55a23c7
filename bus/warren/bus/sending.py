"""The span of one send: OpenTelemetry's own where the program has set its SDK up, plain data in any case.

The plain one is what makes a result's trace whole; its ids are the exported span's, so that both tell one story.
Names and attributes are those of https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Literal

from opentelemetry import trace as otel
from opentelemetry.context import Context

from .messages import Message
from .trace import AttributeValue, Span, TraceContext, context_of, current_trace_context


async def send(
    make: Callable[[TraceContext], Message], publish: Callable[[Message], Awaitable[None]], parent: TraceContext | None
) -> Span:
    """Publish what `make` makes of the trace context that the message is to carry; the span of it.

    The parent is `parent`, else the caller's current OpenTelemetry span; without either a trace begins here.
    """
    parent = parent or current_trace_context()
    start_ns = time.time_ns()
    began = time.perf_counter_ns()
    tracer = otel.get_tracer("warren")
    with tracer.start_as_current_span("send", _otel_context(parent), otel.SpanKind.PRODUCER) as exported:
        context = context_of(exported)
        if context is None or (parent is not None and context.span_id == parent.span_id):
            # No SDK is set up: the API gave the parent back, or nothing.
            context = parent.child() if parent else TraceContext.new()
        message = make(context)
        name, attributes = send_name(message), message_attributes("send", message)
        exported.update_name(name)
        exported.set_attributes(attributes)
        await publish(message)
    duration_ns = time.perf_counter_ns() - began
    parent_id = parent.span_id if parent else None
    return Span(name, context, parent_id, "producer", start_ns, duration_ns, attributes)


def send_name(message: Message) -> str:
    """The name of the span: of few values, so the exchange and not the key."""
    return f"send {message.exchange or message.routing_key}"


def message_attributes(
    operation: Literal["send", "process"], message: Message, queue: str | None = None
) -> dict[str, AttributeValue]:
    """The attributes of a span about `message`; `queue` is the one that it was consumed from."""
    attributes = destination_attributes(operation, message.exchange, message.routing_key, queue)
    attributes["messaging.message.body.size"] = len(message.body)
    if message.message_id is not None:
        attributes["messaging.message.id"] = message.message_id
    if message.correlation_id is not None:
        attributes["messaging.message.conversation_id"] = message.correlation_id
    return attributes


def destination_attributes(
    operation: Literal["send", "process"], exchange: str, routing_key: str, queue: str | None
) -> dict[str, AttributeValue]:
    """Those of them that many messages have in common."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": ":".join(part for part in (exchange, routing_key, queue) if part),
        "messaging.rabbitmq.destination.routing_key": routing_key,
    }


def _otel_context(parent: TraceContext | None) -> Context | None:
    """`parent` as the API wants it; None (its own current context) where there is none."""
    if parent is None or parent == current_trace_context():
        return None
    span_context = otel.SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(parent.sampled),
        trace_state=otel.TraceState.from_header([parent.tracestate]) if parent.tracestate else None,
    )
    return otel.set_span_in_context(otel.NonRecordingSpan(span_context))
