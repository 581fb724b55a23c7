"""The spans of one delivery: receiving it, the plugin's run, its host calls, and each message it sent.

    process <mailbox>             consumer, child of the publisher's span
      run <plugin>                internal
        <host function>           internal
          run <plugin>            internal; of a plugin that was called: here, or else
          send <destination>      producer; of the request to where it ran, and all that came back of it
        send <destination>        producer; its context travels with the message, whose handling becomes its child
      send <destination>          producer: the result, known only to those who export spans

Names and attributes are OpenTelemetry's for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/), and
`warren.*` for what it has no word for. Where the publisher's trace is not sampled, nothing is recorded: its context
travels on, and that is all.
"""

from __future__ import annotations

import time
from functools import lru_cache

from pydantic_core import from_json, to_json

from warren.bus import (
    Message,
    Span,
    SpanKind,
    Trace,
    TraceContext,
    destination_attributes,
    json_text,
    message_attributes,
    read_trace_context,
    send_name,
    span_json,
    trace_json,
)
from warren.plugins import Callee, Outcome


class RunPlace:
    """The place of a run that another one called (a `warren.plugins.Trail`).

    `call` is that of the caller's host call, `run` its own; `trace` is what a run elsewhere brought back. `request_id`
    is that of the request which all of it is for.
    """

    __slots__ = ("call", "request_id", "run", "trace")

    def __init__(self, call: TraceContext, request_id: str | None) -> None:
        self.call = call
        self.request_id = request_id
        self.run = call.child()
        self.trace: Trace | None = None

    def step(self) -> RunPlace:
        return RunPlace(self.run.child(), self.request_id)

    @property
    def trace_id(self) -> str:
        return self.call.trace_id


