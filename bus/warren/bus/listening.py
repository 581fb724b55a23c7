"""Listening: a queue of one's own bound to an exchange, as an async context manager and iterator.

    async with client.results("text_processor.#") as results:
        async for result in results: ...

It is listening once it is entered, so nothing that is published afterwards is missed. What is waiting to be taken is
bounded by the prefetch, and acknowledged as it is taken; the rest waits on the broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, TypeVar

from .errors import DeliveryLost, MalformedMessage
from .messages import Message, new_message_id
from .ports import Consumer, Delivery, Transport
from .recent import RecentIds
from .topology import Names, listener_topology

LISTENER_PREFETCH: Final = 100

#: Message ids remembered, to drop the second copy of a message that was published twice. Twins come close together.
RECENT_IDS: Final = 1024

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")


class Listener(Generic[_Item]):
    """What one pattern lets through, read by `read`. For one task; entered once. It ends when it is left."""

    def __init__(
        self, transport: Transport, names: Names, exchange: str, pattern: str, read: Callable[[Message], _Item]
    ) -> None:
        self._transport = transport
        self._topology = listener_topology(names, exchange, pattern, new_message_id())
        self._read = read
        self._arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._recent = RecentIds(RECENT_IDS)
        self._consumer: Consumer | None = None
        self._ended = False

    async def __aenter__(self) -> Listener[_Item]:
        await self._transport.declare(self._topology)
        queue = self._topology.queues[0].name
        self._consumer = await self._transport.consume(queue, self._arrived.put_nowait, prefetch=LISTENER_PREFETCH)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        if self._consumer is not None:
            await self._consumer.cancel()

    def end(self) -> None:
        """Let the iteration end; what has arrived and was not taken is left to the broker."""
        if not self._ended:
            self._ended = True
            self._arrived.put_nowait(None)

    def __aiter__(self) -> Listener[_Item]:
        return self

    async def __anext__(self) -> _Item:
        while not self._ended:
            delivery = await self._arrived.get()
            if delivery is None:
                break
            with suppress(DeliveryLost):  # it will come again, and be known
                delivery.ack()
            if self._is_twin(delivery.message.message_id):
                continue
            try:
                return self._read(delivery.message)
            except MalformedMessage as malformed:
                _log.warning("passing over a message on %s: %s", delivery.message.exchange, malformed)
        raise StopAsyncIteration

    def _is_twin(self, message_id: str | None) -> bool:
        if message_id is None:
            return False
        known = message_id in self._recent
        self._recent.add(message_id)
        return known
