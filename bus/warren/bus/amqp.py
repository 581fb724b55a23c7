"""The transport `amqp(s)://`: RabbitMQ, by way of aio-pika.

    AmqpTransport ─┬─ Publisher ─── Link "….publish"    one confirming channel; replies come in on it
                   └─ AmqpConsumer… Link "….consume"    a channel for each consumer; declarations

Two connections, since RabbitMQ stops reading from a connection that publishes while it is short of memory or disk:
what is being worked on must still be acked then. Each part brings its channel back by itself after an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeVar
from weakref import WeakSet

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from .amqp_closing import ConnectionLost
from .amqp_consumer import AmqpConsumer
from .amqp_link import Link, Outages, unreachable
from .amqp_publisher import Publisher, ReplyConsumer
from .amqp_topology import DeclaredTopology, declare, depth, unbind
from .connect import safe_url
from .errors import BrokerUnreachable, TransportClosed
from .messages import DIRECT_REPLY_TO, Message
from .ports import Consumer, Delivery
from .topology import Binding, Topology

#: A client gives a silent connection up after thrice a second more than this and RabbitMQ after twice this, so that a
#: black hole is noticed within half a minute. Measured: 0.2 ms of CPU a second for both connections of a transport.
HEARTBEAT_S: Final = 8

#: For a publish that names no time limit of its own.
PUBLISH_LIMIT_S: Final = 30.0

#: For declaring and subscribing, waits for an absent broker included.
OPERATION_LIMIT_S: Final = 30.0

#: Between attempts of an operation whose connection went.
RETRY_PAUSE_S: Final = 0.1

T = TypeVar("T")


class AmqpTransport:
    """`ports.Transport` over AMQP 0-9-1. Make one with `connect`."""

    def __init__(self, url: str, publishing: Link, consuming: Link) -> None:
        self._url = url
        self._publishing = publishing
        self._consuming = consuming
        self._declared = DeclaredTopology()
        self._publisher = Publisher(publishing, self._declared)
        self._consumers: WeakSet[AmqpConsumer] = WeakSet()  # a cancelled one may go
        self._closed = False
        self._closing = asyncio.Lock()

    @classmethod
    async def connect(
        cls, url: str, *, timeout_s: float = 10.0, name: str = "warren", heartbeat_s: int = HEARTBEAT_S
    ) -> AmqpTransport:
        """Connect, and connect again after each outage; an attempt may take `timeout_s`. Raises `BrokerUnreachable`.

        `name` is what the broker's management shows; `heartbeat_s` yields to the URL's own `?heartbeat=`.
        """
        connect = partial(Link.connect, url, Outages(url), heartbeat_s=heartbeat_s, timeout_s=timeout_s)
        async with AsyncExitStack() as opened:
            try:
                async with asyncio.timeout(timeout_s):
                    publishing = await connect(name=f"{name}.publish")
                    opened.push_async_callback(publishing.close)
                    consuming = await connect(name=f"{name}.consume")
                    opened.push_async_callback(consuming.close)
                    self = cls(url, publishing, consuming)
                    await self._publisher.open()
            except (*CONNECTION_EXCEPTIONS, ConnectionLost, ValueError) as error:
                raise unreachable(url, error, timeout_s) from error
            opened.pop_all()
            return self

    async def declare(self, topology: Topology) -> None:
        self._check_open()
        # On the consuming connection: a transient queue belongs to the connection that declared it.
        await self._once_connected(lambda: declare(self._consuming, topology))
        self._declared.remember(topology)

    async def bind(self, *bindings: Binding) -> None:
        self._check_open()
        await self._once_connected(lambda: declare(self._consuming, Topology(bindings=bindings)))

    async def unbind(self, *bindings: Binding) -> None:
        self._check_open()
        self._declared.forget_bindings(bindings)  # first, or an outage meanwhile would bring them back
        await self._once_connected(lambda: unbind(self._consuming, bindings))

    def forget(self, queue: str) -> None:
        self._check_open()
        self._declared.forget(queue)

    async def publish(self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None) -> None:
        await self.post(message, mandatory=mandatory, timeout_s=timeout_s)

    def post(
        self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None
    ) -> asyncio.Future[None]:
        self._check_open()
        limit_s = PUBLISH_LIMIT_S if timeout_s is None else timeout_s
        return self._publisher.post(message, mandatory=mandatory, timeout_s=limit_s)

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        self._check_open()
        if queue == DIRECT_REPLY_TO:
            replies = ReplyConsumer(self._publisher, on_delivery)
            await self._once_connected(replies.start)
            return replies
        consumer = AmqpConsumer(self._consuming, self._declared, queue, on_delivery, prefetch=prefetch)
        await self._once_connected(consumer.start)
        self._consumers.add(consumer)
        return consumer

    async def depth(self, queue: str) -> int:
        self._check_open()
        return await self._once_connected(lambda: depth(self._consuming, queue))

    def impediment(self) -> str | None:
        if self._closed:
            return "the connection was closed"
        away = self._publishing.impediment or self._consuming.impediment
        if away is not None:
            return away
        if not self._publisher.is_up:
            return "nothing can be published: the channel is being opened again"
        paused = [consumer.queue for consumer in self._consumers if not consumer.is_up]
        return f"nothing comes from {', '.join(sorted(paused))}" if paused else None

    async def close(self) -> None:
        self._closed = True
        async with self._closing:  # whoever else closes waits until it is done
            consumers = tuple(self._consumers)
            await asyncio.gather(*(consumer.cancel() for consumer in consumers))
            await asyncio.gather(*(consumer.left() for consumer in consumers))
            await self._publisher.close()
            await asyncio.gather(self._publishing.close(), self._consuming.close())

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed

    async def _once_connected(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Try until the connection holds for as long as it takes. Raises `BrokerUnreachable` after half a minute."""
        try:
            async with asyncio.timeout(OPERATION_LIMIT_S):
                while True:
                    try:
                        return await operation()
                    except ConnectionLost:
                        await asyncio.sleep(RETRY_PAUSE_S)
        except TimeoutError:
            raise BrokerUnreachable(safe_url(self._url), f"it has been away for {OPERATION_LIMIT_S:g} s") from None
