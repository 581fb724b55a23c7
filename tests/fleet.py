"""A member of a fleet in the test's own process: a worker that hears the others, and announces itself often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from warren.bus import Names, Transport, connect
from warren.plugins import PluginManager, read_policy
from warren.workers.control import Control
from warren.workers.roster import Roster, new_worker_name
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

#: Within which what is waited for happens, on a busy machine.
LIMIT_S: Final = 20.0

#: From one announcement to the next.
PERIOD_S: Final = 0.2


@dataclass(frozen=True)
class Member:
    """A worker and all that is around it. `told_to_stop` is set by an order to drain."""

    worker: Worker
    control: Control
    roster: Roster
    manager: PluginManager
    transport: Transport
    told_to_stop: asyncio.Event

    @property
    def name(self) -> str:
        return self.worker.name

    def count(self, family: str, *labels: str) -> float:
        """One of its counters."""
        counted = self.worker.metrics.snapshot()[family].get(labels, 0)
        assert isinstance(counted, int | float)
        return counted


@asynccontextmanager
async def member(
    plugins: Path, url: str, prefix: str, *, obeys: bool = True, period_s: float = PERIOD_S, **settings: Any
) -> AsyncIterator[Member]:
    chosen = WorkerSettings(plugins, url, prefix=prefix, **{"grace_s": LIMIT_S, **settings})
    policy = None if chosen.policy is None else read_policy(chosen.policy)
    async with PluginManager(plugins, policy=policy) as manager:
        assert manager.failures == manager.parked()
        transport = await connect(url, name="member")
        try:
            roster = Roster(new_worker_name(), period_s=period_s)
            worker = Worker(transport, manager, chosen, roster=roster)
            await worker.start()
            stop = asyncio.Event()
            control = Control(
                transport, Names(prefix), worker, manager, roster, obeys=obeys, stop=stop.set, period_s=period_s
            )
            async with control:
                yield Member(worker, control, roster, manager, transport, stop)
                await worker.drain()
        finally:
            await transport.close()


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds: nobody tells."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
