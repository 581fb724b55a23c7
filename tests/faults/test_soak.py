"""Half an hour's worth of mishaps in three minutes: under a steady load, something of a fleet dies, stops, stands still
or is cut off at every moment, and nothing is lost.

In CI it takes the three minutes, elsewhere 20 seconds, or `WARREN_SOAK_S`. The mishaps follow from a seed, which a
failure names, and which `WARREN_SOAK_SEED` sets; when they strike follows from the machine as well.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.broker import PrivateNode
from tests.faults.digger import DIGGER
from tests.faults.ledger import ledger
from tests.worker_process import WorkerProcess, worker_process

SOAK_S: Final = float(os.environ.get("WARREN_SOAK_S") or (180 if os.environ.get("CI") else 20))

pytestmark = [pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(SOAK_S + 150)]

REQUESTS_PER_S: Final = 50

#: Between two mishaps of one member of the fleet.
PEACE_S: Final = (0.5, 5.0)

#: How long one stands still.
FROZEN_S: Final = (0.2, 3.0)

#: Closes one of all connections there are, those of the test included.
CLOSE_ONE: Final = """
Open = rabbit_networking:connections(),
catch rabbit_networking:close_connection(lists:nth(1 + {} rem length(Open), Open), "a mishap")."""

Mishap = Callable[[random.Random], Awaitable[None]]


class Member:
    """A worker that is there again after each mishap; with two processes or more, a supervisor and its workers."""

    def __init__(self, node: PrivateNode, prefix: str, plugins: Path, processes: int) -> None:
        options = ("--processes", str(processes), "--prefetch", "20", "--grace-s", "5")
        self._new = partial(worker_process, plugins, node.url, prefix, *options)
        self._running = AsyncExitStack()
        self._worker: WorkerProcess
        kill = self._kill if processes == 1 else self._kill_a_child
        self.mishaps: dict[str, Mishap] = {"killed": kill, "stopped": self._stop, "frozen": self._freeze}

    async def start(self) -> None:
        self._worker = await self._running.enter_async_context(self._new())

    async def end(self) -> None:
        await self._running.aclose()

    async def _kill(self, _: random.Random) -> None:
        await self._worker.kill()
        await self._again()

    async def _kill_a_child(self, chance: random.Random) -> None:
        """Its supervisor replaces it."""
        children = psutil.Process(self._worker.process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if workers:
            chance.choice(workers).kill()

    async def _stop(self, _: random.Random) -> None:
        assert await self._worker.terminate() == 0, self._worker.said
        await self._again()

    async def _freeze(self, chance: random.Random) -> None:
        self._worker.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(chance.uniform(*FROZEN_S))
        finally:
            self._worker.process.send_signal(signal.SIGCONT)

    async def _again(self) -> None:
        await self.end()
        await self.start()


async def suffer(mishaps: dict[str, Mishap], chance: random.Random, over: asyncio.Event, count: Counter[str]) -> None:
    """One mishap after the other, until it is over."""
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(*PEACE_S))
        name = chance.choice(sorted(mishaps))
        await mishaps[name](chance)
        count[name] += 1


@pytest.mark.parametrize("amqp_path", ["fast"], indirect=True)
async def test_a_fleet_in_constant_trouble_loses_nothing(
    node: PrivateNode, prefix: str, plugins: Path, amqp_path: str
) -> None:
    seed = os.environ.get("WARREN_SOAK_SEED") or secrets.token_hex(4)
    suffered: Counter[str] = Counter()

    async def close_a_connection(chance: random.Random) -> None:
        await node.ctl("eval", CLOSE_ONE.format(chance.randrange(1_000)))

    try:
        async with ledger(node, prefix, DIGGER) as book, AsyncExitStack() as running:
            fleet = [Member(node, prefix, plugins, processes) for processes in (1, 1, 2)]
            for member in fleet:
                running.push_async_callback(member.end)
                await member.start()
            victims = [member.mishaps for member in fleet] + [{"cut off": close_a_connection}]
            over = asyncio.Event()
            async with book.publishing(per_s=REQUESTS_PER_S), asyncio.TaskGroup() as suffering:
                for number, mishaps in enumerate(victims):
                    chance = random.Random(f"{seed} {number}")  # noqa: S311 - mishaps, not secrets
                    suffering.create_task(suffer(mishaps, chance, over, suffered))
                asyncio.get_running_loop().call_later(SOAK_S, over.set)
            await book.settled()
            assert not book.dead
    except BaseException as failure:
        failure.add_note(f"WARREN_SOAK_SEED={seed}, after {dict(suffered)}")
        raise
