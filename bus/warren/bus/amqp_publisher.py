"""Publishing with confirms, on one channel that is opened again whenever it goes.

The path of a message is `publish` and `_attempt`; everything else keeps the channel up. Replies are consumed here too,
because RabbitMQ ties them to the channel that published the request.

A message whose channel goes before its confirm comes is published again, with the same id, until its time is up: at
least once. All messages share the channel, so that one that the broker answers by closing it takes its neighbours
with it; they go again, and the culprit is told by the broker's words. (Rejected: publishing each suspect again on a
channel of its own. A request must go out on the channel that its reply is to come back on.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelClosed, DeliveryError
from aiormq.exceptions import PublishError as Returned
from pamqp.commands import Basic

from .amqp_link import ConnectionLost, Link, lost_when_closed
from .amqp_messages import to_message, to_properties
from .amqp_topology import DeclaredTopology, declare_again
from .errors import BusError, DeliveryLost, PublishRefused, PublishTimeout, Unroutable
from .messages import DIRECT_REPLY_TO, Message, is_reply_address, new_message_id
from .ports import Delivery

log = logging.getLogger(__name__)

#: Between attempts to open a channel that the broker refuses or that goes at once.
REOPEN_PAUSE_S: Final = 0.2


class Publisher:
    """All publishes of one transport, and the replies to them. Whoever opens it closes it."""

    def __init__(self, link: Link, declared: DeclaredTopology) -> None:
        self._link = link
        self._declared = declared
        self._channel: AbstractChannel | None = None
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._reopening = asyncio.Lock()
        self._on_reply: Callable[[Delivery], None] | None = None
        self._reply_tag = ""
        self._in_flight: dict[str, asyncio.Event] = {}
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._channel is not None

    async def publish(self, message: Message, *, mandatory: bool, timeout_s: float) -> None:
        """See `Transport.publish`. A message without an id gets one, since aiormq would give each attempt another."""
        if message.reply_to == DIRECT_REPLY_TO and self._on_reply is None:
            raise PublishRefused(message.exchange, message.routing_key)  # the broker would, by closing the channel
        message_id = message.message_id or new_message_id()
        properties = to_properties(message, message_id)
        try:
            async with asyncio.timeout(timeout_s), self._only_one(message_id):
                while not await self._attempt(message, properties, mandatory=mandatory):
                    pass
        except TimeoutError:
            raise PublishTimeout(message.exchange, message.routing_key, timeout_s) from None

    async def _attempt(self, message: Message, properties: Basic.Properties, *, mandatory: bool) -> bool:
        """Publish once and wait for the broker's word. False when the channel went first."""
        while (channel := self._channel) is None:
            await self._up.wait()
        try:
            with lost_when_closed(channel):
                # This waits, too, until the socket takes the frames. While the broker reads nothing (a memory alarm),
                # publishes stand in line here, instead of piling up in the connection's buffer.
                await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=properties,
                    # RabbitMQ delivers a mandatory reply and returns it as unroutable all the same.
                    mandatory=mandatory and not is_reply_address(message),
                )
        except Returned:
            raise Unroutable(message.exchange, message.routing_key) from None
        except DeliveryError:
            raise PublishRefused(message.exchange, message.routing_key) from None
        except ConnectionLost:
            self._drop(channel)
            return False
        except ChannelClosed as reason:
            self._drop(channel)
            if not _is_culprit(message, str(reason)):
                return False
            raise PublishRefused(message.exchange, message.routing_key) from reason
        return True

    @asynccontextmanager
    async def _only_one(self, message_id: str) -> AsyncIterator[None]:
        """Twins go one after the other: aiormq tells by the message id which publish the broker returned."""
        while twin := self._in_flight.get(message_id):
            await twin.wait()
        over = self._in_flight[message_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._in_flight[message_id]
            over.set()

    async def consume_replies(self, on_reply: Callable[[Delivery], None]) -> None:
        """Have replies handed to `on_reply`, from now on and after every reopening. One consumer at a time."""
        async with self._reopening:
            if self._on_reply is not None:
                raise BusError(f"{DIRECT_REPLY_TO!r} has a consumer on this transport already")
            if self._channel is not None:
                await self._subscribe(self._channel)
            self._on_reply = on_reply

    async def cancel_replies(self) -> None:
        async with self._reopening:
            self._on_reply = None
            if self._channel is not None:
                with suppress(ConnectionLost), lost_when_closed(self._channel):
                    await self._channel.basic_cancel(self._reply_tag)

    async def _subscribe(self, channel: AbstractChannel) -> None:
        with lost_when_closed(channel):
            consuming = await channel.basic_consume(DIRECT_REPLY_TO, self._hand_over, no_ack=True)
        self._reply_tag = consuming.consumer_tag or ""

    async def _hand_over(self, reply: DeliveredMessage) -> None:
        if self._on_reply is not None:
            self._on_reply(Reply(to_message(reply)))

    async def open(self) -> None:
        """Open the channel, and keep it open from now on."""
        await self._reopen()
        self._upkeep = asyncio.create_task(self._keep_open())

    async def close(self) -> None:
        """Wait for the publishes in flight, and stop; the channel goes with its connection. Idempotent."""
        while self._in_flight:
            await next(iter(self._in_flight.values())).wait()
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])

    async def _keep_open(self) -> None:
        while True:
            await self._down.wait()
            await asyncio.sleep(REOPEN_PAUSE_S)
            try:
                await declare_again(self._link, self._declared.durable())
                await self._reopen()
            except (ConnectionLost, ChannelClosed) as reason:
                log.info("the publishing channel was not opened, trying again: %r", reason)

    async def _reopen(self) -> None:
        async with self._reopening:
            channel = await self._link.open_channel(confirms=True)
            if self._on_reply is not None:
                await self._subscribe(channel)
            self._channel = channel
            self._down.clear()
            self._up.set()
            channel.closing.add_done_callback(lambda _: self._drop(channel))

    def _drop(self, channel: AbstractChannel) -> None:
        """Publish nothing more on it. Whoever notices first says so."""
        if self._channel is channel:
            self._channel = None
            self._up.clear()
            self._down.set()


class Reply:
    """A reply; RabbitMQ considers it done when it has sent it."""

    __slots__ = ("message",)

    redelivered = False

    def __init__(self, message: Message) -> None:
        self.message = message

    async def ack(self) -> None:
        raise DeliveryLost

    reject = requeue = ack


class ReplyConsumer:
    """`ports.Consumer` of the replies to what one publisher publishes."""

    def __init__(self, publisher: Publisher, on_delivery: Callable[[Delivery], None]) -> None:
        self._publisher = publisher
        self._on_delivery = on_delivery
        self._started = False

    async def start(self) -> None:
        await self._publisher.consume_replies(self._on_delivery)
        self._started = True

    async def cancel(self) -> None:
        if self._started:
            self._started = False
            await self._publisher.cancel_replies()


def _is_culprit(message: Message, reason: str) -> bool:
    """Whether the broker closed the channel for this message: it names the exchange, or the size that is too large."""
    exchange = message.exchange or "amq.default"
    return f"exchange '{exchange}'" in reason or f"message size {len(message.body)} " in reason
