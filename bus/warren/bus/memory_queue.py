"""The queues of the in-process broker, with their consumers and deliveries.

A queue keeps what RabbitMQ's quorum queues keep: a message that comes back takes its old place, is counted, and is
dead-lettered past the limit; time to live is looked at where the message stands first. Everything is handed over from
the event loop (`call_soon`), never from inside the call that caused it, as with a broker on the other end of a wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from typing import Literal

from .errors import DeliveryLost
from .messages import Message
from .ports import Delivery
from .topology import Queue

#: Why a message was dead-lettered, in RabbitMQ's words.
Death = Literal["rejected", "expired", "maxlen", "delivery_limit"]


@dataclass(slots=True, eq=False)
class Entry:
    """A message in its place in a queue. `returns` counts its deliveries that were not acknowledged."""

    place: int
    message: Message
    expires_at: float | None
    returns: int = 0

    def __lt__(self, other: Entry) -> bool:
        return self.place < other.place


class MemoryQueue:
    """One queue. `on_death` is told of what is to be dead-lettered, `on_disuse` when nobody uses it any more."""

    def __init__(
        self, declared: Queue, on_death: Callable[[Queue, Message, Death], None], on_disuse: Callable[[Queue], None]
    ) -> None:
        self.declared = declared
        self._on_death = on_death
        self._on_disuse = on_disuse
        self._ready: list[Entry] = []
        self._places = count()
        self._consumers: deque[MemoryConsumer] = deque()
        self._head_timer: asyncio.TimerHandle | None = None
        self._disuse_timer: asyncio.TimerHandle | None = None
        self.used()

    @property
    def full(self) -> bool:
        """True if it refuses messages. Transient queues (classic ones) drop their oldest message instead."""
        return not self.declared.transient and self._exceeds(1, 1)

    @property
    def depth(self) -> int:
        """Messages that wait."""
        return len(self._ready)

    def put(self, message: Message) -> None:
        times_to_live = [ms for ms in (message.expiration_ms, self.declared.message_ttl_ms) if ms is not None]
        expires_at = _now() + min(times_to_live) / 1000 if times_to_live else None
        heappush(self._ready, Entry(next(self._places), message, expires_at))
        self.pump()
        while self.declared.transient and self._exceeds():
            self.bury(heappop(self._ready), "maxlen")

    def _exceeds(self, more_messages: int = 0, more_bytes: int = 0) -> bool:
        """Whether what waits, and so much more, is more than there may be."""
        length, length_bytes = self.declared.max_length, self.declared.max_length_bytes
        if length is not None and len(self._ready) + more_messages > length:
            return True
        if length_bytes is None:
            return False
        return sum(len(entry.message.body) for entry in self._ready) + more_bytes > length_bytes

    def put_back(self, entry: Entry) -> None:
        """To its old place, unless it has come back too often."""
        entry.returns += 1
        limit = self.declared.delivery_limit
        if limit is not None and entry.returns > limit:
            self.bury(entry, "delivery_limit")
        else:
            heappush(self._ready, entry)
        self.pump()

    def bury(self, entry: Entry, death: Death) -> None:
        """Have it dead-lettered; soon, so that queues which dead-letter into one another do not nest."""
        asyncio.get_running_loop().call_soon(self._on_death, self.declared, entry.message, death)

    def pump(self) -> None:
        """Hand over what can be handed over, consumers in turn, and bury what has expired."""
        while self._ready:
            expires_at = self._ready[0].expires_at
            if expires_at is not None and expires_at <= _now():
                self.bury(heappop(self._ready), "expired")
            elif (consumer := self._next_consumer()) is not None:
                consumer.take(heappop(self._ready))
            else:
                break
        self._watch_head()

    def add(self, consumer: MemoryConsumer) -> None:
        self._consumers.append(consumer)
        self.used()
        self.pump()

    def remove(self, consumer: MemoryConsumer) -> None:
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            if self.declared.transient and not self._consumers:
                self._on_disuse(self.declared)
            else:
                self.used()

    def used(self) -> None:
        """It is in use, or was until now: `expires_ms` begin again."""
        if self._disuse_timer is not None:
            self._disuse_timer.cancel()
            self._disuse_timer = None
        if self.declared.expires_ms is not None and not self._consumers:
            loop = asyncio.get_running_loop()
            self._disuse_timer = loop.call_later(self.declared.expires_ms / 1000, self._on_disuse, self.declared)

    def delete(self) -> None:
        """Forget everything, dead-letter nothing."""
        self._ready.clear()
        self._consumers.clear()
        for timer in (self._head_timer, self._disuse_timer):
            if timer is not None:
                timer.cancel()

    def _next_consumer(self) -> MemoryConsumer | None:
        for _ in range(len(self._consumers)):
            consumer = self._consumers[0]
            self._consumers.rotate(-1)
            if consumer.has_room:
                return consumer
        return None

    def _watch_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._ready and (expires_at := self._ready[0].expires_at) is not None:
            self._head_timer = asyncio.get_running_loop().call_at(expires_at, self.pump)


class MemoryConsumer:
    """One subscription to one queue (`ports.Consumer`)."""

    def __init__(self, queue: MemoryQueue, on_delivery: Callable[[Delivery], None], prefetch: int) -> None:
        self._queue = queue
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._unsettled: set[MemoryDelivery] = set()
        self._active = True

    @property
    def has_room(self) -> bool:
        return len(self._unsettled) < self._prefetch

    def take(self, entry: Entry) -> None:
        message = entry.message
        if entry.returns and not self._queue.declared.transient:  # classic queues do not count
            message = replace(message, headers={**message.headers, "x-delivery-count": entry.returns})
        delivery = MemoryDelivery(self, entry, message)
        self._unsettled.add(delivery)
        asyncio.get_running_loop().call_soon(self._hand_over, delivery)

    def settle(self, delivery: MemoryDelivery) -> MemoryQueue:
        """The queue in which `delivery` is to be settled, once."""
        if delivery not in self._unsettled:
            raise DeliveryLost
        self._unsettled.remove(delivery)
        return self._queue

    async def cancel(self) -> None:
        self._stop()

    def abort(self) -> None:
        """Stop, and let the queue have back whatever is not settled."""
        self._stop()
        for delivery in tuple(self._unsettled):
            self._take_back(delivery)

    def _stop(self) -> None:
        self._active = False
        self._queue.remove(self)

    def _hand_over(self, delivery: MemoryDelivery) -> None:
        if self._active:
            self._on_delivery(delivery)
        elif delivery in self._unsettled:
            self._take_back(delivery)

    def _take_back(self, delivery: MemoryDelivery) -> None:
        self._unsettled.remove(delivery)
        self._queue.put_back(delivery.entry)


class MemoryDelivery:
    """One message handed over (`ports.Delivery`)."""

    __slots__ = ("_consumer", "entry", "message", "redelivered")

    def __init__(self, consumer: MemoryConsumer, entry: Entry, message: Message) -> None:
        self._consumer = consumer
        self.entry = entry
        self.redelivered = entry.returns > 0
        self.message = message

    def ack(self) -> None:
        self._consumer.settle(self).pump()

    def reject(self) -> None:
        queue = self._consumer.settle(self)
        queue.bury(self.entry, "rejected")
        queue.pump()

    def requeue(self) -> None:
        self._consumer.settle(self).put_back(self.entry)


def _now() -> float:
    return asyncio.get_running_loop().time()
