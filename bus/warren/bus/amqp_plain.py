"""The path of a message through aiormq's own objects: what is left where the fast path cannot be taken.

It costs a few hundred microseconds a message, and needs nothing of aiormq but what it documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelClosed, DeliveryError
from aiormq.exceptions import PublishError as Returned
from pamqp.commands import Basic

from .amqp_channel import Publishing, Receiver, Settlement, Verdict
from .amqp_closing import ConnectionLost, lost_when_closed
from .amqp_messages import to_message, to_properties


class PlainChannel:
    """`MessageChannel` by aiormq."""

    def __init__(self, raw: AbstractChannel) -> None:
        self.raw = raw
        self._in_flight: dict[str, asyncio.Event] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._publishing: set[asyncio.Task[None]] = set()

    def publish(self, publishing: Publishing) -> None:
        properties = to_properties(publishing.message, publishing.message_id)
        _keep(self._publishing, self._see_to(publishing, properties))

    async def _see_to(self, publishing: Publishing, properties: Basic.Properties) -> None:
        publishing.conclude(publishing, await self._publish(publishing, properties), self)

    async def _publish(self, publishing: Publishing, properties: Basic.Properties) -> Verdict:
        message = publishing.message
        try:
            async with asyncio.timeout_at(publishing.deadline), self._only_one(publishing.message_id):
                with lost_when_closed(self.raw):
                    # This waits, too, until the socket takes the frames. While the broker reads nothing (a memory
                    # alarm), publishes stand in line here, instead of piling up in the connection's buffer.
                    await self.raw.basic_publish(
                        message.body,
                        exchange=message.exchange,
                        routing_key=message.routing_key,
                        properties=properties,
                        mandatory=publishing.mandatory,
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

    def settle(self, tag: int, settlement: Settlement) -> None:
        if self.raw.is_closed:
            raise ConnectionLost
        _keep(self._settling, self._settle(tag, settlement))

    async def _settle(self, tag: int, settlement: Settlement) -> None:
        with suppress(ConnectionLost, ChannelClosed), lost_when_closed(self.raw):  # then it comes again
            match settlement:
                case Settlement.ACK:
                    await self.raw.basic_ack(tag, wait=False)
                case Settlement.REJECT:
                    await self.raw.basic_reject(tag, requeue=False, wait=False)
                case Settlement.REQUEUE:
                    await self.raw.basic_nack(tag, requeue=True, wait=False)

    async def close(self) -> None:
        if self._settling:
            await asyncio.wait(self._settling)
        await self.raw.close()


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Have it done; the event loop itself would forget it."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
