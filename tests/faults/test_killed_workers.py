"""A worker is killed in each window of a message's path, and another one takes over."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.broker import PrivateNode
from tests.faults.digger import DIGGER
from tests.faults.doomed_worker import Window, doomed_worker
from tests.faults.ledger import ledger
from tests.worker_process import START_LIMIT_S, worker_process

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_path")]

#: Requests, which all wait before the first worker starts; it dies in the middle of them.
REQUESTS: Final = 60
PASSAGES: Final = 25

#: A worker that dies there has published results of requests that it has not acked.
AFTER_PUBLISHING: Final = {Window.PUBLISHED, Window.CONFIRMED}


@pytest.mark.parametrize("window", Window)
async def test_a_worker_that_is_killed_costs_no_request(
    node: PrivateNode, prefix: str, plugins: Path, window: Window
) -> None:
    async with ledger(node, prefix, DIGGER) as book:
        await book.publish(REQUESTS, action="die")
        async with doomed_worker(plugins, node.url, prefix, window, PASSAGES) as doomed:
            assert await asyncio.wait_for(doomed.process.wait(), START_LIMIT_S) == -signal.SIGKILL, doomed.said
        async with worker_process(plugins, node.url, prefix):
            await book.settled()
        assert not book.dead
        if window in AFTER_PUBLISHING:
            assert book.duplicates, "it died before it had published anything that it had not acked"
