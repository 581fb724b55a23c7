"""A worker whose plugins come, change and go while it serves: what it consumes, and what its mailboxes are bound to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.guests import answering, wat, write_plugin
from warren.bus import (
    Binding,
    BrokerUnreachable,
    Client,
    Consumer,
    Delivery,
    MemoryTransport,
    Message,
    Names,
    Topology,
)
from warren.bus.memory import shared_broker
from warren.plugins import PluginManager
from warren.workers import served
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

NAMES = Names("warren")
LIMIT_S = 20.0


class Unsteady(MemoryTransport):
    """A connection to a broker that can be away."""

    is_away = False

    async def declare(self, topology: Topology) -> None:
        self._check()
        await super().declare(topology)

    async def bind(self, *bindings: Binding) -> None:
        self._check()
        await super().bind(*bindings)

    async def unbind(self, *bindings: Binding) -> None:
        self._check()
        await super().unbind(*bindings)

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        self._check()
        return await super().consume(queue, on_delivery, prefetch=prefetch)

    def _check(self) -> None:
        if self.is_away:
            raise BrokerUnreachable("amqp://there", "it is away")


@dataclass
class Live:
    """A worker on a bus of its own, and its folder of plugins."""

    folder: Path
    manager: PluginManager
    worker: Worker
    client: Client
    transport: Unsteady
    looking: MemoryTransport
    heard: list[str] = field(default_factory=list)

    def put(self, name: str, *topics: str, version: str = "1.0.0", stem: str = "", answer: str = "1") -> Path:
        subscribe = f"[bus]\nsubscribe = {list(topics)}\n".replace("'", '"')
        guest = answering(f'{{"success":true,"result":{answer},"error":null}}')
        return write_plugin(self.folder, name, guest, subscribe, version=version, stem=stem)

    def counted(self, name: str, *labels: str) -> object:
        return self.worker.metrics.snapshot()[name].get(labels)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    async def until_settled(self) -> None:
        """Return once nothing of what happened is left to be followed."""
        await self.until(lambda: self.worker.impediment() is None)

    async def topics_of(self, plugin: str, *topics: str) -> list[str]:
        """Those of these topics whose events come to the mailbox, which nobody may be consuming."""
        queue = NAMES.mailbox(plugin)
        arrived = []
        for topic in topics:
            before = await self.looking.depth(queue)
            await self.looking.publish(Message(b"{}", NAMES.events, topic))
            if await self.looking.depth(queue) > before:
                arrived.append(topic)
        return arrived


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[Live]:
    url = f"memory://{folder.name}-{id(folder)}"
    broker = shared_broker(url.removeprefix("memory://"))
    transport, looking = Unsteady(broker), MemoryTransport(broker)
    async with PluginManager(folder) as manager, Client(transport=looking, timeout_s=LIMIT_S) as client:
        worker = Worker(transport, manager, WorkerSettings(folder, url, grace_s=LIMIT_S))
        await worker.start()
        yield Live(folder, manager, worker, client, transport, looking)
        await worker.drain()
    await transport.close()
    await looking.close()


async def test_a_plugin_that_appears_is_served_and_counted(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        assert live.worker.impediment() is None
        await live.manager.load_plugin(live.put("late", "news.#"))
        assert "late" in str(live.worker.impediment())
        await live.until_settled()
        assert (await live.client.call("late", "do")).ok
        await live.client.publish("news.today")
        await live.until(lambda: live.counted("warren_requests_total", "late", "ok") == 2)


async def test_a_plugin_that_is_gone_is_no_longer_consumed_and_its_mailbox_keeps_what_comes(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await live.manager.load_plugin(live.put("leaving", "news"))
        await live.until_settled()
        await live.manager.unload_plugin("leaving")
        call = asyncio.create_task(live.client.call("leaving", "do"))
        await live.until_settled()
        await live.client.publish("news", 1)
        assert await live.looking.depth(NAMES.mailbox("leaving")) == 2
        await live.manager.load_plugin(live.put("leaving"))
        assert (await call).ok


async def test_what_comes_as_a_plugin_goes_is_not_answered_that_there_is_none(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        path = live.put("busy")
        await live.manager.load_plugin(path)
        await live.until_settled()
        calls = []
        for _ in range(20):
            calls += [asyncio.create_task(live.client.call("busy", "do")) for _ in range(5)]
            await asyncio.sleep(0)
            await live.manager.unload_plugin("busy")
            calls += [asyncio.create_task(live.client.call("busy", "do")) for _ in range(5)]
            await live.manager.load_plugin(path)
        results = await asyncio.gather(*calls)
    assert {result.outcome for result in results} == {"ok"}


async def test_one_version_of_two_that_goes_leaves_the_other_served(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await live.manager.load_plugin(live.put("both", "old", version="1.0.0", stem="one"))
        await live.manager.load_plugin(live.put("both", "new", version="2.0.0", stem="two"))
        await live.until_settled()
        await live.manager.unload_plugin("both", "1.0.0")
        await live.until_settled()
        assert (await live.client.call("both", "do")).version == "2.0.0"
        await live.manager.unload_plugin("both")
        await live.until_settled()
        assert await live.topics_of("both", "old", "new") == ["new"]


async def test_subscriptions_follow_the_manifest(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await live.manager.load_plugin(live.put("reader", "a.*", "b"))
        await live.until_settled()
        await live.manager.load_plugin(live.put("reader", "b", "c.#"))
        await live.until_settled()
        await live.manager.unload_plugin("reader")
        await live.until_settled()
        assert await live.topics_of("reader", "a.x", "b", "c.x") == ["b", "c.x"]


async def test_a_plugin_that_comes_back_without_a_topic_is_no_longer_bound_to_it(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        for topics in (("a", "b"), ("b",)):
            await live.manager.load_plugin(live.put("reader", *topics))
            await live.until_settled()
            await live.manager.unload_plugin("reader")
            await live.until_settled()
        assert await live.topics_of("reader", "a", "b") == ["b"]


async def test_what_the_broker_would_not_have_is_tried_again_and_said_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "RETRY_PAUSES_S", (0.01,))
    async with living(tmp_path) as live:
        await live.manager.load_plugin(live.put("reader", "a"))
        await live.until_settled()
        live.transport.is_away = True
        await live.manager.load_plugin(live.put("reader", "b"))
        await live.manager.load_plugin(live.put("late"))
        await live.until(lambda: "late is not yet as its plugin is: cannot" in str(live.worker.impediment()))
        live.transport.is_away = False
        await live.until_settled()
        assert (await live.client.call("late", "do")).ok
        await live.manager.unload_plugin("reader")
        await live.until_settled()
        assert await live.topics_of("reader", "a", "b") == ["b"]


async def test_a_worker_drains_while_it_still_follows(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        live.transport.is_away = True
        await live.manager.load_plugin(live.put("late"))
        await live.until(lambda: "it is away" in str(live.worker.impediment()))
        await live.worker.drain()
        await live.manager.load_plugin(live.put("later"))
        assert live.worker.impediment() == "draining: no more requests are taken"


async def test_a_retry_stays_on_the_version_of_its_first_attempt_while_that_is_loaded(tmp_path: Path) -> None:
    retry = '[retry]\nmax_attempts = 6\ninitial_delay_ms = 50\nmultiplier = 1\non = ["trap"]\n'
    async with living(tmp_path) as live:
        await live.manager.load_plugin(write_plugin(tmp_path, "flaky", wat("unreachable"), retry, stem="one"))
        await live.until_settled()
        call = asyncio.create_task(live.client.call("flaky", "do"))
        await live.until(lambda: live.counted("warren_retries_total", "flaky") == 1)
        newer = write_plugin(tmp_path, "flaky", None, version="2.0.0", stem="two")
        await live.manager.load_plugin(newer)
        assert (await live.client.call("flaky", "do")).version == "2.0.0"
        broken = await call
        assert (broken.outcome, broken.version, broken.attempt) == ("trap", "1.0.0", 6)

        call = asyncio.create_task(live.client.call("flaky", "do", version="^1"))
        await live.until(lambda: live.counted("warren_retries_total", "flaky") == 6)
        await live.manager.unload_plugin("flaky", "1.0.0")
        await live.manager.load_plugin(write_plugin(tmp_path, "flaky", None, version="1.1.0", stem="three"))
        moved = await call
        assert (moved.outcome, moved.version) == ("ok", "1.1.0")
