"""What the in-process broker keeps beyond the contract of all transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.conformance.inbox import Inbox, Post
from warren.bus import (
    DIRECT_REPLY_TO,
    Binding,
    DeliveryLost,
    MemoryBroker,
    MemoryTransport,
    Message,
    PublishRefused,
    QueueNotFound,
    Topology,
    TopologyConflict,
    TransportClosed,
)


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def post(broker: MemoryBroker) -> AsyncIterator[Post]:
    transport = MemoryTransport(broker)
    yield Post(transport, "test")
    await transport.close()


async def test_a_requeued_message_takes_its_old_place(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"1", b"2", b"3")
    inbox = await Inbox.of(post.transport, queue, prefetch=1)
    (await inbox.next()).requeue()
    assert await inbox.bodies(3) == [b"1", b"2", b"3"]


async def test_consumers_take_turns(post: Post) -> None:
    queue = await post.queue()
    one, other = await Inbox.of(post.transport, queue), await Inbox.of(post.transport, queue)
    await post.put(queue, b"1", b"2", b"3", b"4")
    assert (await one.bodies(2), await other.bodies(2)) == ([b"1", b"3"], [b"2", b"4"])


async def test_an_aborted_transport_gives_its_messages_back_and_can_do_nothing_more(
    broker: MemoryBroker, post: Post
) -> None:
    queue = await post.queue()
    await post.put(queue, b"taken", b"on its way")
    killed = MemoryTransport(broker)
    delivery = await (await Inbox.of(killed, queue, prefetch=1)).next()
    killed.abort()
    with pytest.raises(DeliveryLost):
        delivery.ack()
    with pytest.raises(TransportClosed):
        await killed.publish(Message(b"", routing_key=queue))
    inbox = await Inbox.of(post.transport, queue)
    again, other = await inbox.next(), await inbox.next()
    assert [(d.message.body, d.redelivered) for d in (again, other)] == [(b"taken", True), (b"on its way", False)]


async def test_what_was_not_yet_handed_over_when_its_consumer_was_cancelled_goes_back(post: Post) -> None:
    queue = await post.queue()
    cancelled = await Inbox.of(post.transport, queue)
    publishing = asyncio.ensure_future(post.put(queue, b"back"))
    cancelling = asyncio.ensure_future(cancelled.consumer.cancel())
    await asyncio.gather(publishing, cancelling)
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"back"]
    assert cancelled.handed_over == 0


async def test_nothing_is_handed_over_from_within_publish(broker: MemoryBroker, post: Post) -> None:
    queue = await post.queue()
    inbox = await Inbox.of(post.transport, queue)
    broker.publish(Message(b"", routing_key=queue), mandatory=False)
    assert inbox.handed_over == 0
    await inbox.bodies(1)


async def test_a_full_transient_queue_drops_its_oldest(post: Post) -> None:
    queue = await post.queue(transient=True, limits={"max_length": 2})
    await post.put(queue, b"1", b"2", b"3")
    assert await (await Inbox.of(post.transport, queue)).bodies(2) == [b"2", b"3"]


async def test_a_transient_queue_does_not_count_deliveries(post: Post) -> None:
    queue = await post.queue(transient=True)
    await post.put(queue, b"again")
    inbox = await Inbox.of(post.transport, queue)
    (await inbox.next()).requeue()
    second = await inbox.next()
    assert (second.redelivered, dict(second.message.headers)) == (True, {})


async def test_a_reply_cannot_be_asked_for_before_it_is_listened_for(post: Post) -> None:
    with pytest.raises(PublishRefused):
        await post.transport.publish(Message(b"?", routing_key=await post.queue(), reply_to=DIRECT_REPLY_TO))


async def test_publishing_to_an_exchange_that_is_not_there_is_refused(post: Post) -> None:
    with pytest.raises(PublishRefused):
        await post.transport.publish(Message(b"", "nowhere", "key"))


async def test_binding_what_is_not_there_says_what(post: Post) -> None:
    with pytest.raises(QueueNotFound, match="nowhere"):
        await post.transport.declare(Topology(bindings=(Binding("nowhere", "x", "#"),)))
    queue = await post.queue()
    with pytest.raises(TopologyConflict, match="no exchange 'x'"):
        await post.transport.declare(Topology(bindings=(Binding(queue, "x", "#"),)))


async def test_what_the_publisher_does_to_its_headers_later_changes_nothing(post: Post) -> None:
    queue = await post.queue()
    headers = {"kept": 1}
    await post.transport.publish(Message(b"", routing_key=queue, headers=headers))
    headers.clear()
    assert (await (await Inbox.of(post.transport, queue)).next()).message.headers == {"kept": 1}
