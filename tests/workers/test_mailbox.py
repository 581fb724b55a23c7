"""How many deliveries a mailbox takes at a time, and what becomes of those that cannot be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from warren.bus import DELIVERY_COUNT, Delivery, MemoryBroker, MemoryTransport, Message, Queue, Topology
from warren.workers.mailbox import TURN_S, Mailbox, Served
from warren.workers.metrics import WorkerMetrics

QUEUE = "mailbox"
LIMIT_S = 20.0


@dataclass
class Serving:
    """A mailbox that takes two at a time, whose deliveries are `under_way` until they are let go."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    under_way: dict[bytes, asyncio.Event] = field(default_factory=dict)
    served: list[bytes] = field(default_factory=list)
    counts: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.transport = MemoryTransport(self.broker)
        self.publisher = MemoryTransport(self.broker)
        self.tasks: set[asyncio.Future[None]] = set()
        self.metrics = WorkerMetrics(in_flight=self.tasks.__len__)
        self.mailbox = Mailbox(
            self.transport, QUEUE, self.serve, prefetch=2, metrics=self.metrics, under_way=self.tasks
        )

    def serve(self, deliveries: Sequence[Delivery]) -> list[Served]:
        return [self.serve_one(delivery) for delivery in deliveries]

    async def serve_one(self, delivery: Delivery) -> None:
        body = delivery.message.body
        self.under_way[body] = asyncio.Event()
        self.counts[body] = delivery.message.headers.get(DELIVERY_COUNT, 0)
        try:
            await self.under_way[body].wait()
        finally:
            del self.under_way[body]
        self.served.append(body)

    async def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            await self.publisher.publish(Message(body, routing_key=QUEUE))

    async def have_come_to_nothing(self, *bodies: bytes) -> None:
        """Publish them, and let a consumer that dies have them first."""
        await self.publish(*bodies)
        doomed = MemoryTransport(self.broker)
        taken: list[Delivery] = []
        await doomed.consume(QUEUE, taken.append, prefetch=len(bodies))
        await until(lambda: len(taken) == len(bodies))
        doomed.abort()

    async def until_under_way(self, *bodies: bytes) -> None:
        await until(lambda: list(self.under_way) == list(bodies))

    def let_go(self, *bodies: bytes) -> None:
        for body in bodies:
            self.under_way[body].set()

    async def have_a_suspect_beside(self, body: bytes) -> None:
        """Have one more taken, while `body` is under way, that came to nothing before."""
        await self.publish(b"first", body)
        await self.mailbox.start()
        await self.until_under_way(b"first", body)
        await self.have_come_to_nothing(b"suspect")
        self.let_go(b"first")
        await until(lambda: self.mailbox._waiting)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    here = Serving()
    await here.publisher.declare(Topology(queues=(Queue(QUEUE),)))
    yield here
    await here.mailbox.drain(0)
    for task in here.tasks:
        task.cancel()
    if here.tasks:
        await asyncio.wait(here.tasks)
    await here.transport.close()
    await here.publisher.close()


async def test_several_are_taken_at_once_when_the_first_is_new(serving: Serving) -> None:
    await serving.publish(b"1", b"2")
    await serving.mailbox.start()
    await serving.until_under_way(b"1", b"2")


async def test_what_came_to_nothing_before_is_taken_one_by_one_and_then_several_at_once(serving: Serving) -> None:
    await serving.have_come_to_nothing(b"1", b"2", b"3")
    await serving.publish(b"4", b"5")
    await serving.mailbox.start()
    for body in (b"1", b"2", b"3"):
        await serving.until_under_way(body)
        assert await serving.publisher.depth(QUEUE) == 5 - int(body)
        serving.let_go(body)
    await serving.until_under_way(b"4", b"5")


async def test_a_message_that_kills_its_workers_is_counted_without_its_neighbours(serving: Serving) -> None:
    await serving.have_come_to_nothing(b"poison", b"neighbour")
    for _ in range(2):
        worker = Serving(serving.broker)
        await worker.mailbox.start()
        await worker.until_under_way(b"poison")
        worker.transport.abort()
        worker.let_go(b"poison")
        await asyncio.wait(worker.tasks)
        await worker.publisher.close()
    await serving.mailbox.start()
    for body in (b"poison", b"neighbour"):
        await serving.until_under_way(body)
        serving.let_go(body)
    await until(lambda: len(serving.served) == 2)
    assert serving.counts == {b"poison": 3, b"neighbour": 1}


