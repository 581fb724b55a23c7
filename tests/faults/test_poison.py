"""A request that takes down whichever worker runs it: it stops at the delivery limit, and those beside it do not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.broker import PrivateNode
from tests.faults.digger import DIGGER
from tests.faults.doomed_worker import Window, doomed_worker
from tests.faults.ledger import ledger
from tests.worker_process import WorkerProcess

pytestmark = pytest.mark.broker

LIMIT: Final = 3


@asynccontextmanager
async def kept_alive(workers: int, node: PrivateNode, prefix: str, plugins: Path) -> AsyncIterator[list[WorkerProcess]]:
    """That many workers, each replaced when it dies; those that died."""
    died: list[WorkerProcess] = []
    over = asyncio.Event()

    async def keep_one_alive() -> None:
        while not over.is_set():
            async with doomed_worker(plugins, node.url, prefix, Window.RUNNING, delivery_limit=LIMIT) as worker:
                dying, ending = asyncio.create_task(worker.process.wait()), asyncio.create_task(over.wait())
                await asyncio.wait([dying, ending], return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                if dying.done():
                    assert dying.result() == -signal.SIGKILL, worker.said
                    died.append(worker)
            await dying

    async with asyncio.TaskGroup() as keeping:
        for _ in range(workers):
            keeping.create_task(keep_one_alive())
        yield died
        over.set()


async def test_poison_alone_stops_at_the_delivery_limit_and_is_dead_lettered(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    async with ledger(node, prefix, DIGGER, delivery_limit=LIMIT) as book:
        (poison,) = await book.publish(action="die")
        async with kept_alive(1, node, prefix, plugins) as died:
            await book.settled()
        assert len(died) == LIMIT + 1
        assert not book.results
        assert [letter.why for letter in book.dead[poison]] == ["delivery_limit"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_neighbours_of_poison_are_served(node: PrivateNode, prefix: str, plugins: Path, workers: int) -> None:
    async with ledger(node, prefix, DIGGER, delivery_limit=LIMIT) as book:
        before = await book.publish(5)
        (poison,) = await book.publish(action="die")
        after = await book.publish(5)
        async with kept_alive(workers, node, prefix, plugins) as died:
            await book.settled()
        assert len(died) <= LIMIT + 1  # a delivery that went back unserved counts as well
        assert book.dead.keys() == {poison}
        assert book.results.keys() == {*before, *after}
