"""Traces: W3C trace context in message headers, and the finished spans of a run as compact JSON on its result.

Warren records its own spans, as plain data, on every request: they are what a caller sees with no tracing backend at
all, so they have to be there always and to cost next to nothing. Where OpenTelemetry is set up, `warren.workers`
hands the same spans to its SDK for export. Rejected: the SDK's spans throughout, at 20-40 µs each on the hot path.

Shapes and names follow https://www.w3.org/TR/trace-context/ and OpenTelemetry's messaging conventions
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from random import getrandbits
from typing import Annotated, Any, Final, Literal, TypeAlias

from opentelemetry import trace as otel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from .errors import MalformedMessage
from .messages import Header
from .record import record

SpanKind: TypeAlias = Literal["producer", "consumer", "internal", "client"]
AttributeValue: TypeAlias = str | int | float | bool

#: What a result's `warren-trace` header may hold: it travels in one AMQP frame with the other headers.
MAX_SPANS: Final = 64
MAX_TRACE_BYTES: Final = 8192

#: Longer headers are not read: what W3C asks everyone to carry for `tracestate`, and OpenTelemetry's bound for both.
MAX_CONTEXT_HEADER: Final = 512

#: Version, trace, span and flags, in lower-case hex; what follows them is of later versions.
_TRACEPARENT: Final = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*?)?[ \t]*", re.ASCII | re.DOTALL
)
#: Text as JSON, in ASCII.
json_text: Final = encode_basestring_ascii

#: What the recommendation does not allow, and chance does not give us either: once in 2^64.
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@record
class TraceContext:
    """Where one span stands: the part of a trace that travels. Ids are lower-case hex (32 and 16 digits)."""

    trace_id: str
    span_id: str
    sampled: bool = True
    tracestate: str | None = None

    @classmethod
    def new(cls) -> TraceContext:
        """The first span of a new trace."""
        ids = getrandbits(192).to_bytes(24).hex()
        return cls(ids[:32], ids[32:])

    def child(self) -> TraceContext:
        """A new span of the same trace."""
        return TraceContext(self.trace_id, getrandbits(64).to_bytes(8).hex(), self.sampled, self.tracestate)

    @property
    def traceparent(self) -> str:
        """The header, as version 00 has it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def read_trace_context(headers: Mapping[str, Any]) -> TraceContext | None:
    """The context that `headers` carry (as text or bytes); None where there is none or it is not valid.

    A version above 00 is read by its first four fields, as the recommendation asks. `tracestate` is opaque here: it
    is passed on as it came, unless it is longer than 512 characters.
    """
    header = _text(headers.get(Header.TRACEPARENT))
    if header is None:
        return None
    matched = _TRACEPARENT.fullmatch(header)
    if matched is None:
        return None
    version, trace_id, span_id, flags, rest = matched.groups()
    if version == "ff" or (rest and version == "00") or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & 1 == 1, _text(headers.get(Header.TRACESTATE)))


def trace_headers(context: TraceContext) -> dict[str, str]:
    """The headers that carry `context`."""
    headers: dict[str, str] = {Header.TRACEPARENT: context.traceparent}
    if context.tracestate is not None:
        headers[Header.TRACESTATE] = context.tracestate
    return headers


def context_of(span: otel.Span) -> TraceContext | None:
    """The context of an OpenTelemetry span, if it is a valid one."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(
        otel.format_trace_id(context.trace_id),
        otel.format_span_id(context.span_id),
        context.trace_flags.sampled,
        context.trace_state.to_header() or None,
    )


def current_trace_context() -> TraceContext | None:
    """The context of the caller's current OpenTelemetry span; None where no SDK is set up or no span is running."""
    return context_of(otel.get_current_span())


@record
class Span:
    """One finished span. `start_ns` is since the epoch; `parent_id` is a span id, None for the first of a trace."""

    name: str
    context: TraceContext
    parent_id: str | None
    kind: SpanKind
    start_ns: int
    duration_ns: int
    attributes: Mapping[str, AttributeValue]
    error: str | None = None


