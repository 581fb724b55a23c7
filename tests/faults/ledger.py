"""The book that a fault test keeps: what was asked for, what came of it, and whether the promise was kept.

    async with ledger(node, prefix, "digger") as book:
        await book.publish(100)
        ...                                     # workers serve, and something breaks
        await book.settled()

The promise: each request that was confirmed to its publisher ends with at least one result or one dead letter, the
results of one request share an id, and nothing stays behind in any queue, neither ready nor unacked.

The book is kept by a caller outside Warren, with pika and on connections of its own, so that no defect of Warren's
transport can be in the worker and its witness at once. pika blocks, so each connection has a thread; what they learn
is written down on the event loop. Connections that are cut are made again, and a request that was not confirmed goes
again under the same id.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import pika
import pytest
from pika.exceptions import AMQPError, NackError

from tests.broker import PrivateNode
from tests.faults.queue_contents import queue_contents
from warren.bus import (
    DEFAULT_DELIVERY_LIMIT,
    Binding,
    Header,
    Names,
    Queue,
    Topology,
    base_topology,
    mailbox_topology,
)

#: For the promise to be kept, once the fault is over: many times what a busy machine needs.
SETTLE_LIMIT_S: Final = 60.0

#: For the broker to confirm one request; longer than it is down in any test.
CONFIRM_LIMIT_S: Final = 60.0

#: Between attempts to connect or to publish again.
PAUSE_S: Final = 0.1

#: How long pika waits on a connection that the broker has blocked, and for a delivery, before it looks up.
BLOCKED_LIMIT_S: Final = 5.0
GLANCE_S: Final = 0.1

#: Requests that a failure names, at most.
NAMED: Final = 20

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it reports each cut at length, and cuts are what is tested


@dataclass(frozen=True, slots=True)
class Ending:
    """A result or a dead letter, as it came."""

    request_id: str
    message_id: str | None
    routing_key: str
    headers: Mapping[str, Any]
    body: bytes

    @property
    def why(self) -> str:
        """The outcome, in a worker's word, or the broker's reason for a dead letter of its own."""
        return str(self.headers.get(Header.OUTCOME) or self.headers.get("x-first-death-reason"))


class Ledger:
    """Requests to one plugin, and how each ended. `ledger` opens one."""

    def __init__(self, node: PrivateNode, names: Names, plugin: str) -> None:
        self.confirmed: set[str] = set()
        self.results: dict[str, list[Ending]] = {}
        self.dead: dict[str, list[Ending]] = {}
        #: Publishes that the broker answered with a nack, or with none; each went again.
        self.unconfirmed = 0
        self._node = node
        self._names = names
        self._plugin = plugin
        self._published = 0
        self._publisher = _Publisher(node.url, names.requests)
        self._publishing = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def ended(self) -> set[str]:
        return self.results.keys() | self.dead.keys()

    @property
    def missing(self) -> set[str]:
        return self.confirmed - self.ended

    @property
    def duplicates(self) -> dict[str, list[Ending]]:
        """The results of each request that has more than one."""
        return {request_id: results for request_id, results in self.results.items() if len(results) > 1}

    async def publish(self, count: int = 1, *, action: str = "work", data: Any = None) -> list[str]:
        """Publish that many requests, one after the other; their ids, once the broker has confirmed them all."""
        return [await self._publish_one(action, data) for _ in range(count)]

    async def _publish_one(self, action: str, data: Any) -> str:
        async with self._publishing:  # pika's connections are one thread's at a time
            self._published += 1
            request_id = f"request-{self._published}"
            body = json.dumps({"action": action, "data": data}, separators=(",", ":")).encode()
            key = f"{self._plugin}.{action}"
            self.unconfirmed += await asyncio.to_thread(self._publisher.publish, request_id, key, body)
            self.confirmed.add(request_id)
            return request_id

    @asynccontextmanager
    async def publishing(self, *, per_s: float, action: str = "work") -> AsyncIterator[None]:
        """Publish steadily for as long as the block lasts; less when confirms take their time."""
        over = asyncio.Event()
        stream = asyncio.create_task(self._publish_until(over, 1 / per_s, action))
        try:
            yield
        finally:
            over.set()
            await stream

    async def _publish_until(self, over: asyncio.Event, pause_s: float, action: str) -> None:
        while not over.is_set():
            await self._publish_one(action, None)
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), pause_s)

    async def until_ended(self, count: int, *, timeout_s: float = SETTLE_LIMIT_S) -> None:
        """Return once that many requests have ended, in whatever way."""
        await self._until(lambda: len(self.ended) >= count, f"{count} requests have not ended", timeout_s)

    async def settled(self, *, timeout_s: float = SETTLE_LIMIT_S) -> None:
        """Return once the promise is kept for all that was published; else fail, and say what is missing."""
        deadline = time.monotonic() + timeout_s
        await self._until(lambda: not self.missing, "requests were lost", timeout_s)
        while left := await self._left_behind():
            if time.monotonic() > deadline:
                pytest.fail(f"messages stayed behind in {left}\n{self._story()}")
        strangers = [results for results in self.duplicates.values() if len({one.message_id for one in results}) > 1]
        assert not strangers, f"results of one request have different ids: {strangers[0]}"

    async def _until(self, holds: Callable[[], bool], failure: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            left = await self._left_behind()
            pytest.fail(f"after {timeout_s:g} s {failure}\n{self._story()}\nin queues: {left or 'nothing'}")

    async def _left_behind(self) -> dict[str, str]:
        """What each queue holds that is not empty."""
        contents = await queue_contents(self._node, f"{self._names.prefix}.")
        return {name: str(what) for name, what in contents.items() if what.ready or what.unacked}

    def _story(self) -> str:
        missing = sorted(self.missing, key=lambda request_id: int(request_id.rpartition("-")[2]))
        named = ", ".join(missing[:NAMED]) + (", …" if len(missing) > NAMED else "")
        results, dead = (
            dict(Counter(one.why for endings in book.values() for one in endings)) for book in (self.results, self.dead)
        )
        return (
            f"confirmed: {len(self.confirmed)} of {self._published}; with neither a result nor a dead letter: "
            f"{len(missing)} ({named or 'none'})\nresults: {results}; dead letters: {dead}; "
            f"requests with several results: {len(self.duplicates)}"
        )

    def taking(self, endings: dict[str, list[Ending]]) -> Callable[[Ending], object]:
        """What writes down one ending after the other, from any thread."""
        loop = asyncio.get_running_loop()

        def write_down(ending: Ending) -> None:
            endings.setdefault(ending.request_id, []).append(ending)
            self._changed.set()

        return lambda ending: loop.call_soon_threadsafe(write_down, ending)

    def close(self) -> None:
        """Hang up; once nobody publishes any more."""
        self._publisher.close()


class _Publisher:
    """Publishes with confirms, one message at a time. For one thread at a time."""

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self._connection: Any = None
        self._channel: Any = None

    def publish(self, request_id: str, key: str, body: bytes) -> int:
        """Publish until it is confirmed; how many attempts were not. Raises TimeoutError."""
        properties = pika.BasicProperties(message_id=request_id, delivery_mode=2, content_type="application/json")
        deadline = time.monotonic() + CONFIRM_LIMIT_S
        unconfirmed = 0
        while not self._attempt(key, body, properties):
            unconfirmed += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"the broker did not confirm {request_id} within {CONFIRM_LIMIT_S:g} s")
            time.sleep(PAUSE_S)
        return unconfirmed

    def _attempt(self, key: str, body: bytes, properties: pika.BasicProperties) -> bool:
        try:
            if self._connection is None:
                self._connection = _connect(self._url)
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
            self._channel.basic_publish(self._exchange, key, body, properties)
        except NackError:
            return False
        except AMQPError:
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._connection is not None:
            _close(self._connection)
            self._connection = None


def _collect(url: str, queue: str, take: Callable[[Ending], object], over: threading.Event) -> None:
    """Hand over all that comes by a queue, across outages and the queue's deletion, until it is over."""
    while not over.is_set():
        with suppress(AMQPError), _closed_afterwards(_connect(url)) as connection:
            channel = connection.channel()
            for method, properties, body in channel.consume(queue, inactivity_timeout=GLANCE_S):
                if over.is_set():
                    return
                if method is not None:
                    take(_ending(method, properties, body))
                    channel.basic_ack(method.delivery_tag)
        over.wait(PAUSE_S)


