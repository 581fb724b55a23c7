from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from warren.bus import (
    MalformedMessage,
    Span,
    Trace,
    TraceContext,
    current_trace_context,
    decode_trace,
    encode_trace,
    read_trace_context,
    trace_headers,
)
from warren.bus.trace import SpanKind, context_of

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROPAGATOR = TraceContextTextMapPropagator()

TRACE_IDS = st.integers(1, 2**128 - 1).map("{:032x}".format)
SPAN_IDS = st.integers(1, 2**64 - 1).map("{:016x}".format)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
COUNTS = st.integers(0, 2**50)
KINDS: list[SpanKind] = ["producer", "consumer", "internal", "client"]
ATTRIBUTES = st.dictionaries(NAMES, NAMES | st.integers(-(2**60), 2**60) | st.booleans() | st.floats(-1, 1), max_size=4)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@st.composite
def spans(draw: st.DrawFn) -> Span:
    return Span(
        name=draw(NAMES),
        context=TraceContext(TRACE_ID, draw(SPAN_IDS)),
        parent_id=draw(st.none() | SPAN_IDS),
        kind=draw(st.sampled_from(KINDS)),
        start_ns=draw(COUNTS) * 1000,
        duration_ns=draw(COUNTS) * 1000,
        attributes=draw(ATTRIBUTES),
        error=draw(st.none() | NAMES),
    )


@st.composite
def headers(draw: st.DrawFn) -> str:
    """A `traceparent`, or something near to one."""
    version = draw(st.sampled_from(["00", "01", "cc", "ff", "FF", "0"]))
    ids = [draw(TRACE_IDS | st.just("0" * 32)), draw(SPAN_IDS | st.just("0" * 16))]
    flags = draw(st.sampled_from(["00", "01", "03", "ff", "0", "xx"]))
    rest = draw(st.sampled_from(["", "-", "-more", "more", " ", "\t", "0"]))
    header = draw(st.sampled_from(["", " ", "\t", "x"])) + "-".join([version, *ids, flags]) + rest
    at = draw(st.integers(0, len(header)))
    return header[:at] + draw(st.sampled_from(["", "", "", "-", "A", "g", "1"])) + header[at:]


def span(number: int, parent: int | None, start_ns: int = 0) -> Span:
    parent_id = None if parent is None else f"{parent:016x}"
    return Span(f"span {number}", TraceContext(TRACE_ID, f"{number:016x}"), parent_id, "internal", start_ns, 1000, {})


@given(headers())
def test_reading_agrees_with_opentelemetry(header: str) -> None:
    theirs = otel.get_current_span(PROPAGATOR.extract({"traceparent": header})).get_span_context()
    ours = read_trace_context({"traceparent": header})
    assert read_trace_context({"traceparent": header.encode()}) == ours
    if ours is None:
        assert not theirs.is_valid
    else:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (theirs.trace_id, theirs.span_id)
        assert ours.sampled is theirs.trace_flags.sampled


@given(st.builds(TraceContext, TRACE_IDS, SPAN_IDS, st.booleans(), st.sampled_from([None, "vendor=value"])))
def test_opentelemetry_reads_what_is_written(context: TraceContext) -> None:
    written = trace_headers(context)
    assert read_trace_context(written) == context
    assert context_of(otel.get_current_span(PROPAGATOR.extract(written))) == context


@pytest.mark.parametrize(
    "header",
    [
        None,
        7,
        "",
        VALID.upper(),
        VALID[:-1],
        VALID + "-more",
        "ff" + VALID[2:],
        VALID.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        VALID.replace("b7ad6b7169203331", "0" * 16),
        VALID.replace("-", "_"),
        b"\xff" * 55,
        "01" + VALID[2:] + "-" + "x" * 1000,
    ],
)
def test_what_is_no_trace_context_is_none(header: object) -> None:
    assert read_trace_context({"traceparent": header}) is None


def test_a_later_version_is_read_by_its_first_fields() -> None:
    read = read_trace_context({"traceparent": "cc" + VALID[2:] + "-what-the-future-will-be-like"})
    assert read is not None
    assert read.traceparent == VALID


def test_a_tracestate_that_is_too_long_is_left_behind() -> None:
    read = read_trace_context({"traceparent": VALID, "tracestate": "a=" + "x" * 600})
    assert read is not None
    assert read.tracestate is None


def test_a_child_is_of_the_same_trace() -> None:
    parent = replace(TraceContext.new(), sampled=False, tracestate="a=b")
    child = parent.child()
    assert (child.trace_id, child.sampled, child.tracestate) == (parent.trace_id, False, "a=b")
    assert child.span_id != parent.span_id
    assert read_trace_context(trace_headers(child)) == child


