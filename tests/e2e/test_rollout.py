"""A new version on a real broker, in worker processes: a bad one goes by itself, and takes nothing along."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.broker import Broker
from tests.guests import wat, write_plugin
from tests.worker_process import worker_process
from warren.bus import Client, OutcomeKind, PluginMessage

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

LIMIT_S: Final = 60.0
WORKERS: Final = 2
MIN_REQUESTS: Final = 20

#: The window is far longer than the test: what is decided here is decided within it.
ROLLOUT: Final = f"[rollout]\npercent = 30\nmin_requests = {MIN_REQUESTS}\nwindow_s = 3600\n"


async def heard_from(events: asyncio.Queue[PluginMessage], workers: int) -> list[PluginMessage]:
    return [await asyncio.wait_for(events.get(), LIMIT_S) for _ in range(workers)]


async def test_a_canary_that_fails_more_is_rolled_back_by_every_worker_and_no_request_is_lost(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "mole", version="1.4.2", stem="mole_1")
    write_plugin(tmp_path, "mole", wat("unreachable"), ROLLOUT, version="2.0.0", stem="mole_2")
    async with (
        Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client,
        client.events("warren.rollout.mole.rolled_back") as events,
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "10") as one,
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "10") as other,
    ):
        told: asyncio.Queue[PluginMessage] = asyncio.Queue()

        async def listen() -> None:
            async for event in events:
                told.put_nowait(event)

        listening = asyncio.create_task(listen())
        asked = answered = trapped = 0
        async with asyncio.timeout(LIMIT_S):
            while told.qsize() < WORKERS:
                results = await asyncio.gather(*(client.call("mole", "do") for _ in range(50)))
                asked += 50
                answered += len(results)
                for result in results:
                    assert (result.outcome, result.version) in {(OutcomeKind.OK, "1.4.2"), (OutcomeKind.TRAP, "2.0.0")}
                    trapped += result.outcome is OutcomeKind.TRAP
        decided = await heard_from(told, WORKERS)
        after = await asyncio.gather(*(client.call("mole", "do") for _ in range(200)))
        listening.cancel()
        assert await one.terminate() == await other.terminate() == 0

    assert answered == asked
    assert {result.version for result in after} == {"1.4.2"}
    assert {result.outcome for result in after} == {OutcomeKind.OK}
    assert WORKERS * MIN_REQUESTS <= trapped <= 0.6 * asked
    assert len({event.payload["worker"] for event in decided}) == WORKERS
    for event, worker in zip(decided, (one, other), strict=True):
        assert event.payload["reason"].startswith(f"100.0 % of {MIN_REQUESTS} runs failed (trap) against 0.0 % of")
        assert f"rolled back mole 2.0.0: 100.0 % of {MIN_REQUESTS} runs failed (trap)" in worker.said
