"""Declaring: what is made, what is left alone, what goes by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import (
    Binding,
    Exchange,
    Message,
    Names,
    Queue,
    QueueNotFound,
    Topology,
    TopologyConflict,
    Unroutable,
    base_topology,
    listener_topology,
    mailbox_topology,
    new_message_id,
    retry_topology,
)


async def test_all_of_warrens_topology_can_be_declared_twice(post: Post, transports: Connect) -> None:
    names = Names(post.prefix)
    lasting = base_topology(names) + mailbox_topology(names, "plugin", ("a.#",)) + retry_topology(names, "plugin", 1000)
    for transport in (post.transport, await transports()):
        await transport.declare(lasting)
        await transport.declare(lasting)
    listener = listener_topology(names, names.events, "#", "unique")
    await post.transport.declare(listener)
    await post.transport.declare(listener)


async def test_declaring_a_queue_again_keeps_its_messages(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"kept")
    await post.queue()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"kept"]


@pytest.mark.parametrize(
    "other", [{"delivery_limit": 3}, {"message_ttl_ms": 1}, {"max_length": 1}, {"dead_letter_exchange": ""}], ids=str
)
async def test_a_queue_that_differs_is_a_conflict(post: Post, other: dict[str, object]) -> None:
    queue = Queue(await post.queue())
    with pytest.raises(TopologyConflict) as raised:
        await post.transport.declare(Topology(queues=(replace(queue, **other),)))  # type: ignore[arg-type]
    assert raised.value.name == queue.name
    await post.put(queue.name, b"still working")
    assert await (await Inbox.of(post.transport, queue.name)).bodies(1) == [b"still working"]


async def test_an_exchange_that_differs_is_a_conflict(post: Post) -> None:
    exchange = Exchange(post.name("exchange"))
    await post.transport.declare(Topology(exchanges=(exchange,)))
    with pytest.raises(TopologyConflict) as raised:
        await post.transport.declare(Topology(exchanges=(replace(exchange, kind="fanout"),)))
    assert raised.value.name == exchange.name


async def test_a_transient_queue_goes_with_its_last_consumer(post: Post) -> None:
    queue = await post.queue(transient=True)
    consumer = await post.transport.consume(queue, lambda delivery: None, prefetch=1)
    await consumer.cancel()
    with pytest.raises(QueueNotFound):
        await post.transport.consume(queue, lambda delivery: None, prefetch=1)


async def test_a_transient_queue_goes_with_its_connection(post: Post, transports: Connect) -> None:
    transport = await transports()
    queue = await Post(transport, post.prefix).queue(transient=True)
    exchange = Exchange(post.name("exchange"))
    await transport.declare(Topology(exchanges=(exchange,), bindings=(Binding(queue, exchange.name, "#"),)))
    await transport.close()
    with pytest.raises(QueueNotFound):
        await Inbox.of(post.transport, queue)


async def test_a_lasting_queue_stays(post: Post, transports: Connect) -> None:
    transport = await transports()
    queue = await Post(transport, post.prefix).queue()
    await post.put(queue, b"kept")
    await transport.close()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"kept"]


async def test_a_queue_that_nobody_uses_expires(post: Post) -> None:
    queue = await post.queue(limits={"expires_ms": 50})
    used = await post.queue("used", limits={"expires_ms": 50})
    inbox = await Inbox.of(post.transport, used)
    async with asyncio.timeout(30):  # RabbitMQ looks every five seconds
        while await exists(post, queue):
            await post.settle_down()
    await post.put(used, b"still here")
    assert await inbox.bodies(1) == [b"still here"]


async def exists(post: Post, queue: str) -> bool:
    """Asks without using it, which would keep it alive."""
    try:
        await post.transport.publish(Message(b"?", routing_key=queue, message_id=new_message_id()), mandatory=True)
    except Unroutable:
        return False
    return True


async def test_the_depth_of_a_queue_is_what_waits_in_it(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"1", b"2", b"3")
    assert await post.transport.depth(queue) == 3
    with pytest.raises(QueueNotFound):
        await post.transport.depth(post.name("nowhere"))


async def test_nothing_is_in_the_way_of_messages_until_the_transport_is_closed(post: Post) -> None:
    await Inbox.of(post.transport, await post.queue())
    assert post.transport.impediment() is None
    await post.transport.close()
    assert post.transport.impediment() is not None
