"""A real worker in the test's own process, so that a test can look at its transport, and choose its heartbeat.

And how one sees from outside that a worker, wherever it runs, serves again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.ledger import Ledger
from warren.bus.amqp import HEARTBEAT_S, AmqpTransport
from warren.plugins import PluginManager
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

#: For runs in flight, when the worker stops.
GRACE_S: Final = 3.0

#: Within which a worker consumes again, once it can: what is promised.
RETURN_LIMIT_S: Final = 10.0

#: Within which a transport notices what keeps messages from flowing, if it notices at all.
NOTICE_LIMIT_S: Final = 20.0


@asynccontextmanager
async def serving(
    url: str,
    prefix: str,
    plugins: Path,
    *,
    heartbeat_s: int = HEARTBEAT_S,
    connect_s: float = 10.0,
    prefetch: int = 100,
) -> AsyncIterator[AmqpTransport]:
    """The transport of a worker that serves, and that is drained in the end."""
    settings = WorkerSettings(plugins, url, prefix=prefix, prefetch=prefetch, grace_s=GRACE_S)
    async with PluginManager(plugins) as manager:
        transport = await AmqpTransport.connect(url, name="worker", heartbeat_s=heartbeat_s, timeout_s=connect_s)
        try:
            worker = Worker(transport, manager, settings)
            await worker.start()
            try:
                yield transport
            finally:
                await worker.drain()
        finally:
            await transport.close()


async def serves_again(book: Ledger) -> None:
    """Publish one more request, and return once it has ended; so it was not served before the fault."""
    [request_id] = await book.publish()
    deadline = time.monotonic() + RETURN_LIMIT_S
    while request_id not in book.ended:
        assert time.monotonic() < deadline, f"nobody serves {request_id} within {RETURN_LIMIT_S:g} s"
        await asyncio.sleep(0.02)


async def until_impeded(transport: AmqpTransport, *, impeded: bool = True) -> None:
    """Return once the transport says that something keeps messages from flowing, or that nothing does any more."""
    async with asyncio.timeout(NOTICE_LIMIT_S):
        while (transport.impediment() is not None) != impeded:  # noqa: ASYNC110 - it is asked, and tells nobody
            await asyncio.sleep(0.02)
