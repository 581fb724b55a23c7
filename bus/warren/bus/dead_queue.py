"""The queue of dead letters: look at them one by one; have some published again or forgotten, and leave the rest.

    async with DeadQueue(transport, names) as queue:
        async for held in queue.letters():
            if held.letter.plugin == "digest":
                await queue.replay(held)

AMQP has no way to read a queue and leave it as it is. So each letter is taken and held, unsettled, until it is replayed
or discarded, or until the block is left: then it goes back to its place. (To give it back at once would be to get it
again at once.) Whatever ends the program, the broker still has every letter whose replay it has not confirmed.

What is held, in memory and on the broker, is bounded: the letters come in windows, and another window is opened only
when all that came is being held. Those that are settled on the way, as in replaying everything, need one window.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from .dead_letters import DeadLetter, read_dead_letter, revived
from .errors import DeliveryLost, Unroutable
from .messages import is_reply_address
from .ports import Consumer, Delivery, Transport
from .topology import Names

#: Letters that may come before what has come is settled. It is a consumer's prefetch.
WINDOW: Final = 500

#: Letters that are held at most; a prefetch count cannot be larger either.
MAX_HELD: Final = 65_535

#: How long nothing may come before it is believed that nothing will: somebody else holds the rest, or has settled it.
QUIET_S: Final = 3.0

#: Settlements under way at a time. Each waits for a confirm, and the broker confirms many at once.
IN_FLIGHT: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class HeldLetter:
    """A letter that is ours until it is settled, or given back."""

    letter: DeadLetter
    delivery: Delivery


class DeadQueue:
    """An async context manager, for one task; `replay` and `discard` may run concurrently.

    `depth` is the number of letters that waited when it was entered, and as many are looked at, no more: what is
    replayed may come back, dead once more, before the end. `unseen` of these have not come yet.
    """

    def __init__(
        self, transport: Transport, names: Names, *, publish_limit_s: float | None = None, quiet_s: float = QUIET_S
    ) -> None:
        self.depth = 0
        self.unseen = 0
        self._transport = transport
        self._names = names
        self._publish_limit_s = publish_limit_s
        self._quiet_s = quiet_s
        self._consumers: list[Consumer] = []
        self._room = 0
        self._held: dict[HeldLetter, None] = {}  # a set that keeps its order
        self._arrived: asyncio.Queue[HeldLetter] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Raises `QueueNotFound`."""
        self.depth = self.unseen = await self._transport.depth(self._names.dead)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for consumer in self._consumers:  # all of them first, or one would get what another has given back
            await consumer.cancel()
        for held in tuple(self._held):
            with suppress(DeliveryLost):
                held.delivery.requeue()

    @property
    def is_full(self) -> bool:
        """It holds as many letters as it may, so no other can be looked at."""
        return len(self._held) >= MAX_HELD

    async def letters(self) -> AsyncIterator[HeldLetter]:
        """Each letter, the oldest first. It ends early when nothing more comes for a while."""
        while self.unseen and (held := await self._next()) is not None:
            self.unseen -= 1
            yield held

    async def replay(self, held: HeldLetter) -> None:
        """Publish its message as it was published first and, once that is confirmed, forget the letter.

        Raises `PublishError`, MalformedMessage for a letter that does not tell where it is from, and ValueError for one
        whose headers cannot travel: it is held then as before. Raises `DeliveryLost` when the broker took the letter
        back meanwhile: it was published, and will come again.
        """
        message = revived(held.letter)
        if is_reply_address(message):  # nobody would say that nobody is there
            raise Unroutable(message.exchange, message.routing_key)
        await self._transport.publish(message, mandatory=True, timeout_s=self._publish_limit_s)
        await self.discard(held)

    async def discard(self, held: HeldLetter) -> None:
        """Forget the letter. Raises `DeliveryLost` when the broker took it back: it will come again."""
        del self._held[held]
        try:
            held.delivery.ack()
        except DeliveryLost:
            self.unseen += 1
            raise

    async def _next(self) -> HeldLetter | None:
        if self._arrived.empty() and len(self._held) >= self._room:
            await self._make_room()
        try:
            async with asyncio.timeout(self._quiet_s):
                return await self._arrived.get()
        except TimeoutError:
            return None

    async def _make_room(self) -> None:
        """Open another window. As large as all before, so that there are few."""
        window = min(max(WINDOW, self._room), self.unseen, MAX_HELD - self._room)
        if window:
            self._room += window
            self._consumers.append(await self._transport.consume(self._names.dead, self._take, prefetch=window))

    def _take(self, delivery: Delivery) -> None:
        held = HeldLetter(read_dead_letter(self._names, delivery.message), delivery)
        self._held[held] = None
        self._arrived.put_nowait(held)


async def settle_each(
    letters: AsyncIterable[HeldLetter], settle: Callable[[HeldLetter], Awaitable[None]], in_flight: int = IN_FLIGHT
) -> None:
    """`settle` each of `letters` as it comes, several at a time; return when all are done.

    The first error that `settle` raises ends it, and is raised.
    """
    room = asyncio.Semaphore(in_flight)

    async def settle_one(held: HeldLetter) -> None:
        try:
            await settle(held)
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for held in letters:
                await room.acquire()
                tasks.create_task(settle_one(held))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