class RunSpans:
    """Collects the spans of one delivery, from the moment it is made: as JSON, and as data too if they are to be kept.

    It is the `Trail` of the plugin's run, too.

    `context` is the delivery's own place in the trace, `run_context` the run's, once there was one.
    """

    __slots__ = (
        "_host_calls", "_keep", "_kept", "_message", "_others", "_parent", "_process", "_queue", "_start_ns", "context",
        "run_context",
    )  # fmt: skip

    def __init__(self, message: Message, queue: str, *, keep: bool = False) -> None:
        self._parent = parent = read_trace_context(message.headers)
        self.context = self.run_context = parent.child() if parent else TraceContext.new()
        self._keep = keep
        self._kept: list[Span] = []
        self._process: Span | None = None
        self._others: list[str] = []
        # Where not all spans have room, the last are left out: better a host call than what holds the tree together.
        self._host_calls: list[str] = []
        self._start_ns = time.time_ns()
        self._queue = queue
        self._message = message

    def step(self) -> RunPlace:
        return RunPlace(self._begin_run().child(), self.request_id)

    @property
    def request_id(self) -> str | None:
        return self._message.message_id

    @property
    def trace_id(self) -> str:
        return self.context.trace_id

    def _begin_run(self) -> TraceContext:
        if self.run_context is self.context:
            self.run_context = self.context.child()
        return self.run_context

    def add_run(self, plugin: str, version: str, outcome: Outcome) -> None:
        """The plugin's run, its host calls, and the runs of the plugins that it called."""
        if self.context.sampled:
            context, parent_id = self._begin_run(), self.context.span_id
            self._add_run(plugin, version, outcome, context=context, parent_id=parent_id, into=self._others)

    def _add_run(
        self, plugin: str, version: str, outcome: Outcome, *, context: TraceContext, parent_id: str, into: list[str]
    ) -> None:
        attributes = (
            f'{{"warren.plugin.name":"{plugin}","warren.plugin.version":"{version}","warren.outcome":"{outcome.kind}",'
            f'"warren.fuel":{outcome.fuel},"warren.memory_bytes":{outcome.memory_bytes},'
            f'"warren.host_us":{outcome.host_us}}}'
        )
        run = self._span(
            f"run {plugin}",
            context,
            parent_id,
            "internal",
            start_ns=outcome.start_ns,
            duration_ns=outcome.duration_us * 1_000,
            attributes=attributes,
            error=outcome.error,
        )
        into.append(run)
        for call in outcome.host_calls:
            callee = call.callee
            place = callee.trail if callee is not None and isinstance(callee.trail, RunPlace) else None
            made = self._span(
                call.name,
                context.child() if place is None else place.call,
                context.span_id,
                "internal",
                start_ns=call.start_ns,
                duration_ns=call.duration_ns,
                attributes="{}",
                error=call.error,
            )
            self._host_calls.append(made)
            if callee is not None and place is not None:
                self._add_callee(callee, place)

    def _add_callee(self, callee: Callee, place: RunPlace) -> None:
        if callee.version is not None:
            self._add_run(
                callee.plugin,
                callee.version,
                callee.outcome,
                context=place.run,
                parent_id=place.call.span_id,
                into=self._host_calls,
            )
        elif place.trace is not None and place.trace.trace_id == self.context.trace_id:
            for span in place.trace.spans:
                self._host_calls.append(_as_json(span))
                if self._keep and span.parent_id == place.call.span_id:  # the others are for that worker to export
                    self._kept.append(span)

    def add_sent(
        self, message: Message, context: TraceContext, parent: TraceContext, start_ns: int, error: str | None = None
    ) -> None:
        """A message that was published, from `start_ns` to its confirmation just now."""
        if not context.sampled:
            return
        sent = self._span(
            send_name(message),
            context,
            parent.span_id,
            "producer",
            start_ns=start_ns,
            duration_ns=time.time_ns() - start_ns,
            attributes=to_json(message_attributes("send", message)).decode(),
            error=error,
        )
        self._others.append(sent)

    def finish(self, error: str | None) -> str | None:
        """Close the span of the delivery itself; all that is known so far, as JSON. None when nothing is recorded."""
        if not self.context.sampled:
            return None
        process = self._span(
            f"process {self._queue}",
            self.context,
            self._parent.span_id if self._parent else None,
            "consumer",
            start_ns=self._start_ns,
            duration_ns=time.time_ns() - self._start_ns,
            attributes=self._process_attributes(),
            error=error,
        )
        if self._keep:
            self._process = self._kept.pop()
        return trace_json(self.context.trace_id, [process, *self._others, *self._host_calls])

    @property
    def spans(self) -> list[Span]:
        """All of them, where they were to be kept."""
        return [self._process, *self._kept] if self._process else self._kept

    def _process_attributes(self) -> str:
        message = self._message
        message_id, correlation_id = message.message_id, message.correlation_id
        text = f"{_common_attributes(message.exchange, message.routing_key, self._queue)}{len(message.body)}"
        if message_id is not None:
            text += f',"messaging.message.id":{json_text(message_id)}'
        if correlation_id is not None:
            text += f',"messaging.message.conversation_id":{json_text(correlation_id)}'
        if message_id is None:
            text += ',"warren.request.without_message_id":true'
        return text + "}"

    def _span(
        self,
        name: str,
        context: TraceContext,
        parent_id: str | None,
        kind: SpanKind,
        *,
        start_ns: int,
        duration_ns: int,
        attributes: str,
        error: str | None,
    ) -> str:
        if self._keep:
            data = from_json(attributes)
            self._kept.append(Span(name, context, parent_id, kind, start_ns, duration_ns, data, error))
        return span_json(
            name,
            context.span_id,
            parent_id,
            kind,
            start_ns=start_ns,
            duration_ns=duration_ns,
            attributes_json=attributes,
            error=error,
        )


def _as_json(span: Span) -> str:
    return span_json(
        span.name,
        span.context.span_id,
        span.parent_id,
        span.kind,
        start_ns=span.start_ns,
        duration_ns=span.duration_ns,
        attributes_json=to_json(span.attributes).decode(),
        error=span.error,
    )


@lru_cache(maxsize=1024)
def _common_attributes(exchange: str, routing_key: str, queue: str) -> str:
    """The beginning of the attributes of a delivery, up to the size of its body."""
    common = to_json(destination_attributes("process", exchange, routing_key, queue)).decode()
    return f'{common[:-1]},"messaging.message.body.size":'
