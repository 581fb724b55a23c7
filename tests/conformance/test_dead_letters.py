"""What becomes of messages that are rejected, expire or come back too often."""

from __future__ import annotations

from typing import Any

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import Binding, Exchange, Message, Queue, Topology


async def first_death(post: Post, dead: str) -> tuple[Message, dict[str, Any]]:
    """The next dead letter, and the latest entry of its `x-death`."""
    delivery = await (await Inbox.of(post.transport, dead)).next()
    delivery.ack()
    return delivery.message, dict(delivery.message.headers["x-death"][0])


async def test_a_rejected_message_is_dead_lettered_whole(post: Post) -> None:
    dead = await post.queue("dead")
    queue = await post.queue(dead=dead)
    sent = Message(b"bad", routing_key=queue, message_id="id", correlation_id="c", type="t", headers={"kept": "yes"})
    await post.transport.publish(sent)
    (await (await Inbox.of(post.transport, queue)).next()).reject()
    letter, death = await first_death(post, dead)
    assert (letter.body, letter.message_id, letter.correlation_id, letter.type) == (b"bad", "id", "c", "t")
    assert (letter.exchange, letter.routing_key) == ("", dead)
    assert letter.headers["kept"] == "yes"
    assert (letter.headers["x-first-death-reason"], letter.headers["x-first-death-queue"]) == ("rejected", queue)
    assert (death["reason"], death["queue"], death["count"], death["exchange"]) == ("rejected", queue, 1, "")
    assert death["routing-keys"] == [queue]


async def test_a_dead_letter_keeps_its_key_unless_the_queue_has_one_for_it(post: Post) -> None:
    exchange = Exchange(post.name("dead"))
    topology = Topology(
        exchanges=(exchange,),
        queues=(Queue(post.name("dead")), Queue(post.name("queue"), dead_letter_exchange=exchange.name)),
        bindings=(Binding(post.name("dead"), exchange.name, post.name("#")),),
    )
    await post.transport.declare(topology)
    await post.put(post.name("queue"), b"bad")
    (await (await Inbox.of(post.transport, post.name("queue"))).next()).reject()
    letter, _ = await first_death(post, post.name("dead"))
    assert (letter.exchange, letter.routing_key) == (exchange.name, post.name("queue"))


async def test_a_message_that_comes_back_too_often_is_dead_lettered(post: Post, transports: Connect) -> None:
    dead = await post.queue("dead")
    queue = await post.queue(dead=dead, limits={"delivery_limit": 2})
    await post.put(queue, b"deadly")
    for _ in range(3):
        transport = await transports()
        await (await Inbox.of(transport, queue)).next()
        await transport.close()
    letter, death = await first_death(post, dead)
    assert (letter.body, death["reason"], death["queue"]) == (b"deadly", "delivery_limit", queue)


async def test_a_message_expires_in_a_queue_with_a_time_to_live(post: Post) -> None:
    dead = await post.queue("dead")
    queue = await post.queue(dead=dead, limits={"message_ttl_ms": 20})
    await post.put(queue, b"late")
    letter, death = await first_death(post, dead)
    assert (letter.body, death["reason"], death["queue"]) == (b"late", "expired", queue)


async def test_a_message_expires_when_its_own_time_is_over(post: Post) -> None:
    dead = await post.queue("dead")
    queue = await post.queue(dead=dead)
    await post.transport.publish(Message(b"late", routing_key=queue, expiration_ms=20))
    letter, death = await first_death(post, dead)
    assert (letter.body, death["reason"]) == (b"late", "expired")
    assert letter.expiration_ms is None
    assert death["original-expiration"] == "20"


async def test_a_message_that_is_consumed_in_time_does_not_expire(post: Post) -> None:
    dead = await post.queue("dead")
    queue = await post.queue(dead=dead, limits={"message_ttl_ms": 20})
    inbox = await Inbox.of(post.transport, queue, prefetch=1)
    await post.put(queue, b"held", b"waiting")
    held = await inbox.next()
    letter, _ = await first_death(post, dead)
    assert letter.body == b"waiting"
    held.ack()


async def test_a_retry_queue_gives_messages_back_when_their_time_is_over(post: Post) -> None:
    queue = await post.queue()
    retry = await post.queue("retry", dead=queue, limits={"message_ttl_ms": 20, "expires_ms": 60_000})
    await post.put(retry, b"again", b"and again")
    inbox = await Inbox.of(post.transport, queue)
    assert await inbox.bodies(2) == [b"again", b"and again"]


async def test_deaths_of_one_kind_in_one_queue_are_counted(post: Post) -> None:
    queue = await post.queue(dead=post.name("retry"))
    retry = await post.queue("retry", dead=queue, limits={"message_ttl_ms": 5})
    inbox = await Inbox.of(post.transport, queue)
    await post.put(queue, b"round and round")
    for count in range(3):
        delivery = await inbox.next()
        told = delivery.message.headers.get("x-death", ())
        deaths = {(death["queue"], death["reason"]): death["count"] for death in told}
        assert deaths == ({(queue, "rejected"): count, (retry, "expired"): count} if count else {})
        delivery.reject()
