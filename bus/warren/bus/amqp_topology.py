"""Declaring topology on an AMQP broker, and remembering it, so that it can be declared again after an outage."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aiormq.exceptions import ChannelClosed, ChannelLockedResource, ChannelNotFoundEntity, ChannelPreconditionFailed

from .amqp_link import Link
from .errors import BusError, QueueNotFound, TopologyConflict
from .topology import Binding, Exchange, Queue, Topology

log = logging.getLogger(__name__)


class DeclaredTopology:
    """All that was declared through one transport. Each thing is kept once, however often it is declared."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, Queue] = {}
        self._bindings: dict[Binding, None] = {}  # a set that keeps its order

    def remember(self, topology: Topology) -> None:
        self._exchanges.update((exchange.name, exchange) for exchange in topology.exchanges)
        self._queues.update((queue.name, queue) for queue in topology.queues)
        self._bindings.update(dict.fromkeys(topology.bindings))

    def forget(self, queue: str) -> None:
        """And its bindings."""
        self._queues.pop(queue, None)
        self.forget_bindings([binding for binding in self._bindings if binding.queue == queue])

    def forget_transient(self, queue: str) -> None:
        """Nobody listens there any more: were it declared again, it would only fill."""
        if queue in self._queues and self._queues[queue].transient:
            self.forget(queue)

    def forget_bindings(self, bindings: Iterable[Binding]) -> None:
        for binding in bindings:
            self._bindings.pop(binding, None)

    def durable(self) -> Topology:
        """All but the queues that belong to the connection they were declared on."""
        return self._with({name for name, queue in self._queues.items() if not queue.transient})

    def of_queue(self, queue: str) -> Topology:
        """One queue, and what it is bound to."""
        return self._with({queue})

    def _with(self, names: set[str]) -> Topology:
        return Topology(
            exchanges=tuple(self._exchanges.values()),
            queues=tuple(queue for name, queue in self._queues.items() if name in names),
            bindings=tuple(binding for binding in self._bindings if binding.queue in names),
        )


async def declare(link: Link, topology: Topology) -> None:
    """Declare it all, on a channel of its own, since the broker closes the channel to refuse.

    Raises `TopologyConflict`, `QueueNotFound` for a binding, `BusError` for any other refusal, `ConnectionLost`.
    """
    async with link.channel() as channel:
        for exchange in topology.exchanges:
            with _refusal_of(exchange.name):
                await channel.exchange_declare(
                    exchange.name, exchange_type=exchange.kind, durable=True, arguments=dict(exchange.arguments())
                )
        for queue in topology.queues:
            with _refusal_of(queue.name):
                await channel.queue_declare(
                    queue.name,
                    durable=not queue.transient,
                    exclusive=queue.transient,
                    auto_delete=queue.transient,  # nor is it to fill once its consumer has gone
                    arguments=dict(queue.arguments()),
                )
        for binding in topology.bindings:
            with _refusal_of(binding.queue):
                await channel.queue_bind(binding.queue, binding.exchange, binding.routing_key)


async def unbind(link: Link, bindings: Iterable[Binding]) -> None:
    """Undo bindings; RabbitMQ minds none that is not there. Raises `BusError` for a refusal, `ConnectionLost`."""
    async with link.channel() as channel:
        for binding in bindings:
            with _refusal_of(binding.queue):
                await channel.queue_unbind(binding.queue, binding.exchange, binding.routing_key)


async def depth(link: Link, queue: str) -> int:
    """How many messages wait in a queue. Raises `QueueNotFound`, `ConnectionLost`."""
    async with link.channel() as channel:
        try:
            declared = await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity as refusal:
            raise QueueNotFound(queue) from refusal
    return declared.message_count or 0


async def declare_again(link: Link, topology: Topology) -> None:
    """After an outage. A refusal is logged, and ends it: somebody has meanwhile made something else of it."""
    try:
        await declare(link, topology)
    except BusError as refusal:
        log.warning("while declaring again: %s", refusal)


@contextmanager
def _refusal_of(name: str) -> Iterator[None]:
    """Turn the broker's refusal into an error that names what was refused."""
    try:
        yield
    except (ChannelPreconditionFailed, ChannelLockedResource) as refusal:
        raise TopologyConflict(name, str(refusal)) from refusal
    except ChannelNotFoundEntity as refusal:  # of a binding
        if "no queue" in str(refusal):
            raise QueueNotFound(name) from refusal
        raise TopologyConflict(name, str(refusal)) from refusal
    except ChannelClosed as refusal:
        if refusal.args[0] is None:  # not the broker's: the channel went away
            raise
        raise BusError(f"the broker refused to declare {name!r}: {refusal}") from refusal
