"""The spans of one delivery: receiving it, the plugin's run, its host calls, and each message it sent.

    process <mailbox>             consumer, child of the publisher's span
      run <plugin>                internal
        <host function>           internal
        send <destination>        producer; its context travels with the message, whose handling becomes its child
      send <destination>          producer: the result, known only to those who export spans

Names and attributes are OpenTelemetry's for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/), and
`warren.*` for what it has no word for.
"""

from __future__ import annotations

import time

from warren.bus import Message, Span, Trace, TraceContext, message_attributes, send_name
from warren.plugins import Outcome


class RunSpans:
    """Collects the spans of one delivery, from the moment it is made."""

    def __init__(self, message: Message, queue: str, parent: TraceContext | None) -> None:
        self.context = parent.child() if parent else TraceContext.new()
        self.run_context = self.context.child()
        self.spans: list[Span] = []
        self._parent_id = parent.span_id if parent else None
        self._start_ns = time.time_ns()
        self._queue = queue
        self._message = message

    def add_run(self, plugin: str, version: str, outcome: Outcome) -> None:
        """The plugin's run and its host calls."""
        self.spans.append(
            Span(
                f"run {plugin}",
                self.run_context,
                self.context.span_id,
                "internal",
                outcome.start_ns,
                outcome.duration_us * 1_000,
                {
                    "warren.plugin.name": plugin,
                    "warren.plugin.version": version,
                    "warren.outcome": outcome.kind,
                    "warren.fuel": outcome.fuel,
                    "warren.memory_bytes": outcome.memory_bytes,
                    "warren.host_us": outcome.host_us,
                },
                outcome.error,
            )
        )
        self.spans.extend(
            Span(
                call.name,
                self.run_context.child(),
                self.run_context.span_id,
                "internal",
                call.start_ns,
                call.duration_ns,
                {},
                call.error,
            )
            for call in outcome.host_calls
        )

    def add_sent(
        self, message: Message, context: TraceContext, parent: TraceContext, start_ns: int, error: str | None = None
    ) -> None:
        """A message that was published, from `start_ns` to its confirmation just now."""
        self.spans.append(
            Span(
                send_name(message),
                context,
                parent.span_id,
                "producer",
                start_ns,
                time.time_ns() - start_ns,
                message_attributes("send", message),
                error,
            )
        )

    def finish(self, error: str | None) -> Trace:
        """Close the span of the delivery itself, and give all that is known so far."""
        attributes = message_attributes("process", self._message, self._queue)
        if self._message.message_id is None:
            attributes["warren.request.without_message_id"] = True
        self.spans.insert(
            0,
            Span(
                f"process {self._queue}",
                self.context,
                self._parent_id,
                "consumer",
                self._start_ns,
                time.time_ns() - self._start_ns,
                attributes,
                error,
            ),
        )
        # Where not all of them have room, the last are left out: better a host call than what holds the tree together.
        ordered = sorted(self.spans, key=self._is_host_call)
        return Trace(self.context.trace_id, tuple(ordered))

    def _is_host_call(self, span: Span) -> bool:
        return span.kind == "internal" and span.parent_id == self.run_context.span_id
