"""Frames that pamqp cannot read, as RabbitMQ passes them on, and headers on their way to and from AMQP."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from warren.bus import Header, Message
from warren.bus.amqp_messages import MAX_PROPERTIES_BYTES, to_properties
from warren.bus.amqp_readable import readable

short = st.binary(max_size=255).map(lambda raw: bytes([len(raw)]) + raw)
long = st.integers(0, 2**64 - 1).map(lambda number: struct.pack(">Q", number))

#: Each property of the class `basic`, in the order of its flags, as RabbitMQ would let it pass.
RAW = {
    "content_type": short,
    "content_encoding": short,
    "headers": short.map(lambda name: struct.pack(">I", len(name) + 1) + name + b"V"),
    "delivery_mode": st.binary(min_size=1, max_size=1),
    "priority": st.binary(min_size=1, max_size=1),
    "correlation_id": short,
    "reply_to": short,
    "expiration": short,
    "message_id": short,
    "timestamp": long,
    "message_type": short,
    "user_id": short,
    "app_id": short,
    "cluster_id": short,
}


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def header(body_size: int, raw: dict[str, bytes]) -> bytes:
    flags = sum(Basic.Properties.flags[name] for name in raw)
    return frame(2, struct.pack(">HHQH", 60, 0, body_size, flags) + b"".join(raw.values()))


def properties_of(raw_frame: bytes) -> Basic.Properties:
    content = unmarshal(readable(raw_frame))[2]
    assert isinstance(content, ContentHeader)
    return content.properties


@given(st.fixed_dictionaries({}, optional=RAW), st.integers(0, 2**40))
def test_a_content_header_is_readable_whatever_its_properties_hold(raw: dict[str, bytes], body_size: int) -> None:
    ordered = {name: raw[name] for name in RAW if name in raw}
    _, channel, content = unmarshal(readable(header(body_size, ordered)))
    assert isinstance(content, ContentHeader)
    assert (channel, content.body_size) == (1, body_size)


@given(short, short, st.integers(0, 2**63 - 1))
def test_a_deliver_is_readable_whatever_its_routing_key_holds(exchange: bytes, key: bytes, tag: int) -> None:
    payload = struct.pack(">HH", 60, 60) + b"\x04ctag" + struct.pack(">QB", tag, 1) + exchange + key
    deliver = unmarshal(readable(frame(1, payload)))[2]
    assert isinstance(deliver, Basic.Deliver)
    assert (deliver.consumer_tag, deliver.delivery_tag, deliver.redelivered) == ("ctag", tag, True)


def test_what_can_be_read_of_a_content_header_is_kept() -> None:
    raw = {"headers": b"\0\0\0\4\1at\1", "correlation_id": b"\1\xff", "reply_to": b"\2me"}
    properties = properties_of(header(3, raw))
    assert properties.reply_to == "me"
    assert properties.correlation_id is None
    assert properties.headers == {"a": True, Header.UNREADABLE: "correlation_id"}


def test_a_table_nested_deeper_than_python_can_follow_is_left_out() -> None:
    table = b"\0\0\0\0"
    for _ in range(15_000):
        table = b"\x01aF" + table
        table = struct.pack(">I", len(table)) + table
    assert properties_of(header(0, {"headers": table})).headers == {Header.UNREADABLE: "headers"}


def test_a_readable_frame_is_left_as_it_is() -> None:
    content = marshal(ContentHeader(properties=Basic.Properties(message_id="one")), 1)
    body = frame(3, b"\xff\xfe")
    assert readable(content) is content
    assert readable(body) is body


def test_headers_that_no_frame_can_hold_are_refused_before_they_cost_the_connection() -> None:
    assert to_properties(Message(b"", headers={"a": "x" * (MAX_PROPERTIES_BYTES - 200)}), "id")
    with pytest.raises(ValueError, match=r"131,008 fit into a frame"):
        to_properties(Message(b"", headers={"a": "x" * MAX_PROPERTIES_BYTES}), "id")


def test_a_number_too_large_for_single_precision_travels_as_text() -> None:
    assert to_properties(Message(b"", headers={"a": 1e300, "b": 1.5}), "id").headers == {"a": "1e+300", "b": 1.5}
