"""The book that a fault test keeps: what was asked for, what came of it, and whether the promise was kept.

    async with ledger(node, prefix, "digger") as book:
        await book.publish(100)
        ...                                     # workers serve, and something breaks
        await book.settled()

The promise: each request that was confirmed to its publisher ends with at least one result or one dead letter, the
results of one request share an id, and nothing stays behind in any queue, neither ready nor unacked.

It is kept outside Warren, by a `caller` with connections of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from tests.broker import PrivateNode
from tests.faults.caller import Ending, Publisher, collect, declare
from tests.faults.queue_contents import queue_contents
from warren.bus import (
    DEFAULT_DELIVERY_LIMIT,
    Binding,
    Names,
    Queue,
    Topology,
    base_topology,
    mailbox_topology,
)

#: For the promise to be kept, once the fault is over: many times what a busy machine needs.
SETTLE_LIMIT_S: Final = 60.0

#: Requests that a failure names, at most.
NAMED: Final = 20


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
        self._publisher = Publisher(node.url, names.requests)
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
    await asyncio.to_thread(declare, node.url, topology)
    book, over = Ledger(node, names, plugin), threading.Event()
    collecting = [
        asyncio.create_task(asyncio.to_thread(collect, node.url, queue, book.taking(endings), over))
        for queue, endings in ((f"{prefix}.ledger", book.results), (names.dead, book.dead))
    ]
    try:
        yield book
    finally:
        over.set()
        await asyncio.gather(*collecting, asyncio.to_thread(book.close))
