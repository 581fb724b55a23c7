"""What a publisher is promised."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import DIRECT_REPLY_TO, DeliveryLost, Message, PublishRefused, TransportClosed, Unroutable


async def test_a_message_is_in_its_queue_when_publish_returns(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    publisher = await transports()
    await publisher.publish(Message(b"safe", routing_key=queue), mandatory=True)
    await publisher.close()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"safe"]


async def test_many_messages_are_published_at_once(post: Post) -> None:
    queue = await post.queue()
    inbox = await Inbox.of(post.transport, queue)
    bodies = [str(number).encode() for number in range(200)]
    await asyncio.gather(*(post.put(queue, body) for body in bodies))
    assert await inbox.bodies(200) == bodies


async def taken(post: Post, queue: str) -> bool:
    """True if `queue` took another message, False if it refused one."""
    try:
        await post.put(queue, b"one more")
    except PublishRefused:
        return False
    return True


async def test_a_full_queue_refuses_until_it_is_emptied(post: Post) -> None:
    queue = await post.queue(limits={"max_length": 2})
    accepted = 0
    async with asyncio.timeout(20):
        while await taken(post, queue):  # RabbitMQ takes a few more before it notices
            accepted += 1
    assert accepted >= 2
    inbox = await Inbox.of(post.transport, queue)
    await inbox.bodies(accepted)
    async with asyncio.timeout(20):
        while not await taken(post, queue):
            await post.settle_down()
    assert await inbox.bodies(1) == [b"one more"]


async def test_concurrent_publishes_fail_each_for_itself(post: Post) -> None:
    queue = await post.queue()
    keys = [queue if n % 2 else post.name("nowhere") for n in range(20)]
    messages = [Message(b"x", routing_key=key, message_id=str(n)) for n, key in enumerate(keys)]
    ends = await asyncio.gather(
        *(post.transport.publish(message, mandatory=True) for message in messages), return_exceptions=True
    )
    assert [end is None for end in ends] == [key == queue for key in keys]
    assert all(isinstance(end, Unroutable) for end in ends if end)


async def test_a_reply_comes_back_without_a_queue(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    worker = await transports()
    replies = await Inbox.of(post.transport, DIRECT_REPLY_TO)
    requests = await Inbox.of(worker, queue)
    for number in (b"1", b"2"):
        await post.transport.publish(Message(number, routing_key=queue, reply_to=DIRECT_REPLY_TO))
        request = await requests.next()
        reply_to = request.message.reply_to
        assert reply_to is not None
        assert reply_to != DIRECT_REPLY_TO
        reply = Message(b"answer to " + number, routing_key=reply_to, correlation_id="c")
        await worker.publish(reply, mandatory=number == b"2")  # which means nothing for a reply
        request.ack()
        heard = await replies.next()
        assert (heard.message.body, heard.message.correlation_id) == (b"answer to " + number, "c")


async def test_a_reply_is_settled_when_it_arrives(post: Post) -> None:
    queue = await post.queue()
    replies = await Inbox.of(post.transport, DIRECT_REPLY_TO)
    requests = await Inbox.of(post.transport, queue)
    await post.transport.publish(Message(b"?", routing_key=queue, reply_to=DIRECT_REPLY_TO))
    reply_to = (await requests.next()).message.reply_to
    assert reply_to is not None
    await post.transport.publish(Message(b"!", routing_key=reply_to))
    with pytest.raises(DeliveryLost):
        (await replies.next()).ack()


async def test_a_reply_to_somebody_who_is_gone_is_dropped(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    caller = await transports()
    await Inbox.of(caller, DIRECT_REPLY_TO)
    await caller.publish(Message(b"?", routing_key=queue, reply_to=DIRECT_REPLY_TO))
    await caller.close()
    request = await (await Inbox.of(post.transport, queue)).next()
    assert request.message.reply_to is not None
    await post.transport.publish(Message(b"!", routing_key=request.message.reply_to))


async def test_nothing_works_after_closing(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    transport = await transports()
    await transport.close()
    await transport.close()
    closed = Post(transport, post.prefix)
    with pytest.raises(TransportClosed):
        await closed.put(queue, b"")
    with pytest.raises(TransportClosed):
        await closed.queue()
    with pytest.raises(TransportClosed):
        await Inbox.of(transport, queue)
