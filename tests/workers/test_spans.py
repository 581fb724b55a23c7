"""Which spans of a run come along with its result, where there are more than a header holds."""

from __future__ import annotations

from warren.bus import Header, Message, TraceContext, decode_trace
from warren.plugins import HostCall, Outcome
from warren.workers.spans import RunSpans


def test_a_run_of_many_host_calls_keeps_its_messages_in_the_trace() -> None:
    parent = TraceContext.new()
    spans = RunSpans(
        Message(b"", "warren.requests", "plain.do", headers={Header.TRACEPARENT: parent.traceparent}),
        "warren.plugin.plain",
    )
    spans.add_run("plain", "1.0.0", Outcome("ok", host_calls=(HostCall("x" * 200, 1, 1, "y" * 200),) * 64))
    for _ in range(5):
        spans.add_sent(Message(b"", "warren.events", "news"), spans.run_context.child(), spans.run_context, 1)
    encoded = spans.finish(None)
    assert encoded is not None
    kept = decode_trace(encoded)
    assert len(encoded) <= 8192
    assert [span.kind for span in kept.spans[:7]] == ["consumer", "internal", *["producer"] * 5]
    assert kept.spans[0].parent_id == parent.span_id
    assert len(kept.spans) + kept.dropped == 71
