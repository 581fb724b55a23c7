"""The path of a message through aiormq's own objects: what is left where the fast path cannot be taken.

It costs a few hundred microseconds a message, and needs nothing of aiormq but what it documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelClosed, DeliveryError
from aiormq.exceptions import PublishError as Returned

from .amqp_channel import Receiver, Settlement, Verdict
from .amqp_closing import ConnectionLost, lost_when_closed
from .amqp_messages import to_message, to_properties
from .messages import Message


class PlainChannel:
    """`MessageChannel` by aiormq."""

    def __init__(self, raw: AbstractChannel) -> None:
        self.raw = raw
        self._in_flight: dict[str, asyncio.Event] = {}

    async def publish(self, message: Message, message_id: str, *, mandatory: bool, deadline: float) -> Verdict:
        properties = to_properties(message, message_id)
        try:
            async with asyncio.timeout_at(deadline), self._only_one(message_id):
                with lost_when_closed(self.raw):
                    # This waits, too, until the socket takes the frames. While the broker reads nothing (a memory
                    # alarm), publishes stand in line here, instead of piling up in the connection's buffer.
                    await self.raw.basic_publish(
                        message.body,
                        exchange=message.exchange,
                        routing_key=message.routing_key,
                        properties=properties,
                        mandatory=mandatory,
                    )
        except TimeoutError:
            return Verdict.TIMED_OUT
        except Returned:
            return Verdict.RETURNED
        except DeliveryError:
            return Verdict.REFUSED
        except (ConnectionLost, ChannelClosed):
            return Verdict.LOST
        return Verdict.CONFIRMED

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

    async def consume(self, queue: str, receive: Receiver, *, no_ack: bool = False) -> str:
        async def hand_over(delivered: DeliveredMessage) -> None:
            receive(to_message(delivered), delivered.delivery_tag or 0, bool(delivered.redelivered))

        consuming = await self.raw.basic_consume(queue, hand_over, no_ack=no_ack)
        return consuming.consumer_tag or ""

    async def settle(self, tag: int, settlement: Settlement) -> None:
        try:
            with lost_when_closed(self.raw):
                match settlement:
                    case Settlement.ACK:
                        await self.raw.basic_ack(tag, wait=False)
                    case Settlement.REJECT:
                        await self.raw.basic_reject(tag, requeue=False, wait=False)
                    case Settlement.REQUEUE:
                        await self.raw.basic_nack(tag, requeue=True, wait=False)
        except ChannelClosed as refusal:
            raise ConnectionLost from refusal

    async def close(self) -> None:
        await self.raw.close()
