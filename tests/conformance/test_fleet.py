"""Orders to all, and their answers, on every transport; the workers here are whoever hears."""

from __future__ import annotations

import asyncio
from secrets import token_hex

from tests.conformance.inbox import PATIENCE_S, Connect, Inbox, Post
from warren.bus import (
    Answer,
    Drain,
    Fleet,
    Message,
    Names,
    Ping,
    Queue,
    Topology,
    Transport,
    answer_message,
    base_topology,
    control_topology,
    order_message,
    read_order,
)


async def ear(transport: Transport, names: Names) -> Inbox:
    """A worker's queue, consumed."""
    topology = control_topology(names, token_hex(6))
    await transport.declare(base_topology(names))
    await transport.declare(topology)
    return await Inbox.of(transport, topology.queues[0].name)


async def answer(transport: Transport, inbox: Inbox, worker: str, *peers: str) -> Message:
    """Hear one order, and answer it."""
    delivery = await inbox.next()
    delivery.ack()
    read_order(delivery.message)
    told = answer_message(delivery.message, Answer(worker=worker, peers=peers, answer={"to": delivery.message.type}))
    assert told is not None
    await transport.publish(told)
    return delivery.message


async def test_every_worker_hears_an_order_and_all_answers_come_back(transports: Connect, prefix: str) -> None:
    names, asking = Names(prefix), await transports()
    workers = [await transports() for _ in range(3)]
    ears = [await ear(worker, names) for worker in workers]
    async with Fleet(asking, names) as fleet:
        asked = asyncio.create_task(fleet.ask(Ping(), timeout_s=PATIENCE_S))
        for number, (worker, inbox) in enumerate(zip(workers, ears, strict=True)):
            await answer(worker, inbox, f"w{number}", *(f"w{other}" for other in range(3) if other != number))
        heard = await asked
    assert sorted(heard.answers) == ["w0", "w1", "w2"]
    assert heard.answers["w0"].answer == {"to": "warren.order"}
    assert heard.silent == []


async def test_who_is_known_to_others_and_does_not_answer_is_named(transports: Connect, prefix: str) -> None:
    names, asking, worker = Names(prefix), await transports(), await transports()
    inbox = await ear(worker, names)
    async with Fleet(asking, names) as fleet:
        heard, _ = await asyncio.gather(
            fleet.ask(Ping(), timeout_s=1.0), answer(worker, inbox, "w0", "frozen", "stuck")
        )
    assert (list(heard.answers), heard.silent) == (["w0"], ["frozen", "stuck"])


async def test_of_an_order_to_one_nobody_else_is_waited_for(transports: Connect, prefix: str) -> None:
    names, asking, worker = Names(prefix), await transports(), await transports()
    inbox = await ear(worker, names)
    async with Fleet(asking, names) as fleet:
        heard, order = await asyncio.gather(
            fleet.ask(Drain(worker="w0"), timeout_s=PATIENCE_S), answer(worker, inbox, "w0", "w1")
        )
    assert read_order(order) == Drain(worker="w0")
    assert (list(heard.answers), heard.silent) == (["w0"], [])


async def test_where_nobody_is_nobody_is_waited_for(transports: Connect, prefix: str) -> None:
    async with Fleet(await transports(), Names(prefix)) as fleet:
        async with asyncio.timeout(PATIENCE_S / 2):
            heard = await fleet.ask(Ping(), timeout_s=PATIENCE_S)
            meant = await fleet.ask(Ping(worker="w0"), timeout_s=PATIENCE_S)
    assert (heard.answers, heard.silent) == ({}, [])
    assert meant.silent == ["w0"]


async def test_what_is_no_answer_or_comes_late_is_passed_over(transports: Connect, prefix: str) -> None:
    names, asking, worker = Names(prefix), await transports(), await transports()
    inbox = await ear(worker, names)

    async def answer_badly() -> None:
        delivery = await inbox.next()
        reply_to, order_id = delivery.message.reply_to, delivery.message.correlation_id
        assert reply_to is not None
        for body, correlation_id in ((b"{}", order_id), (b"nonsense", order_id), (b"{}", "another")):
            await worker.publish(
                Message(body, routing_key=reply_to, type="warren.answer", correlation_id=correlation_id)
            )
        told = answer_message(delivery.message, Answer(worker="w0"))
        assert told is not None
        await worker.publish(told)

    async with Fleet(asking, names) as fleet:
        heard, _ = await asyncio.gather(fleet.ask(Ping(), timeout_s=PATIENCE_S), answer_badly())
    assert list(heard.answers) == ["w0"]


async def test_an_order_that_nobody_took_in_time_is_not_there_any_more(transports: Connect, prefix: str) -> None:
    names, asking, worker = Names(prefix), await transports(), await transports()
    topology = control_topology(names, "frozen")
    await worker.declare(base_topology(names))
    await worker.declare(topology)
    queue = topology.queues[0].name
    await asking.publish(order_message(names, Drain(), valid_s=0.05))
    async with asyncio.timeout(PATIENCE_S):
        while await worker.depth(queue):  # noqa: ASYNC110 - it is asked, and tells nobody
            await asyncio.sleep(0.05)
    await asking.publish(order_message(names, Ping(), valid_s=PATIENCE_S))
    inbox = await Inbox.of(worker, queue)
    assert read_order((await inbox.next()).message) == Ping()


async def test_a_transient_queue_drops_its_oldest_when_it_holds_too_many_bytes(post: Post) -> None:
    queue = Queue(post.name("ear"), transient=True, max_length_bytes=250)
    await post.transport.declare(Topology(queues=(queue,)))
    await post.put(queue.name, *(bytes([letter]) * 100 for letter in b"abcd"))
    inbox = await Inbox.of(post.transport, queue.name)
    assert [body[:1] for body in await inbox.bodies(2)] == [b"c", b"d"]
    await post.settle_down()
    assert inbox.handed_over == 2