async def test_what_comes_while_it_drains_goes_back(serving: Serving) -> None:
    await serving.publish(b"1")
    await serving.mailbox.start()
    await until(lambda: serving.mailbox._arrived)
    await serving.mailbox.drain(0)
    assert await serving.publisher.depth(QUEUE) == 1
    assert not serving.under_way


async def test_a_turn_takes_as_many_as_have_their_time_in_it(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox(
        serving.transport, QUEUE, serving.serve, prefetch=1000, metrics=serving.metrics, under_way=serving.tasks
    )
    now_s = 0.0
    turns: list[int] = []

    def serve(deliveries: Sequence[Delivery]) -> list[Served]:
        nonlocal now_s
        now_s += len(deliveries) * TURN_S / 7
        turns.append(len(deliveries))
        return [None] * len(deliveries)

    monkeypatch.setattr(mailbox, "_serve", serve)
    monkeypatch.setattr(mailbox, "_clock", lambda: now_s)
    await serving.publish(*(b"%d" % number for number in range(100)))
    await mailbox.start()
    await until(lambda: sum(turns) == 100)
    await mailbox.drain(0)
    assert max(turns) == 7


async def test_deliveries_that_a_defect_keeps_from_being_served_go_back(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren.workers.mailbox.GIVE_BACK_PAUSES_S", (0.0, LIMIT_S * 10))
    attempts: list[int] = []

    def fail(deliveries: Sequence[Delivery]) -> list[Served]:
        attempts.append(len(deliveries))
        raise RuntimeError

    monkeypatch.setattr(serving.mailbox, "_serve", fail)
    await serving.publish(b"1")
    await serving.mailbox.start()
    await until(lambda: len(attempts) == 2)  # it came again
    await serving.mailbox.drain(0)
    await until(lambda: not serving.tasks)
    assert await serving.publisher.depth(QUEUE) == 1


async def test_a_suspect_among_others_is_served_when_they_have_ended_and_nothing_is_taken_meanwhile(
    serving: Serving,
) -> None:
    await serving.have_a_suspect_beside(b"new")
    await serving.publish(b"later")
    assert list(serving.under_way) == [b"new"]
    serving.let_go(b"new")
    await serving.until_under_way(b"suspect")
    assert await serving.publisher.depth(QUEUE) == 1
    serving.let_go(b"suspect")
    await serving.until_under_way(b"later")


async def test_what_comes_to_a_mailbox_on_hold_is_not_begun_and_goes_back_once(serving: Serving) -> None:
    await serving.publish(b"1", b"2")
    await serving.mailbox.start()
    await serving.until_under_way(b"1", b"2")
    serving.mailbox.hold()
    serving.let_go(b"1", b"2")
    await serving.publish(b"3", b"4")
    await until(lambda: len(serving.mailbox._arrived) == 2)
    await serving.mailbox.drain(0)
    assert serving.served == [b"1", b"2"]
    assert await serving.publisher.depth(QUEUE) == 2
    assert serving.metrics.given_back == 2


async def test_suspects_that_wait_as_a_mailbox_is_put_on_hold_go_back_unserved(serving: Serving) -> None:
    await serving.have_a_suspect_beside(b"long")
    serving.mailbox.hold()
    serving.let_go(b"long")
    await serving.mailbox.drain(LIMIT_S)
    assert b"suspect" not in serving.counts
    assert await serving.publisher.depth(QUEUE) == 1


async def test_a_drain_gives_back_what_has_not_begun(serving: Serving) -> None:
    await serving.have_a_suspect_beside(b"long")
    await serving.mailbox.drain(0)
    assert await serving.publisher.depth(QUEUE) == 1
    assert serving.metrics.given_back == 1
    serving.let_go(b"long")
    await until(lambda: not serving.tasks)
    assert serving.served[-1] == b"long"
