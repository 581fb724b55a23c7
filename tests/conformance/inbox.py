"""Where a test's deliveries arrive. Every wait is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from warren.bus import Consumer, Delivery, Message, Queue, Topology, Transport

#: Far more than a busy machine needs for one message.
PATIENCE_S = 20.0

Connect: TypeAlias = Callable[[], Awaitable[Transport]]


class Inbox:
    """One subscription, and what it has been handed. `consumer` is set once it runs."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self.handed_over = 0
        self.consumer: Consumer

    @classmethod
    async def of(cls, transport: Transport, queue: str, *, prefetch: int = 100) -> Inbox:
        inbox = cls()
        inbox.consumer = await transport.consume(queue, inbox._take, prefetch=prefetch)
        return inbox

    def _take(self, delivery: Delivery) -> None:
        self.handed_over += 1
        self._arrived.put_nowait(delivery)

    async def next(self) -> Delivery:
        async with asyncio.timeout(PATIENCE_S):
            return await self._arrived.get()

    async def bodies(self, number: int) -> list[bytes]:
        """The bodies of the next deliveries, each acknowledged."""
        bodies = []
        for _ in range(number):
            delivery = await self.next()
            delivery.ack()
            bodies.append(delivery.message.body)
        return bodies


@dataclass(frozen=True)
class Post:
    """A transport and a prefix, and the few things that all these tests do with them."""

    transport: Transport
    prefix: str

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def queue(
        self,
        name: str = "queue",
        *,
        transient: bool = False,
        limits: dict[str, int] | None = None,
        dead: str | None = None,
    ) -> str:
        """Declare a queue, dead-lettering to the queue `dead` through the default exchange; its full name."""
        full = self.name(name)
        queue = Queue(
            full,
            transient=transient,
            dead_letter_exchange=None if dead is None else "",
            dead_letter_routing_key=dead,
            **(limits or {}),
        )
        await self.transport.declare(Topology(queues=(queue,)))
        return full

    async def put(self, queue: str, *bodies: bytes) -> None:
        """Publish straight into `queue`."""
        for body in bodies:
            await self.transport.publish(Message(body, routing_key=queue))

    async def settle_down(self) -> None:
        """Come back when all that was on its way has had the time of two full round trips to arrive."""
        for number in range(2):
            queue = await self.queue(f"settle{number}", transient=True)
            inbox = await Inbox.of(self.transport, queue)
            await self.put(queue, b"")
            await inbox.bodies(1)
            await inbox.consumer.cancel()