@record
class Trace:
    """Finished spans of one trace, in no particular order; `dropped` counts those that had no room."""

    trace_id: str
    spans: tuple[Span, ...]
    dropped: int = 0

    @classmethod
    def merged(cls, *traces: Trace) -> Trace:
        """One trace out of parts of it. A span that several parts have is taken once.

        Raises ValueError when there are no parts or they are of different traces.
        """
        if len({part.trace_id for part in traces}) != 1:
            raise ValueError("only parts of one trace can be merged")
        spans = {span.context.span_id: span for part in reversed(traces) for span in reversed(part.spans)}
        return cls(traces[0].trace_id, tuple(reversed(spans.values())), sum(part.dropped for part in traces))

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Every span with its depth, each before its children, brothers by the time they began.

        A span whose parent is not here is a root. So is the earliest of spans that are each other's ancestors, which
        only a broken sender makes: every span comes exactly once, whatever the trace says.
        """
        ordered = sorted(self.spans, key=lambda span: span.start_ns)
        present = {span.context.span_id for span in ordered}
        children: dict[str | None, list[Span]] = {}
        for span in ordered:
            children.setdefault(span.parent_id if span.parent_id in present else None, []).append(span)
        seen: set[int] = set()
        for root in [*children.get(None, ()), *ordered]:
            stack = [(0, root)]
            while stack:
                depth, span = stack.pop()
                if id(span) in seen:
                    continue
                seen.add(id(span))
                yield depth, span
                stack.extend((depth + 1, child) for child in reversed(children.get(span.context.span_id, ())))


def encode_trace(trace: Trace, *, max_spans: int = MAX_SPANS, max_bytes: int = MAX_TRACE_BYTES) -> str:
    """A trace as compact JSON of at most `max_bytes` (not less than 100); whole spans are left out from the end."""
    spans = [
        span_json(
            span.name,
            span.context.span_id,
            span.parent_id,
            span.kind,
            start_ns=span.start_ns,
            duration_ns=span.duration_ns,
            attributes_json=to_json(span.attributes, inf_nan_mode="strings").decode(),
            error=span.error,
        )
        for span in trace.spans
    ]
    return trace_json(trace.trace_id, spans, trace.dropped, max_spans=max_spans, max_bytes=max_bytes)


def span_json(
    name: str,
    span_id: str,
    parent_id: str | None,
    kind: SpanKind,
    *,
    start_ns: int,
    duration_ns: int,
    attributes_json: str,
    error: str | None = None,
) -> str:
    """One finished span as it stands in a trace. A request has two, which come into being as text."""
    parent = "null" if parent_id is None else f'"{parent_id}"'
    failure = "" if error is None else f',"error":{json_text(error)}'
    return (
        f'{{"name":{json_text(name)},"span_id":"{span_id}","parent_id":{parent},"kind":"{kind}",'
        f'"start_us":{start_ns // 1000},"duration_us":{duration_ns // 1000},"attributes":{attributes_json}{failure}}}'
    )


def trace_json(
    trace_id: str,
    spans: Sequence[str],
    dropped: int = 0,
    *,
    max_spans: int = MAX_SPANS,
    max_bytes: int = MAX_TRACE_BYTES,
) -> str:
    """A trace of spans that `span_json` wrote; see `encode_trace`."""
    kept = min(len(spans), max_spans)
    while True:
        text = f'{{"trace_id":"{trace_id}","spans":[{",".join(spans[:kept])}],"dropped":{dropped + len(spans) - kept}}}'
        surplus = _size(text) - max_bytes
        if surplus <= 0 or not kept:
            return text
        while kept and surplus > 0:
            kept -= 1
            surplus -= _size(spans[kept])


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


_TraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_SpanId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
#: JSON numbers above this are not whole in every reader.
_Count = Annotated[int, Field(ge=0, lt=2**53)]


class _SpanRead(BaseModel):
    """A span as others may have written it; keys of later versions are passed over."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    span_id: _SpanId
    parent_id: _SpanId | None
    kind: SpanKind
    start_us: _Count
    duration_us: _Count
    attributes: dict[str, AttributeValue]
    error: str | None = None


class _TraceRead(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    trace_id: _TraceId
    spans: tuple[_SpanRead, ...]
    dropped: _Count = 0


def decode_trace(encoded: str | bytes) -> Trace:
    """The trace that `encode_trace` wrote, times rounded down to microseconds. Raises MalformedMessage."""
    try:
        read = _TraceRead.model_validate_json(encoded)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise MalformedMessage(f"not a trace: {where}: {first['msg']}") from None
    return Trace(read.trace_id, tuple(_span_read(read.trace_id, span) for span in read.spans), read.dropped)


def _span_read(trace_id: str, span: _SpanRead) -> Span:
    return Span(
        span.name,
        TraceContext(trace_id, span.span_id),
        span.parent_id,
        span.kind,
        span.start_us * 1000,
        span.duration_us * 1000,
        span.attributes,
        span.error,
    )


def _text(header: object) -> str | None:
    """A header as text, whether its publisher's library sent text or bytes; None when it is neither or too long."""
    if isinstance(header, bytes):
        header = header.decode("latin-1")
    return header if isinstance(header, str) and len(header) <= MAX_CONTEXT_HEADER else None