def test_the_current_context_is_that_of_opentelemetrys_current_span() -> None:
    assert current_trace_context() is None
    with otel.use_span(otel.get_current_span(PROPAGATOR.extract({"traceparent": VALID}))):
        assert current_trace_context() == read_trace_context({"traceparent": VALID})


@given(st.lists(spans(), max_size=5), COUNTS)
def test_a_trace_is_read_as_it_was_written(parts: list[Span], dropped: int) -> None:
    trace = Trace(TRACE_ID, tuple(parts), dropped)
    encoded = encode_trace(trace, max_bytes=1 << 20)
    assert decode_trace(encoded) == decode_trace(encoded.encode()) == trace


@given(st.lists(spans(), max_size=20), st.integers(100, 2000), st.integers(0, 10))
def test_a_trace_stays_within_its_bounds(parts: list[Span], max_bytes: int, max_spans: int) -> None:
    encoded = encode_trace(Trace(TRACE_ID, tuple(parts)), max_bytes=max_bytes, max_spans=max_spans)
    assert len(encoded.encode()) <= max_bytes
    read = decode_trace(encoded)
    assert len(read.spans) <= max_spans
    assert read.spans == tuple(parts[: len(read.spans)])
    assert read.dropped == len(parts) - len(read.spans)


def test_no_more_spans_are_dropped_than_must_be() -> None:
    trace = Trace(TRACE_ID, tuple(span(number, None) for number in range(1, 11)))
    size = len(encode_trace(trace))
    assert len(decode_trace(encode_trace(trace, max_bytes=size - 1)).spans) == 9


def test_a_trace_is_compact_json_with_an_error_only_where_there_was_one() -> None:
    failed = replace(span(2, 1), error="it broke", attributes={"a": 1})
    assert json.loads(encode_trace(Trace(TRACE_ID, (span(1, None), failed)))) == {
        "trace_id": TRACE_ID,
        "spans": [
            {
                "name": "span 1",
                "span_id": "0000000000000001",
                "parent_id": None,
                "kind": "internal",
                "start_us": 0,
                "duration_us": 1,
                "attributes": {},
            },
            {
                "name": "span 2",
                "span_id": "0000000000000002",
                "parent_id": "0000000000000001",
                "kind": "internal",
                "start_us": 0,
                "duration_us": 1,
                "attributes": {"a": 1},
                "error": "it broke",
            },
        ],
        "dropped": 0,
    }


@pytest.mark.parametrize(
    ("encoded", "sentence"),
    [
        ("", "not a trace: the whole: Invalid JSON"),
        ("[]", "not a trace: the whole"),
        ("{}", "not a trace: trace_id: Field required"),
        ('{"trace_id":"x","spans":[]}', "not a trace: trace_id"),
        (f'{{"trace_id":"{TRACE_ID}","spans":[{{}}]}}', r"not a trace: spans\.0\.name"),
        (b"\xff", "not a trace: the whole"),
    ],
)
def test_what_is_no_trace_is_malformed(encoded: str | bytes, sentence: str) -> None:
    with pytest.raises(MalformedMessage, match=sentence):
        decode_trace(encoded)


def test_a_trace_is_walked_depth_first_and_by_time() -> None:
    trace = Trace(TRACE_ID, (span(4, 2, 40), span(3, 1, 30), span(2, 1, 20), span(1, None, 10), span(9, 8, 5)))
    assert [(depth, found.name) for depth, found in trace.walk()] == [
        (0, "span 9"),
        (0, "span 1"),
        (1, "span 2"),
        (2, "span 4"),
        (1, "span 3"),
    ]


@given(st.lists(st.tuples(st.integers(1, 6), st.none() | st.integers(1, 6), st.integers(0, 9)), max_size=8))
def test_every_span_is_walked_once_whatever_its_parents(links: list[tuple[int, int | None, int]]) -> None:
    trace = Trace(TRACE_ID, tuple(span(*link) for link in links))
    walked = [found for _, found in trace.walk()]
    assert sorted(map(id, walked)) == sorted(map(id, trace.spans))


def test_parts_of_a_trace_are_merged_and_a_span_of_two_parts_is_taken_once() -> None:
    one, two, three = span(1, None), span(2, 1), span(3, 2)
    merged = Trace.merged(Trace(TRACE_ID, (one, two), 1), Trace(TRACE_ID, (two, three), 2))
    assert merged == Trace(TRACE_ID, (one, two, three), 3)


def test_parts_of_two_traces_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="parts of one trace"):
        Trace.merged(Trace(TRACE_ID, ()), Trace("1" * 32, ()))
