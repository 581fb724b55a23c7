"""Frames by hand: they say what pamqp says, and whatever a publisher put into a message can be read."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from warren.bus import Header, Message, OutcomeKind, TraceContext
from warren.bus.amqp_codec import content_at, publish_frames, read_message
from warren.bus.amqp_fields import Unreadable, read_table, table
from warren.bus.amqp_frames import CONTENT_HEADER, FRAME_OVERHEAD, HEAD
from warren.bus.amqp_results import result_frames
from warren.bus.messages import NO_HEADERS, RESULT_TYPE
from warren.bus.result_headers import ResultHeaders, result_kind
from warren.bus.results import result_message
from warren.bus.topology import Names

FRAME_MAX = 1 << 17

text = st.text(max_size=60)
names = st.text(max_size=30)
numbers = st.integers(-(2**63), 2**63 - 1)
fields = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(names, fields, max_size=5)
messages = st.builds(
    Message,
    body=st.binary(max_size=300),
    exchange=text,
    routing_key=text,
    type=st.none() | text,
    message_id=text,
    correlation_id=st.none() | text,
    reply_to=st.none() | text,
    content_type=st.none() | text,
    expiration_ms=st.none() | st.integers(0, 2**40),
    timestamp_s=st.none() | st.integers(0, 2**37),
    headers=headers,
    other=st.fixed_dictionaries(
        {}, optional={"content_encoding": text, "priority": st.integers(0, 255), "app_id": text}
    ),
)


def payloads(frames: bytes) -> list[bytes]:
    found = []
    while frames:
        _, _, size = HEAD.unpack_from(frames)
        found.append(frames[HEAD.size : HEAD.size + size])
        assert frames[HEAD.size + size] == 0xCE
        frames = frames[HEAD.size + size + 1 :]
    return found


@given(messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    frames = publish_frames(7, message, message.message_id or "", FRAME_MAX, mandatory=False)
    _, header, *body = payloads(frames)
    exchange, key = message.exchange.encode(), message.routing_key.encode()
    assert read_message(header, b"".join(body), exchange, key) == message


@given(messages, st.booleans())
def test_pamqp_reads_what_is_written(message: Message, mandatory: bool) -> None:  # noqa: FBT001
    frames = publish_frames(7, message, message.message_id or "", FRAME_MAX, mandatory=mandatory)
    size, channel, publish = pamqp_frame.unmarshal(frames)
    _, _, header = pamqp_frame.unmarshal(frames[size:])
    assert isinstance(publish, Basic.Publish)
    assert (channel, publish.exchange, publish.routing_key) == (7, message.exchange, message.routing_key)
    assert publish.mandatory == mandatory
    assert isinstance(header, ContentHeader)
    properties = header.properties
    assert (header.body_size, properties.delivery_mode) == (len(message.body), 2)
    assert (properties.message_id, properties.message_type) == (message.message_id, message.type)
    assert (properties.headers or {}) == message.headers
    assert properties.app_id == message.other.get("app_id")


def _fits_single_precision(value: Any) -> bool:
    """pamqp writes no other floats."""
    match value:
        case float():
            return abs(value) < 3e38
        case dict():
            return all(map(_fits_single_precision, value.values()))
        case list():
            return all(map(_fits_single_precision, value))
    return True


@given(st.dictionaries(names, fields, max_size=5).filter(_fits_single_precision))
def test_what_pamqp_writes_is_read(fields_of: dict[str, Any]) -> None:
    properties = Basic.Properties(headers=fields_of, message_id="id")
    (header,) = payloads(pamqp_frame.marshal(ContentHeader(body_size=0, properties=properties), 1))
    read = read_message(header, b"", b"", b"").headers
    assert _single_precision(read) == _single_precision(fields_of)


def _single_precision(value: Any) -> Any:
    match value:
        case float():
            return pytest.approx(value, rel=1e-6, abs=1e-37)
        case dict():
            return {name: _single_precision(inner) for name, inner in value.items()}
        case list():
            return [_single_precision(inner) for inner in value]
    return value


@pytest.mark.parametrize("size", [0, 1, 4096 - FRAME_OVERHEAD, 4097 - FRAME_OVERHEAD, 10_000])
def test_a_body_is_cut_into_as_many_frames_as_it_needs(size: int) -> None:
    frames = publish_frames(1, Message(bytes(size)), "id", 4096, mandatory=False)
    _, _, *bodies = payloads(frames)
    assert b"".join(bodies) == bytes(size)
    assert all(len(body) + FRAME_OVERHEAD <= 4096 for body in bodies)
    _, _, last = pamqp_frame.unmarshal(frames[-(len(bodies[-1]) + FRAME_OVERHEAD) :]) if bodies else (0, 0, None)
    assert last is None or isinstance(last, ContentBody)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(b"", exchange="x" * 256), "exchange"),
        (Message(b"", routing_key="ü" * 128), "routing key"),
        (Message(b"", correlation_id="x" * 256), "correlation_id"),
        (Message(b"", headers={"x" * 256: 1}), "name of a header"),
        (Message(b"", headers={"a": 2**63}), "64 bits"),
        (Message(b"", headers={"a": [2**63]}), "64 bits"),
        (Message(b"", headers={"a": float("nan")}), "nan cannot travel"),
        (Message(b"", headers={"a": {1, 2}}), "set cannot travel"),
        (Message(b"", headers={"a": "x" * FRAME_MAX}), "a frame holds"),
    ],
)
def test_what_amqp_cannot_say_is_refused_with_the_reason(message: Message, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        publish_frames(1, message, "id", FRAME_MAX, mandatory=False)


#: A property that is readable, and the same one that is not, by the bit of its flag.
PROPERTIES: dict[str, tuple[int, bytes, bytes]] = {
    "content_type": (15, b"\4text", b"\1\xff"),
    "content_encoding": (14, b"\4gzip", b"\1\xff"),
    "headers": (13, b"\0\0\0\4\1at\1", b"\0\0\0\3\1a?"),
    "delivery_mode": (12, b"\2", b""),
    "priority": (11, b"\7", b""),
    "correlation_id": (10, b"\1c", b"\1\xff"),
    "reply_to": (9, b"\1r", b"\1\xff"),
    "expiration": (8, b"\x041000", b"\3ten"),
    "message_id": (7, b"\1m", b"\1\xff"),
    "timestamp": (6, struct.pack(">Q", 5), struct.pack(">Q", 2**63)),
    "message_type": (5, b"\1t", b"\1\xff"),
    "user_id": (4, b"\1u", b"\1\xff"),
    "app_id": (3, b"\1a", b"\1\xff"),
    "cluster_id": (2, b"\1k", b"\1\xff"),
}


def header_of(broken: str | None, present: list[str]) -> bytes:
    flags = sum(1 << PROPERTIES[name][0] for name in present)
    raw = b"".join(bad if name == broken else good for name, (_, good, bad) in PROPERTIES.items() if name in present)
    return struct.pack(">HHQH", 60, 0, 0, flags) + raw


@given(
    st.sampled_from([name for name, (_, _, bad) in PROPERTIES.items() if bad]),
    st.sets(st.sampled_from(list(PROPERTIES))),
)
def test_a_property_that_cannot_be_read_is_named_and_the_others_are_kept(broken: str, others: set[str]) -> None:
    present = sorted(others | {broken})
    message = read_message(header_of(broken, present), b"body", b"exchange", b"key")
    whole = read_message(header_of(None, present), b"body", b"exchange", b"key")
    assert message.headers[Header.UNREADABLE] == broken
    assert Header.UNREADABLE not in whole.headers
    for name, known in [("correlation_id", "c"), ("reply_to", "r"), ("message_id", "m")]:
        expected = known if name in present and name != broken else None
        assert getattr(message, name) == expected


@given(st.binary(max_size=80), st.integers(0, 2**16 - 1))
def test_a_content_header_of_any_bytes_is_read(raw: bytes, flags: int) -> None:
    message = read_message(struct.pack(">HHQH", 60, 0, 4, flags) + raw, b"body", b"\xff", b"\xfe")
    assert (message.body, message.exchange, message.routing_key) == (b"body", "\\xff", "\\xfe")


@given(st.binary(max_size=200))
def test_a_table_of_any_bytes_is_read_or_refused(raw: bytes) -> None:
    try:
        read_table(raw, 0, len(raw), 16)
    except (ValueError, IndexError, struct.error):
        return


def test_tables_nested_too_deep_are_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(20):
        nested = {"a": nested}
    raw = table(nested)
    with pytest.raises(Unreadable):
        read_table(raw, 4, len(raw), 16)


@given(
    st.builds(
        ResultHeaders,
        st.sampled_from([result_kind("digest", "act", OutcomeKind.OK, version) for version in (None, "1.2.3")]),
        fuel=st.integers(0, 1 << 20),
        memory_bytes=st.just(65536),
        duration_us=st.just(12),
        attempt=st.integers(0, 1 << 64),
        context=st.none()
        | st.builds(TraceContext, st.just("1" * 32), st.just("2" * 16), st.booleans(), st.none() | st.text()),
        trace_json=st.none() | st.text(),
        recording=st.none() | st.just(b"\xffpacked"),
    ),
    st.builds(
        Message,
        st.binary(max_size=300),
        text,
        text,
        st.just(RESULT_TYPE) | text,
        correlation_id=st.none() | st.text(max_size=300),
        reply_to=st.none() | text,
        timestamp_s=st.none() | st.just(1_700_000_000),
        other=st.just(NO_HEADERS) | st.just({"priority": 3}),
    ),
    st.text(max_size=300),
    st.sampled_from([0, 600, FRAME_MAX]),
)
@example(
    ResultHeaders(
        result_kind("digest", "act", OutcomeKind.OK, "1.2.3"), 1, 2, 3, 1, TraceContext("1" * 32, "2" * 16), "{}"
    ),
    Message(b"{}", "", "client", RESULT_TYPE, correlation_id="c", timestamp_s=1),
    "id",
    FRAME_MAX,
)
def test_a_results_frames_say_what_those_of_a_message_with_the_dictionary_of_its_headers_do(
    told: ResultHeaders, message: Message, message_id: str, frame_max: int
) -> None:
    try:
        general = publish_frames(7, replace(message, headers=dict(told)), message_id, frame_max, mandatory=True)
    except ValueError:
        with pytest.raises(ValueError, match=r"64 bits|bytes long|a frame holds"):
            publish_frames(7, replace(message, headers=told), message_id, frame_max, mandatory=True)
        return
    written = publish_frames(7, replace(message, headers=told), message_id, frame_max, mandatory=True)
    assert len(written) == len(general)
    assert said(written) == said(general)


def said(frames: bytes) -> tuple[bytes, Message]:
    """The method of a publish, and its message."""
    method, header, *body = payloads(frames)
    return method, read_message(header, b"".join(body), b"", b"")


def test_most_results_take_the_short_way() -> None:
    request = Message(b"{}", "warren.requests", "digest.act", message_id="request", reply_to="client")
    context, kind = TraceContext("1" * 32, "2" * 16), OutcomeKind.OK
    message = result_message(
        Names(), request, plugin="digest", action="act", outcome=kind, body=b"{}", trace_json="{}", context=context
    )
    assert isinstance(message.headers, ResultHeaders)
    assert result_frames(7, message, message.headers, message.message_id or "", FRAME_MAX, mandatory=True)


def content_of(message: Message, frame_max: int = FRAME_MAX) -> bytes:
    """The frames that follow a delivery's method."""
    frames = publish_frames(7, message, "id", frame_max, mandatory=False)
    return frames[FRAME_OVERHEAD + HEAD.unpack_from(frames)[2] :]


