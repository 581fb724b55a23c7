"""A worker that is told to stop while a plugin waits for an HTTP server: it ends in time, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.plugins.test_network_guest import granting, write_guest
from tests.plugins.web import reply, silence, web
from warren.bus import Client, connect
from warren.manifests import Policy
from warren.plugins import PluginManager
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

LIMIT_S: Final = 20.0

#: What the first worker lets runs in flight go on for; they would wait much longer.
GRACE_S: Final = 0.1

#: Far less than the run's own limit (30 s), and far more than giving a request back takes.
STOPPED_S: Final = 5.0


@asynccontextmanager
async def working(plugins: Path, url: str, policy: Policy, grace_s: float) -> AsyncIterator[Worker]:
    transport = await connect(url)
    async with PluginManager(plugins, policy=policy) as manager:
        assert manager.failures == ()
        worker = Worker(transport, manager, WorkerSettings(plugins, url, grace_s=grace_s))
        await worker.start()
        yield worker
        await worker.drain()
    await transport.close()


async def test_a_worker_that_stops_in_the_middle_of_an_http_request_gives_the_request_back(tmp_path: Path) -> None:
    is_well = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        await (reply(b"hello") if is_well.is_set() else silence)(writer)

    plugins, url = tmp_path / "plugins", f"memory://{tmp_path.name}"
    async with web(answer) as here, Client(url, timeout_s=LIMIT_S) as client:
        host = f"127.0.0.1:{here.port}"
        write_guest(plugins, f"http://{host}/", host)
        policy = granting(tmp_path, host)
        async with working(plugins, url, policy, GRACE_S) as worker:
            call = asyncio.create_task(client.call("reacher", "fetch"))
            async with asyncio.timeout(LIMIT_S):
                await here.asked.wait()
            async with asyncio.timeout(STOPPED_S):
                assert await worker.drain() == 1
                await here.left.wait()
            assert here.connections == 0, "the server is not left with half a request"
            assert not call.done()
        is_well.set()
        async with working(plugins, url, policy, LIMIT_S):
            result = await call
    assert result.ok, result.error
    assert result.result["ok"]["body"] == "hello"
    assert result.attempt == 2, "it was redelivered"
    assert len(here.requests) == 2
