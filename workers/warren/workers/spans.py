"""The spans of one delivery: receiving it, the plugin's run, its host calls, and each message it sent.

    process <mailbox>             consumer, child of the publisher's span
      run <plugin>                internal
        <host function>           internal
        send <destination>        producer; its context travels with the message, whose handling becomes its child
      send <destination>          producer: the result, known only to those who export spans

Names and attributes are OpenTelemetry's for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/), and
`warren.*` for what it has no word for. Where the publisher's trace is not sampled, nothing is recorded: its context
travels on, and that is all.
"""

from __future__ import annotations

import time

from warren.bus import Message, Span, Trace, TraceContext, message_attributes, read_trace_context, send_name
from warren.plugins import Outcome


class RunSpans:
    """Collects the spans of one delivery, from the moment it is made."""

    def __init__(self, message: Message, queue: str) -> None:
        self._parent = parent = read_trace_context(message.headers)
        self.context = parent.child() if parent else TraceContext.new()
        self.run_context = self.context
        self.spans: list[Span] = []
        self._start_ns = time.time_ns()
        self._queue = queue
        self._message = message

    def add_run(self, plugin: str, version: str, outcome: Outcome) -> None:
        """The plugin's run and its host calls."""
        if not self.context.sampled:
            return
        self.run_context = self.context.child()
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
        for call in outcome.host_calls:
            self.spans.append(
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
            )

    def add_sent(
        self, message: Message, context: TraceContext, parent: TraceContext, start_ns: int, error: str | None = None
    ) -> None:
        """A message that was published, from `start_ns` to its confirmation just now."""
        if not context.sampled:
            return
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

    def finish(self, error: str | None) -> Trace | None:
        """Close the span of the delivery itself, and give all that is known so far; None when nothing is recorded."""
        if not self.context.sampled:
            return None
        attributes = message_attributes("process", self._message, self._queue)
        if self._message.message_id is None:
            attributes["warren.request.without_message_id"] = True
        process = Span(
            f"process {self._queue}",
            self.context,
            self._parent.span_id if self._parent else None,
            "consumer",
            self._start_ns,
            time.time_ns() - self._start_ns,
            attributes,
            error,
        )
        # Where not all of them have room, the last are left out: better a host call than what holds the tree together.
        self.spans = [process, *sorted(self.spans, key=self._is_host_call)]
        return Trace(self.context.trace_id, tuple(self.spans))

    def _is_host_call(self, span: Span) -> bool:
        return span.kind == "internal" and span.parent_id == self.run_context.span_id
