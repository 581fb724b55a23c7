"""How messages are handed over and settled."""

from __future__ import annotations

import pytest

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import DeliveryLost, QueueNotFound


async def test_messages_come_in_the_order_of_their_publishing(post: Post) -> None:
    queue = await post.queue()
    bodies = [str(number).encode() for number in range(20)]
    await post.put(queue, *bodies)
    assert await (await Inbox.of(post.transport, queue)).bodies(20) == bodies


async def test_a_first_delivery_is_not_redelivered(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"first")
    delivery = await (await Inbox.of(post.transport, queue)).next()
    assert delivery.redelivered is False
    assert delivery.message.headers.get("x-delivery-count", 0) == 0


async def test_a_requeued_message_comes_again_and_is_counted(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"again")
    inbox = await Inbox.of(post.transport, queue)
    (await inbox.next()).requeue()
    second = await inbox.next()
    assert (second.message.body, second.redelivered) == (b"again", True)
    second.ack()


async def test_what_a_closed_connection_had_not_settled_comes_again_and_is_counted(
    post: Post, transports: Connect
) -> None:
    queue = await post.queue()
    await post.put(queue, b"again")
    for count in range(3):
        transport = await transports()
        delivery = await (await Inbox.of(transport, queue)).next()
        assert delivery.message.headers.get("x-delivery-count", 0) == count
        assert delivery.redelivered is (count > 0)
        await transport.close()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"again"]


async def test_an_acknowledged_message_is_gone(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    await post.put(queue, b"done", b"left")
    transport = await transports()
    inbox = await Inbox.of(transport, queue)
    (await inbox.next()).ack()
    await inbox.next()
    await transport.close()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"left"]


async def test_a_rejected_message_is_gone_where_there_is_no_dead_letter_exchange(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, b"refused", b"next")
    inbox = await Inbox.of(post.transport, queue, prefetch=1)
    (await inbox.next()).reject()
    assert await inbox.bodies(1) == [b"next"]


async def test_no_more_than_the_prefetch_is_unsettled(post: Post) -> None:
    queue = await post.queue()
    await post.put(queue, *(str(number).encode() for number in range(5)))
    inbox = await Inbox.of(post.transport, queue, prefetch=2)
    first, second = await inbox.next(), await inbox.next()
    await post.settle_down()
    assert inbox.handed_over == 2
    first.ack()
    third = await inbox.next()
    await post.settle_down()
    assert inbox.handed_over == 3
    second.ack()
    third.ack()
    assert await inbox.bodies(2) == [b"3", b"4"]


async def test_consumers_compete_for_a_queue(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    one = await Inbox.of(post.transport, queue, prefetch=1)
    other = await Inbox.of(await transports(), queue, prefetch=1)
    await post.put(queue, b"1", b"2")
    assert {(await one.next()).message.body, (await other.next()).message.body} == {b"1", b"2"}


async def test_a_busy_consumer_does_not_hold_up_the_others(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    busy = await Inbox.of(post.transport, queue, prefetch=1)
    await post.put(queue, b"held")
    held = await busy.next()
    free = await Inbox.of(await transports(), queue, prefetch=1)
    await post.put(queue, *(str(number).encode() for number in range(10)))
    assert await free.bodies(10) == [str(number).encode() for number in range(10)]
    held.ack()


@pytest.mark.parametrize("second", ["ack", "reject", "requeue"])
@pytest.mark.parametrize("first", ["ack", "reject", "requeue"])
async def test_a_second_settlement_is_an_error_and_changes_nothing(post: Post, first: str, second: str) -> None:
    queue = await post.queue()
    await post.put(queue, b"once")
    inbox = await Inbox.of(post.transport, queue, prefetch=1)
    delivery = await inbox.next()
    getattr(delivery, first)()
    with pytest.raises(DeliveryLost):
        getattr(delivery, second)()
    await post.put(queue, b"end")
    # On a broker it is on its way back while the next one is published, by another connection: either may be first.
    came = [b"end", b"once"] if first == "requeue" else [b"end"]
    assert sorted(await inbox.bodies(len(came))) == came


async def test_a_settlement_after_closing_is_an_error(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    await post.put(queue, b"taken back")
    transport = await transports()
    delivery = await (await Inbox.of(transport, queue)).next()
    await transport.close()
    with pytest.raises(DeliveryLost):
        delivery.ack()
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"taken back"]


async def test_a_cancelled_consumer_gets_nothing_more_and_keeps_what_it_has(post: Post, transports: Connect) -> None:
    queue = await post.queue()
    await post.put(queue, b"kept")
    inbox = await Inbox.of(await transports(), queue)
    kept = await inbox.next()
    await inbox.consumer.cancel()
    await inbox.consumer.cancel()
    await post.put(queue, b"for another")
    other = await Inbox.of(post.transport, queue)
    assert await other.bodies(1) == [b"for another"]
    kept.ack()
    assert (inbox.handed_over, other.handed_over) == (1, 1)


async def test_a_queue_that_is_not_there_cannot_be_consumed_from(post: Post) -> None:
    with pytest.raises(QueueNotFound) as raised:
        await Inbox.of(post.transport, post.name("nowhere"))
    assert raised.value.queue == post.name("nowhere")
    queue = await post.queue()
    await post.put(queue, b"still working")
    assert await (await Inbox.of(post.transport, queue)).bodies(1) == [b"still working"]