def _ending(method: Any, properties: pika.BasicProperties, body: bytes) -> Ending:
    # A request of ours has an id alone; what is made of it carries that id as its correlation id.
    request_id = str(properties.correlation_id or properties.message_id)
    return Ending(request_id, properties.message_id, method.routing_key, properties.headers or {}, body)


def _connect(url: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0  # a publisher that has nothing to say is not to be cut off
    parameters.blocked_connection_timeout = BLOCKED_LIMIT_S
    return pika.BlockingConnection(parameters)


@contextmanager
def _closed_afterwards(connection: Any) -> Iterator[Any]:
    try:
        yield connection
    finally:
        _close(connection)


def _close(connection: Any) -> None:
    with suppress(AMQPError):
        connection.close()


def _declare(url: str, topology: Topology) -> None:
    with _closed_afterwards(_connect(url)) as connection:
        channel = connection.channel()
        for exchange in topology.exchanges:
            channel.exchange_declare(exchange.name, exchange.kind, durable=True, arguments=exchange.arguments())
        for queue in topology.queues:
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments())
        for binding in topology.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.routing_key)


@asynccontextmanager
async def ledger(
    node: PrivateNode, prefix: str, plugin: str, *, delivery_limit: int = DEFAULT_DELIVERY_LIMIT
) -> AsyncIterator[Ledger]:
    """Declare what requests to `plugin` need, and keep the book of them. `delivery_limit` must be the workers'."""
    names = Names(prefix)
    listening = Topology(
        queues=(Queue(f"{prefix}.ledger"),), bindings=(Binding(f"{prefix}.ledger", names.results, "#"),)
    )
    topology = base_topology(names) + mailbox_topology(names, plugin, delivery_limit=delivery_limit) + listening
    await asyncio.to_thread(_declare, node.url, topology)
    book, over = Ledger(node, names, plugin), threading.Event()
    collecting = [
        asyncio.create_task(asyncio.to_thread(_collect, node.url, queue, book.taking(endings), over))
        for queue, endings in ((f"{prefix}.ledger", book.results), (names.dead, book.dead))
    ]
    try:
        yield book
    finally:
        over.set()
        await asyncio.gather(*collecting, asyncio.to_thread(book.close))
