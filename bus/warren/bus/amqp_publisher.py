"""Publishing with confirms, on one channel that is opened again whenever it goes.

The path of a message is `post`; everything else keeps the channel up. Replies are consumed here too,
because RabbitMQ ties them to the channel that published the request.

A message whose channel goes before its confirm comes is published again, with the same id, until its time is up: at
least once. All messages share the channel, so that one that the broker answers by closing it takes its neighbours
with it; they go again, and the culprit is told by the broker's words. (Rejected: publishing each suspect again on a
channel of its own. A request must go out on the channel that its reply is to come back on.)
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiormq.exceptions import ChannelClosed

from .amqp_channel import MessageChannel, Publishing, Verdict
from .amqp_closing import ConnectionLost, lost_when_closed, unless_silent
from .amqp_link import Link, first_of
from .amqp_topology import DeclaredTopology, declare_again
from .errors import (
    BusError,
    DeliveryLost,
    MessageTooLarge,
    PublishError,
    PublishRefused,
    PublishTimeout,
    Unroutable,
)
from .messages import DIRECT_REPLY_TO, Message, is_reply_address, new_message_id
from .ports import Delivery

log = logging.getLogger(__name__)

#: Between attempts to open a channel that the broker refuses or that goes at once.
REOPEN_PAUSE_S: Final = 0.2

#: What RabbitMQ calls the exchange that has no name.
DEFAULT_EXCHANGE: Final = "amq.default"

#: RabbitMQ's words for a body above its `max_message_size`.
_TOO_LARGE: Final = re.compile(r"message size (?P<size>\d+) \D*(?P<limit>\d+)")


class Publisher:
    """All publishes of one transport, and the replies to them. Whoever opens it closes it."""

    def __init__(self, link: Link, declared: DeclaredTopology) -> None:
        self._link = link
        self._declared = declared
        self._loop = asyncio.get_running_loop()
        self._channel: MessageChannel | None = None
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._reopening = asyncio.Lock()
        self._on_reply: Callable[[Delivery], None] | None = None
        self._reply_tag = ""
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._channel is not None

    def post(self, message: Message, *, mandatory: bool, timeout_s: float) -> asyncio.Future[None]:
        """See `Transport.post`. A message without an id gets one, so that all attempts have the same."""
        if message.reply_to == DIRECT_REPLY_TO and self._on_reply is None:
            raise PublishRefused(message.exchange, message.routing_key)  # the broker would, by closing the channel
        publishing = Publishing(
            message,
            message.message_id or new_message_id(),
            # RabbitMQ delivers a mandatory reply and returns it as unroutable all the same.
            mandatory and not is_reply_address(message),
            timeout_s,
            self._loop.time() + timeout_s,
            self._loop.create_future(),
            self._conclude,
        )
        if self._channel is None:
            self._publish_later(publishing)
        else:
            self._channel.publish(publishing)
        self._in_flight += 1
        return publishing.confirmed

    def _publish_later(self, publishing: Publishing) -> None:
        waiting = asyncio.create_task(self._publish_when_open(publishing))
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    async def _publish_when_open(self, publishing: Publishing) -> None:
        try:
            async with asyncio.timeout_at(publishing.deadline):
                while self._channel is None and not publishing.confirmed.done():
                    await first_of(self._up.wait(), asyncio.wait([publishing.confirmed]))
            if self._channel is None:
                self._end(publishing)  # whoever waited has given up, and a transport that closes need not wait either
            else:
                self._channel.publish(publishing)
        except TimeoutError:
            self._end(publishing, _failure(Verdict.TIMED_OUT, publishing.message, publishing.timeout_s))
        except ValueError as error:  # what AMQP cannot say
            self._end(publishing, error)

    def _conclude(self, publishing: Publishing, verdict: Verdict, channel: MessageChannel) -> None:
        """How it ended on a channel. What is lost with its channel goes again on the next, unless it is the reason."""
        if verdict is Verdict.CONFIRMED:
            self._end(publishing)
        elif verdict is not Verdict.LOST:
            self._end(publishing, _failure(verdict, publishing.message, publishing.timeout_s))
        else:
            self._forget(channel)
            reason = _why_closed(channel)
            refusal = None if reason is None else _refusal(publishing.message, str(reason))
            if refusal is None:
                self._publish_later(publishing)
            else:
                refusal.__cause__ = reason
                self._end(publishing, refusal)

    def _end(self, publishing: Publishing, error: Exception | None = None) -> None:
        confirmed = publishing.confirmed
        if not confirmed.done():  # else whoever waited was cancelled
            if error is None:
                confirmed.set_result(None)
            else:
                confirmed.set_exception(error)
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def consume_replies(self, on_reply: Callable[[Delivery], None]) -> None:
        """Have replies handed to `on_reply`, from now on and after every reopening. One consumer at a time."""
        async with self._reopening:
            if self._on_reply is not None:
                raise BusError(f"{DIRECT_REPLY_TO!r} has a consumer on this transport already")
            if self._channel is not None:
                await self._subscribe(self._channel)
            self._on_reply = on_reply

    async def cancel_replies(self) -> None:
        self._on_reply = None
        await unless_silent(self._unsubscribe())

    async def _unsubscribe(self) -> None:
        async with self._reopening:
            if self._channel is not None:
                raw = self._channel.raw
                with suppress(ConnectionLost, ChannelClosed), lost_when_closed(raw):
                    await raw.basic_cancel(self._reply_tag)

    async def _subscribe(self, channel: MessageChannel) -> None:
        with lost_when_closed(channel.raw):
            self._reply_tag = await channel.consume(DIRECT_REPLY_TO, self._hand_over, no_ack=True)

    def _hand_over(self, reply: Message, _tag: int, _redelivered: bool) -> None:  # noqa: FBT001 - a `Receiver`
        if self._on_reply is not None:
            self._on_reply(Reply(reply))

    async def open(self) -> None:
        """Open the channel, and keep it open from now on."""
        await self._reopen()
        self._upkeep = asyncio.create_task(self._keep_open())

    async def close(self) -> None:
        """Wait for the publishes in flight, and stop; the channel goes with its connection. Idempotent."""
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()
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
            channel = await self._link.open_message_channel(confirms=True)
            if self._on_reply is not None:
                await self._subscribe(channel)
            self._channel = channel
            self._down.clear()
            self._up.set()
            channel.raw.closing.add_done_callback(lambda _: self._forget(channel))

    def _forget(self, channel: MessageChannel) -> None:
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

    def ack(self) -> None:
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


def _failure(verdict: Verdict, message: Message, timeout_s: float) -> PublishError:
    match verdict:
        case Verdict.RETURNED:
            return Unroutable(message.exchange, message.routing_key)
        case Verdict.REFUSED:
            return PublishRefused(message.exchange, message.routing_key)
        case _:
            return PublishTimeout(message.exchange, message.routing_key, timeout_s)


def _why_closed(channel: MessageChannel) -> BaseException | None:
    """The broker's own words, where it was the broker that closed the channel."""
    closing = channel.raw.closing
    if not closing.done() or closing.cancelled():
        return None
    reason = closing.exception()
    return reason if isinstance(reason, ChannelClosed) and reason.args[0] is not None else None


def _refusal(message: Message, reason: str) -> PublishRefused | None:
    """What the broker's words mean for a message: they name its exchange, or the size that is too large.

    None where the broker closed the channel for another one.
    """
    too_large = _TOO_LARGE.search(reason)
    if too_large is not None and int(too_large["size"]) == len(message.body):
        return MessageTooLarge(message.exchange, message.routing_key, len(message.body), int(too_large["limit"]))
    if f"exchange '{message.exchange or DEFAULT_EXCHANGE}'" in reason:
        return PublishRefused(message.exchange, message.routing_key)
    return None
