"""`memory://`: a broker in this process, so that everything runs, and is tested, with no broker at all.

It keeps the same contract as RabbitMQ (`tests/conformance` is run against both) and the details that Warren leans on:
dead-lettering with `x-death`, delivery limits, time to live, alternate exchanges, direct reply-to. It keeps nothing
after the last transport to it is closed, and does not look for dead-letter cycles, which RabbitMQ breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final
from weakref import WeakValueDictionary

from .errors import (
    DeliveryLost,
    PublishError,
    PublishRefused,
    QueueNotFound,
    TopologyConflict,
    TransportClosed,
    Unroutable,
)
from .memory_queue import Death, MemoryConsumer, MemoryQueue
from .messages import DIRECT_REPLY_TO, Message, is_reply_address
from .ports import Consumer, Delivery
from .routing import topic_matches
from .topology import Binding, Exchange, Queue, Topology


class MemoryBroker:
    """Exchanges, queues and bindings, and who listens for direct replies. One event loop at a time may use it."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._bindings: dict[str, dict[Binding, None]] = {}
        self._repliers: dict[str, Callable[[Message], None]] = {}
        self._addresses = count(1)
        self.transports = 0

    def declare(self, topology: Topology) -> None:
        for exchange in topology.exchanges:
            _check_same(self._exchanges.setdefault(exchange.name, exchange), exchange)
        for queue in topology.queues:
            standing = self._queues.get(queue.name)
            if standing is None:
                self._queues[queue.name] = MemoryQueue(queue, self._dead_letter, self.delete)
            else:
                _check_same(standing.declared, queue)
                standing.used()
        for binding in topology.bindings:
            self.queue(binding.queue)
            if binding.exchange not in self._exchanges:
                raise TopologyConflict(binding.queue, f"there is no exchange {binding.exchange!r} to bind it to")
            self._bindings.setdefault(binding.exchange, {})[binding] = None

    def unbind(self, binding: Binding) -> None:
        self._bindings.get(binding.exchange, {}).pop(binding, None)

    def queue(self, name: str) -> MemoryQueue:
        try:
            return self._queues[name]
        except KeyError:
            raise QueueNotFound(name) from None

    def delete(self, queue: Queue) -> None:
        standing = self._queues.pop(queue.name, None)
        if standing is not None:
            standing.delete()
        for bindings in self._bindings.values():
            for binding in [binding for binding in bindings if binding.queue == queue.name]:
                del bindings[binding]

    def publish(self, message: Message, *, mandatory: bool) -> None:
        """Put it into each queue that takes it."""
        exchange, key = message.exchange, message.routing_key
        if exchange and exchange not in self._exchanges:
            raise PublishRefused(exchange, key)
        replier = None if exchange else self._repliers.get(key)
        if replier is not None:
            asyncio.get_running_loop().call_soon(replier, message)
        queues = self._route(exchange, key)
        if mandatory and not queues and not is_reply_address(message):
            raise Unroutable(exchange, key)
        refused = [queue for queue in queues if queue.full]
        for queue in queues:
            if queue not in refused:
                queue.put(message)
        if refused:
            raise PublishRefused(exchange, key)

    def add_replier(self, on_reply: Callable[[Message], None]) -> str:
        """The reply address under which `on_reply` is called."""
        address = f"{DIRECT_REPLY_TO}.{next(self._addresses)}"
        self._repliers[address] = on_reply
        return address

    def remove_replier(self, address: str) -> None:
        self._repliers.pop(address, None)

    def _route(self, exchange: str, key: str) -> list[MemoryQueue]:
        if not exchange:
            return [self._queues[key]] if key in self._queues else []
        tried: set[str] = set()
        following: str | None = exchange
        while following in self._exchanges and following not in tried:
            tried.add(following)
            matches = _MATCH[self._exchanges[following].kind]
            bindings = self._bindings.get(following, {})
            names = dict.fromkeys(binding.queue for binding in bindings if matches(binding.routing_key, key))
            if names:
                return [self._queues[name] for name in names]
            following = self._exchanges[following].alternate
        return []

    def _dead_letter(self, queue: Queue, message: Message, death: Death) -> None:
        if queue.dead_letter_exchange is None:
            return
        dead = replace(
            message,
            exchange=queue.dead_letter_exchange,
            routing_key=queue.dead_letter_routing_key or message.routing_key,
            expiration_ms=None,
            headers=_with_death(queue.name, message, death),
        )
        for target in self._route(dead.exchange, dead.routing_key):
            target.put(dead)