def test_header_and_body_are_found_at_once_only_where_both_are_there_whole() -> None:
    message = Message(b"body", "", "key", headers={"a": 1})
    content = content_of(message)
    header_at, header_stop, body_stop = content_at(content, 0, 7) or (0, 0, 0)
    assert read_message(content[header_at:header_stop], b"", b"", b"").headers == {"a": 1}
    assert content[header_stop + FRAME_OVERHEAD : body_stop] == b"body"
    assert body_stop + 1 == len(content)
    assert content_at(b"before" + content + content, 6, 7) == (header_at + 6, header_stop + 6, body_stop + 6)
    for end in range(len(content)):
        assert content_at(content[:end], 0, 7) is None, f"cut after {end} bytes"


def test_content_in_several_frames_of_another_channel_without_a_body_or_broken_is_not_found_at_once() -> None:
    content = content_of(Message(b"x" * 300, "", "key"))
    assert content_at(content, 0, 8) is None
    assert content_at(content_of(Message(b"", "", "key")), 0, 7) is None
    assert content_at(content_of(Message(b"x" * 300, "", "key"), 128), 0, 7) is None
    header_end = HEAD.size + HEAD.unpack_from(content)[2]
    for place in (0, header_end, header_end + 1, len(content) - 1):  # kinds of frames, and the octets that end them
        broken = bytearray(content)
        broken[place] ^= CONTENT_HEADER
        assert content_at(bytes(broken), 0, 7) is None, f"broken at {place}"
