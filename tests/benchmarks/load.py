"""The load on a worker: a backlog of requests to work off, and a steady trickle to be answered quickly.

The results of a backlog are left in a queue and counted there. A collector would compete with the worker and the
broker for the processor, and on a small machine it would decide the figures.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from tests.benchmarks.contenders import Contender, Worker
from warren.bus.messages import DIRECT_REPLY_TO, REQUEST_TYPE, new_message_id
from warren.bus.topology import Names, Topology, base_topology, mailbox_topology

REQUEST_BYTES: Final = 300
REQUESTS_PER_S: Final = 200

#: How often results are counted; an end is seen this much too late at most.
COUNT_EVERY_S: Final = 0.01
PATIENCE_S: Final = 120.0


def request_body() -> bytes:
    """A request of `REQUEST_BYTES`."""
    empty = len(json.dumps({"action": "echo", "data": ""}))
    return json.dumps({"action": "echo", "data": "x" * (REQUEST_BYTES - empty)}).encode()


def request(reply_to: str | None = None, correlation_id: str | None = None) -> aio_pika.Message:
    """A persistent request, as any client would write it."""
    return aio_pika.Message(
        request_body(),
        content_type="application/json",
        correlation_id=correlation_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=new_message_id(),
        reply_to=reply_to,
        type=REQUEST_TYPE,
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a worker was at one moment."""

    results: int
    time_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """A backlog worked off."""

    requests_per_s: float
    cpu_s_per_1000: float


class Load:
    """Requests to one broker, under `names`, and their results."""

    def __init__(self, channel: AbstractChannel, reply_channel: AbstractChannel, results: AbstractQueue, names: Names):
        self._channel = channel
        self._reply_channel = reply_channel
        self._results = results
        self._names = names

    async def throughput(self, contender: Contender, requests: int) -> Throughput:
        """Let a worker find a backlog, and take its time from the first result that is seen to the last."""
        await self._results.purge()
        await self._publish(contender, requests)
        with contender.running() as worker:
            first = await self._sample_at(1, worker)
            last = await self._sample_at(requests, worker)
        done = last.results - first.results
        return Throughput(done / (last.time_s - first.time_s), (last.cpu_s - first.cpu_s) / done * 1000)

    async def _publish(self, contender: Contender, requests: int) -> None:
        exchange = await self._channel.get_exchange(self._names.requests, ensure=False)
        key = f"{contender.plugin}.echo"
        for start in range(0, requests, 500):
            async with asyncio.TaskGroup() as confirmed:
                for _ in range(min(500, requests - start)):
                    confirmed.create_task(exchange.publish(request(), key))

    async def _sample_at(self, results: int, worker: Worker) -> Sample:
        """The first sample with at least so many results."""
        async with asyncio.timeout(PATIENCE_S):
            while (sample := await self._sample(worker)).results < results:
                worker.check_alive()
                await asyncio.sleep(COUNT_EVERY_S)
        return sample

    async def _sample(self, worker: Worker) -> Sample:
        counted = await self._channel.declare_queue(self._results.name, passive=True)
        return Sample(counted.declaration_result.message_count or 0, time.perf_counter(), worker.cpu_s())

    async def round_trips_ms(self, contender: Contender, requests: int) -> list[float]:
        """How long each of so many requests took to be answered, `REQUESTS_PER_S` of them a second."""
        with contender.running() as worker:
            await self._answered(contender, 1, worker)  # it is up
            return await self._answered(contender, requests, worker)

    async def _answered(self, contender: Contender, requests: int, worker: Worker) -> list[float]:
        sent: dict[str, float] = {}
        took_ms: list[float] = []
        all_answered = asyncio.Event()

        async def on_reply(reply: AbstractIncomingMessage) -> None:
            took_ms.append((time.perf_counter() - sent[str(reply.correlation_id)]) * 1000)
            if len(took_ms) == requests:
                all_answered.set()

        replies = await self._reply_channel.get_queue(DIRECT_REPLY_TO, ensure=False)
        consumer = await replies.consume(on_reply, no_ack=True)
        exchange = await self._reply_channel.get_exchange(self._names.requests, ensure=False)
        start = time.perf_counter()
        for number in range(requests):
            await asyncio.sleep(start + number / REQUESTS_PER_S - time.perf_counter())
            sent[str(number)] = time.perf_counter()
            message = request(DIRECT_REPLY_TO, str(number))
            await exchange.publish(message, f"{contender.plugin}.echo")
        async with asyncio.timeout(PATIENCE_S):
            await all_answered.wait()
        worker.check_alive()
        await replies.cancel(consumer)
        return took_ms


@asynccontextmanager
async def load(url: str, names: Names, plugins: list[str]) -> AsyncIterator[Load]:
    """A load on the broker at `url`, with a mailbox for each of `plugins`."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        reply_channel = await connection.channel(publisher_confirms=False)
        topology = sum((mailbox_topology(names, plugin) for plugin in plugins), base_topology(names))
        await declare(channel, topology)
        results = await channel.declare_queue(f"{names.prefix}.bench", durable=True)
        await results.bind(names.results, "#")
        try:
            yield Load(channel, reply_channel, results, names)
        finally:
            for queue in (results.name, *(queue.name for queue in topology.queues)):
                await channel.queue_delete(queue)
            for exchange in topology.exchanges:
                await channel.exchange_delete(exchange.name)


async def declare(channel: AbstractChannel, topology: Topology) -> None:
    """Make what the topology lists."""
    for exchange in topology.exchanges:
        await channel.declare_exchange(exchange.name, exchange.kind, durable=True, arguments={**exchange.arguments()})
    queues = {
        queue.name: await channel.declare_queue(queue.name, durable=True, arguments={**queue.arguments()})
        for queue in topology.queues
    }
    for binding in topology.bindings:
        await queues[binding.queue].bind(binding.exchange, binding.routing_key)