class MemoryTransport:
    """A connection to a `MemoryBroker` (`ports.Transport`)."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._closed = False
        self._consumers: list[MemoryConsumer] = []
        self._transient: list[Queue] = []
        self._reply_address: str | None = None
        broker.transports += 1

    async def declare(self, topology: Topology) -> None:
        self._check_open()
        self._broker.declare(topology)
        self._transient += [queue for queue in topology.queues if queue.transient]

    async def bind(self, *bindings: Binding) -> None:
        await self.declare(Topology(bindings=bindings))

    async def unbind(self, *bindings: Binding) -> None:
        self._check_open()
        for binding in bindings:
            self._broker.unbind(binding)

    def forget(self, queue: str) -> None:  # noqa: ARG002 - nothing is ever declared again here
        self._check_open()

    async def publish(self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None) -> None:
        await self.post(message, mandatory=mandatory, timeout_s=timeout_s)
        await asyncio.sleep(0)  # a publisher in a loop must not keep everybody else from running

    def post(
        self,
        message: Message,
        *,
        mandatory: bool = False,
        timeout_s: float | None = None,  # noqa: ARG002  nothing here takes time
    ) -> asyncio.Future[None]:
        self._check_open()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._publish(message, mandatory=mandatory)
        except PublishError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done

    def _publish(self, message: Message, *, mandatory: bool) -> None:
        reply_to = message.reply_to
        if reply_to == DIRECT_REPLY_TO:
            if self._reply_address is None:
                raise PublishRefused(message.exchange, message.routing_key)
            reply_to = self._reply_address
        self._broker.publish(replace(message, reply_to=reply_to, headers=dict(message.headers)), mandatory=mandatory)

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        self._check_open()
        if queue == DIRECT_REPLY_TO:
            return self._consume_replies(on_delivery)
        source = self._broker.queue(queue)
        consumer = MemoryConsumer(source, on_delivery, prefetch)
        self._consumers.append(consumer)
        source.add(consumer)
        return consumer

    async def depth(self, queue: str) -> int:
        self._check_open()
        return self._broker.queue(queue).depth

    def impediment(self) -> str | None:
        return "it was closed" if self._closed else None

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Be gone at once, as a killed process is: what was delivered and is not settled goes back to its queue."""
        if self._closed:
            return
        self._closed = True
        if self._reply_address is not None:
            self._broker.remove_replier(self._reply_address)
        for consumer in self._consumers:
            consumer.abort()
        for queue in self._transient:
            self._broker.delete(queue)
        self._broker.transports -= 1

    def _consume_replies(self, on_delivery: Callable[[Delivery], None]) -> Consumer:
        replies = MemoryReplies(self._broker, on_delivery)
        self._reply_address = replies.address
        return replies

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed


class MemoryReplies:
    """The subscription to direct replies."""

    def __init__(self, broker: MemoryBroker, on_delivery: Callable[[Delivery], None]) -> None:
        self._broker = broker
        self._on_delivery = on_delivery
        self.address = broker.add_replier(self._on_reply)

    async def cancel(self) -> None:
        self._broker.remove_replier(self.address)

    def _on_reply(self, message: Message) -> None:
        self._on_delivery(MemoryReply(message))


class MemoryReply:
    """A direct reply: settled before it arrived."""

    __slots__ = ("message", "redelivered")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.redelivered = False

    def ack(self) -> None:
        raise DeliveryLost

    reject = requeue = ack


_shared: WeakValueDictionary[str, MemoryBroker] = WeakValueDictionary()


def shared_broker(name: str) -> MemoryBroker:
    """The broker of this process that has that name: a new one when no transport to the old one is open."""
    broker = _shared.get(name)
    if broker is None or broker.transports == 0:
        broker = _shared[name] = MemoryBroker()
    return broker


_MATCH: Final[dict[str, Callable[[str, str], bool]]] = {
    "topic": topic_matches,
    "direct": str.__eq__,
    "fanout": lambda *_: True,
}


def _check_same(standing: Exchange | Queue, wanted: Exchange | Queue) -> None:
    for one in fields(standing):
        stands, wants = getattr(standing, one.name), getattr(wanted, one.name)
        if stands != wants:
            raise TopologyConflict(standing.name, f"{one.name} is {stands!r}, not {wants!r}")


def _with_death(queue: str, message: Message, death: Death) -> dict[str, Any]:
    """The headers RabbitMQ adds (https://www.rabbitmq.com/docs/dlx#effects), the latest death first."""
    told = message.headers.get("x-death")  # by anybody
    deaths = [one for one in told if isinstance(one, dict)] if isinstance(told, list | tuple) else []
    same = [one for one in deaths if (one.get("queue"), one.get("reason")) == (queue, death)]
    latest = {
        "count": sum(count for one in same if isinstance(count := one.get("count"), int)) + 1,
        "exchange": message.exchange,
        "queue": queue,
        "reason": death,
        "routing-keys": [message.routing_key],
        "time": datetime.now(UTC).replace(microsecond=0),
    }
    if message.expiration_ms is not None:
        latest["original-expiration"] = str(message.expiration_ms)
    first = {"x-first-death-exchange": message.exchange, "x-first-death-queue": queue, "x-first-death-reason": death}
    return {**first, **message.headers, "x-death": [latest, *(one for one in deaths if one not in same)]}
