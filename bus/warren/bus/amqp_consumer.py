"""Consuming a queue: one channel for each consumer, which owns every settlement on it.

The broker answers an unknown or repeated delivery tag by closing the channel and taking back everything on it. So a
delivery is settled once, on the channel that it came by, or not at all. When the channel goes, or the broker cancels
the consumer (its queue was deleted; its receiver took too long for RabbitMQ 4.3), there is another channel with a
consumer shortly after, and what was unsettled comes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat
from typing import Final

from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity
from pamqp.commands import Basic

from .amqp_channel import MessageChannel, Settlement
from .amqp_closing import ConnectionLost, lost_when_closed, unless_silent
from .amqp_link import Link
from .amqp_topology import DeclaredTopology, declare_again
from .errors import BusError, DeliveryLost, QueueNotFound
from .messages import Message
from .ports import Delivery

log = logging.getLogger(__name__)

#: Pauses between attempts to subscribe again; the last one from then on.
RESUBSCRIBE_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)

#: Between the last settlement and the end of its channel. RabbitMQ hands a quorum queue's settlements on a few at a
#: time, and those that still wait are dropped with the channel: what was done would be done again.
SETTLING_S: Final = 0.2


class AmqpDelivery:
    """One message, bound to the subscription it came by."""

    __slots__ = ("_settled", "_subscription", "_tag", "message", "redelivered")

    def __init__(self, message: Message, tag: int, redelivered: bool, subscription: Subscription) -> None:  # noqa: FBT001
        self.message = message
        self.redelivered = redelivered
        self._subscription = subscription
        self._tag = tag
        self._settled = False

    def ack(self) -> None:
        self._settle(Settlement.ACK)

    def reject(self) -> None:
        self._settle(Settlement.REJECT)

    def requeue(self) -> None:
        self._settle(Settlement.REQUEUE)

    def _settle(self, settlement: Settlement) -> None:
        if self._settled:
            raise DeliveryLost
        self._settled = True
        self._subscription.settle(self._tag, settlement)


class Subscription:
    """One consumer on one channel, from its subscription to its end."""

    def __init__(self, channel: MessageChannel, on_delivery: Callable[[Delivery], None]) -> None:
        self._channel = channel
        self._on_delivery = on_delivery
        self._tag = ""
        self._unsettled = 0
        self._loop = asyncio.get_running_loop()
        self._settled_at = 0.0
        self._leaving = self._closing = False
        self._over = asyncio.Event()
        self._closing_settled: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, link: Link, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int
    ) -> Subscription:
        """Raises `QueueNotFound`, `BusError` for any other refusal, `ConnectionLost`."""
        channel = await link.open_message_channel()
        raw = channel.raw
        self = cls(channel, on_delivery)
        try:
            with lost_when_closed(raw):
                raw.closing.add_done_callback(lambda _: self._over.set())
                raw.on_consumer_cancel_callbacks.add(self._on_cancelled)
                await raw.basic_qos(prefetch_count=prefetch)
                self._tag = await channel.consume(queue, self._hand_over)
        except ChannelNotFoundEntity as refusal:
            raise QueueNotFound(queue) from refusal
        except ChannelClosed as refusal:
            raise BusError(f"the broker refused to let {queue!r} be consumed: {refusal}") from refusal
        except BaseException:
            await unless_silent(raw.close())
            raise
        return self

    def _hand_over(self, message: Message, tag: int, redelivered: bool) -> None:  # noqa: FBT001 - a `Receiver`
        self._unsettled += 1
        self._on_delivery(AmqpDelivery(message, tag, redelivered, self))

    def settle(self, tag: int, settlement: Settlement) -> None:
        """Send one settlement, on the channel that its delivery came by. Raises `DeliveryLost`."""
        if self._over.is_set():
            raise DeliveryLost
        try:
            self._channel.settle(tag, settlement)
        except ConnectionLost as reason:
            raise DeliveryLost from reason
        self._unsettled -= 1
        self._settled_at = self._loop.time()
        if self._leaving and self._unsettled == 0:
            self._begin_close()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def _on_cancelled(self, _: Basic.Cancel) -> None:
        self._over.set()

    async def ended(self) -> None:
        """Return when the broker hands over nothing more here; what is unsettled has gone back to it."""
        await self._over.wait()
        await self._close()

    async def leave(self) -> None:
        """Take nothing more; the channel stays for as long as something that came by it is unsettled."""
        raw = self._channel.raw
        with suppress(ConnectionLost, ChannelClosed), lost_when_closed(raw):
            await unless_silent(raw.basic_cancel(self._tag))
        self._leaving = True  # not before: until the broker's answer deliveries arrive
        if self._unsettled == 0:
            self._begin_close()
        await self.left()

    async def left(self) -> None:
        """Return when the channel is closed, where nothing that came by it is unsettled any more."""
        if self._closing_settled is not None:
            await asyncio.wait([self._closing_settled])

    def _begin_close(self) -> None:
        if self._closing_settled is None:
            self._closing_settled = asyncio.create_task(self._close_settled())

    async def _close_settled(self) -> None:
        await asyncio.sleep(self._settled_at + SETTLING_S - self._loop.time())
        await self._close()

    async def _close(self) -> None:
        """Close the channel, once: aiormq would tell the broker twice, who would end the connection for it."""
        if not self._closing:
            self._closing = True
            await unless_silent(self._channel.close())


class AmqpConsumer:
    """A subscription that is renewed whenever it ends. `start` it first."""

    def __init__(
        self,
        link: Link,
        declared: DeclaredTopology,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
    ) -> None:
        self.queue = queue
        self._link = link
        self._declared = declared
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._subscription: Subscription | None = None
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the broker hands over what comes."""
        return self._subscription is not None and not self._subscription.is_over

    async def start(self) -> None:
        """Raises what `Subscription.open` does."""
        self._subscription = await self._subscribe()
        self._upkeep = asyncio.create_task(self._keep_subscribed(self._subscription))

    async def cancel(self) -> None:
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is None or self._subscription is None:
            return
        upkeep.cancel()
        await asyncio.wait([upkeep])
        self._declared.forget_transient(self.queue)
        await self._subscription.leave()

    async def left(self) -> None:
        """Once it was cancelled: return when nothing is under way to the broker any more."""
        if self._subscription is not None:
            await self._subscription.left()

    async def _subscribe(self) -> Subscription:
        return await Subscription.open(self._link, self.queue, self._on_delivery, prefetch=self._prefetch)

    async def _keep_subscribed(self, subscription: Subscription) -> None:
        while True:
            await subscription.ended()
            subscription = self._subscription = await self._resubscribe()

    async def _resubscribe(self) -> Subscription:
        for pause_s in chain(RESUBSCRIBE_PAUSES_S, repeat(RESUBSCRIBE_PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            try:
                await declare_again(self._link, self._declared.of_queue(self.queue))
                return await self._subscribe()
            except (ConnectionLost, BusError) as reason:
                log.info("%r is not consumed yet, trying again: %r", self.queue, reason)
        raise AssertionError  # the pauses never end
