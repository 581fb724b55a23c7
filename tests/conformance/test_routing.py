"""Which queues a message comes to."""

from __future__ import annotations

import pytest

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import Binding, Exchange, Message, QueueNotFound, Topology, TopologyConflict, Unroutable


async def arrived(post: Post, queue: str, *expected: bytes) -> None:
    """Nothing but `expected` has come to `queue`, in that order."""
    await post.put(queue, b"end")
    inbox = await Inbox.of(post.transport, queue)
    assert await inbox.bodies(len(expected) + 1) == [*expected, b"end"]


async def exchange_with_queues(post: Post, exchange: Exchange, **patterns: str) -> None:
    """`exchange`, and a queue for each name, bound by its pattern."""
    queues = {name: await post.queue(name) for name in patterns}
    bindings = tuple(Binding(queues[name], exchange.name, pattern) for name, pattern in patterns.items())
    await post.transport.declare(Topology(exchanges=(exchange,), bindings=bindings))


async def test_a_topic_exchange_routes_by_pattern(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, exact="a.b", star="a.*", hash="a.#", all="#", middle="*.#.c")
    keys = ["a", "a.b", "a.b.c", "a.", "b.c", "c", "a..c"]
    for key in keys:
        await post.transport.publish(Message(key.encode(), exchange.name, key))
    await arrived(post, post.name("exact"), b"a.b")
    await arrived(post, post.name("star"), b"a.b", b"a.")
    await arrived(post, post.name("hash"), b"a", b"a.b", b"a.b.c", b"a.", b"a..c")
    await arrived(post, post.name("all"), *(key.encode() for key in keys))
    await arrived(post, post.name("middle"), b"a.b.c", b"b.c", b"a..c")


async def test_the_empty_key_has_no_words(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, hash="#", star="*")
    await post.transport.publish(Message(b"empty", exchange.name, ""))
    await arrived(post, post.name("hash"), b"empty")
    await arrived(post, post.name("star"))


async def test_a_message_comes_once_to_a_queue_that_is_bound_twice(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a.*")
    await post.transport.declare(Topology(bindings=(Binding(post.name("queue"), exchange.name, "#"),)))
    await post.transport.publish(Message(b"once", exchange.name, "a.b"))
    await arrived(post, post.name("queue"), b"once")


async def test_a_binding_that_is_undone_routes_no_more_and_the_others_do(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a.*", other="a.*")
    await post.transport.declare(Topology(bindings=(Binding(post.name("queue"), exchange.name, "b"),)))
    undone = Binding(post.name("queue"), exchange.name, "a.*")
    await post.transport.publish(Message(b"before", exchange.name, "a.b"))
    await post.transport.unbind(undone)
    for key in ("a.b", "b"):
        await post.transport.publish(Message(key.encode(), exchange.name, key))
    await arrived(post, post.name("queue"), b"before", b"b")
    await arrived(post, post.name("other"), b"before", b"a.b")


async def test_another_connection_can_undo_a_binding_and_make_it_again(post: Post, transports: Connect) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a")
    binding = Binding(post.name("queue"), exchange.name, "a")
    other = await transports()
    await other.unbind(binding)
    await post.transport.publish(Message(b"between", exchange.name, "a"))
    await other.declare(Topology(bindings=(binding,)))
    await post.transport.publish(Message(b"after", exchange.name, "a"))
    await arrived(post, post.name("queue"), b"after")


async def test_a_binding_is_made_once_and_as_often_as_one_likes(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a")
    binding = Binding(post.name("queue"), exchange.name, "b.*")
    for _ in range(2):
        await post.transport.bind(binding)
    await post.transport.bind()
    await post.transport.publish(Message(b"bound", exchange.name, "b.x"))
    await post.transport.unbind(binding)
    await post.transport.publish(Message(b"unbound", exchange.name, "b.x"))
    await arrived(post, post.name("queue"), b"bound")


async def test_what_is_not_there_cannot_be_bound(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a")
    with pytest.raises(QueueNotFound):
        await post.transport.bind(Binding(post.name("nowhere"), exchange.name, "a"))
    with pytest.raises(TopologyConflict):
        await post.transport.bind(Binding(post.name("queue"), post.name("nothing"), "a"))


async def test_what_is_not_bound_can_be_unbound(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a")
    for _ in range(2):
        await post.transport.unbind(Binding(post.name("queue"), exchange.name, "a"))
    await post.transport.unbind()
    nowhere, nothing = post.name("nowhere"), post.name("nothing")
    await post.transport.unbind(Binding(nowhere, exchange.name, "a"), Binding(post.name("queue"), nothing, "a"))


async def test_a_queue_that_is_forgotten_stays_as_it_is(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="a")
    for queue in (post.name("queue"), post.name("nowhere")):
        post.transport.forget(queue)
    await post.transport.publish(Message(b"here", exchange.name, "a"))
    await arrived(post, post.name("queue"), b"here")


async def test_a_fanout_exchange_routes_to_every_queue(post: Post) -> None:
    exchange = Exchange(post.name("fanout"), "fanout")
    await exchange_with_queues(post, exchange, one="", other="whatever")
    await post.transport.publish(Message(b"all", exchange.name, "any.key"))
    await arrived(post, post.name("one"), b"all")
    await arrived(post, post.name("other"), b"all")


async def test_a_direct_exchange_routes_by_equality(post: Post) -> None:
    exchange = Exchange(post.name("direct"), "direct")
    await exchange_with_queues(post, exchange, same="a.b", pattern="a.*")
    await post.transport.publish(Message(b"direct", exchange.name, "a.b"))
    await arrived(post, post.name("same"), b"direct")
    await arrived(post, post.name("pattern"))


async def test_the_default_exchange_routes_to_the_queue_of_that_name(post: Post) -> None:
    queue, other = await post.queue("queue"), await post.queue("other")
    await post.put(queue, b"direct")
    await arrived(post, queue, b"direct")
    await arrived(post, other)


async def test_what_nothing_is_bound_for_goes_to_the_alternate_exchange(post: Post) -> None:
    alternate = Exchange(post.name("alternate"), "fanout")
    exchange = Exchange(post.name("topics"), alternate=alternate.name)
    await exchange_with_queues(post, alternate, rest="")
    await exchange_with_queues(post, exchange, queue="known.*")
    await post.transport.publish(Message(b"known", exchange.name, "known.key"), mandatory=True)
    await post.transport.publish(Message(b"unknown", exchange.name, "unknown.key"), mandatory=True)
    await arrived(post, post.name("queue"), b"known")
    inbox = await Inbox.of(post.transport, post.name("rest"))
    message = (await inbox.next()).message
    assert (message.body, message.exchange, message.routing_key) == (b"unknown", exchange.name, "unknown.key")


async def test_a_mandatory_message_that_no_queue_takes_is_unroutable(post: Post) -> None:
    exchange = Exchange(post.name("topics"))
    await exchange_with_queues(post, exchange, queue="known.*")
    with pytest.raises(Unroutable) as raised:
        await post.transport.publish(Message(b"lost", exchange.name, "unknown.key", message_id="1"), mandatory=True)
    assert (raised.value.exchange, raised.value.routing_key) == (exchange.name, "unknown.key")
    with pytest.raises(Unroutable):
        await post.transport.publish(Message(b"lost", routing_key=post.name("nowhere"), message_id="2"), mandatory=True)


async def test_a_message_that_no_queue_takes_is_dropped_unless_it_is_mandatory(post: Post) -> None:
    await post.transport.publish(Message(b"lost", routing_key=post.name("nowhere")))
