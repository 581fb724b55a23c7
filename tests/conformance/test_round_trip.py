"""What is published is what arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.inbox import Inbox, Post
from warren.bus import Message, connect

#: AMQP short strings, as names in a table and most properties are.
SHORT_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
HEADER_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)  # RabbitMQ's own language has neither
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=1000)
)


async def there_and_back(post: Post, queue: str, message: Message) -> Message:
    await post.transport.publish(message)
    inbox = await Inbox.of(post.transport, queue)
    delivery = await inbox.next()
    delivery.ack()
    await inbox.consumer.cancel()
    return replace(delivery.message, headers=dict(delivery.message.headers))


async def test_every_property_arrives(post: Post) -> None:
    queue = await post.queue()
    sent = Message(
        body=bytes(range(256)),
        routing_key=queue,
        type="warren.request",
        message_id="id",
        correlation_id="correlation",
        reply_to="somebody",
        content_type="text/plain",
        expiration_ms=60_000,
        timestamp_s=1_700_000_000,
        headers={"a": "b"},
    )
    assert await there_and_back(post, queue, sent) == sent


async def test_what_was_not_set_arrives_unset(post: Post) -> None:
    queue = await post.queue()
    sent = Message(b"", routing_key=queue, content_type=None, headers={})
    arrived = await there_and_back(post, queue, sent)
    assert replace(arrived, message_id=None) == sent  # but an id a transport may give, to tell what was returned


async def test_every_kind_of_header_arrives(post: Post) -> None:
    queue = await post.queue()
    headers = {
        "text": "grüße, 世界 🐇",
        "long text": "x" * 8192,
        "empty": "",
        "none": None,
        "true": True,
        "false": False,
        "zero": 0,
        "byte": 200,
        "short": -40_000,
        "int": 2**31,
        "long": 2**63 - 1,
        "negative": -(2**63),
        "float": 0.5,  # of single precision: not every AMQP library sends more
    }
    arrived = await there_and_back(post, queue, Message(b"", routing_key=queue, headers=headers))
    assert arrived.headers == headers
    assert {name: type(value) for name, value in arrived.headers.items()} == {
        name: type(value) for name, value in headers.items()
    }


async def test_a_large_body_arrives(post: Post) -> None:
    queue = await post.queue()
    body = bytes(1 << 20)
    assert (await there_and_back(post, queue, Message(body, routing_key=queue))).body == body


@given(headers=st.dictionaries(SHORT_TEXT, HEADER_VALUES, max_size=8), body=st.binary(max_size=200))
async def test_any_headers_and_body_arrive_in_memory(headers: Mapping[str, object], body: bytes) -> None:
    transport = await connect("memory://round-trip")
    post = Post(transport, "round-trip")
    queue = await post.queue()
    sent = Message(body, routing_key=queue, headers=headers)
    arrived = await there_and_back(post, queue, sent)
    await transport.close()
    assert arrived == sent
