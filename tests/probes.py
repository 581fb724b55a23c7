"""Probing a worker over HTTP, as an orchestrator and Prometheus do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.broker import Broker
from tests.worker_process import WorkerProcess, worker_process

#: For what is to come true; generous, since a process may have to start for it.
LIMIT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: Message


class Probes:
    """Asks the server at a port of loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request, from a thread that may wait."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), response.headers)
        finally:
            connection.close()

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(self.ask, path)

    async def until(self, path: str, status: int) -> Answer:
        """The first answer that has this status."""
        async with asyncio.timeout(LIMIT_S):
            while (answer := await self.get(path)).status != status:  # noqa: ASYNC110 - nobody tells when it changes
                await asyncio.sleep(0.05)
        return answer

    async def metrics(self) -> Metrics:
        return Metrics.parse((await self.get("/metrics")).text)

    async def until_counted(self, count: float, name: str, **labels: str) -> Metrics:
        """The first metrics of which these have reached `count`, which are up to a second behind."""
        async with asyncio.timeout(LIMIT_S):
            while (metrics := await self.metrics()).sum(name, **labels) < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        return metrics


class Metrics:
    """What a scrape gave, read by the official client's own parser."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)

    @classmethod
    def parse(cls, text: str) -> Metrics:
        return cls(sample for family in text_string_to_metric_families(text) for sample in family.samples)

    def sum(self, name: str, **labels: str) -> float:
        return sum(each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items())

    def values_of(self, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if label in sample.labels}


@dataclass(frozen=True)
class Watched:
    """A worker that serves, and the probes of it."""

    process: WorkerProcess
    probes: Probes

    def children(self) -> list[psutil.Process]:
        """The worker processes of a supervisor, in the order of their start."""
        children = psutil.Process(self.process.process.pid).children()
        return sorted((each for each in children if _is_worker(each)), key=lambda one: one.pid)


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is a worker process, and not one that has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return "spawn_main" in " ".join(process.cmdline())
    return False


@asynccontextmanager
async def watched(broker: Broker, prefix: str, plugins: Path, *options: str) -> AsyncIterator[Watched]:
    """A worker that is ready, at a port of its own choice."""
    async with worker_process(plugins, broker.url, prefix, "--health-port", "0", *options) as worker:
        found = re.search(r"answering probes and scrapes at 127\.0\.0\.1 port (\d+)", worker.said)
        assert found, worker.said
        probes = Probes(int(found[1]))
        await probes.until("/ready", 200)
        yield Watched(worker, probes)
