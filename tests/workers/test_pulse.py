"""Reports from a process to its parent, through a real pipe."""

from __future__ import annotations

import asyncio
import os
from multiprocessing import Pipe

import pytest

from warren.workers.pulse import Pulse, hear, telling
from warren.workers.vitals import Report

LIMIT_S = 20.0


async def test_what_is_told_is_heard_until_the_teller_ends() -> None:
    to_read, to_write = Pipe(duplex=False)
    reports = [Report("starting"), Report(None, started=True, metrics={"warren_in_flight": {(): 3}})]
    heard: list[Report] = []
    hearing = asyncio.create_task(hear(to_read, heard.append))
    async with telling(to_write) as tell:
        for report in reports:
            tell(report)
    await asyncio.wait_for(hearing, LIMIT_S)
    assert heard == reports


async def test_a_reader_that_does_not_read_keeps_nobody_waiting_and_then_hears_whole_reports() -> None:
    to_read, to_write = Pipe(duplex=False)
    long = [Report(f"{number}" * 100_000) for number in range(10)]
    heard: list[Report] = []
    async with telling(to_write) as tell:
        for report in long:
            tell(report)  # none of them fits into the pipe
        hearing = asyncio.create_task(hear(to_read, heard.append))
        async with asyncio.timeout(LIMIT_S):
            while not heard:  # noqa: ASYNC110 - it comes when the reader has read
                await asyncio.sleep(0.01)
        tell(Report("the newest"))
    await asyncio.wait_for(hearing, LIMIT_S)
    assert heard == [long[0], Report("the newest")]


async def test_a_parent_that_is_gone_is_told_nothing_more() -> None:
    to_read, to_write = Pipe(duplex=False)
    async with telling(to_write) as tell:
        to_read.close()
        for _ in range(100):
            tell(Report(None))
            await asyncio.sleep(0)


async def test_a_teller_that_is_killed_in_mid_report_has_said_nothing() -> None:
    to_read, to_write = Pipe(duplex=False)
    os.write(to_write.fileno(), (1000).to_bytes(4) + b"half a report")
    to_write.close()
    heard: list[Report] = []
    await asyncio.wait_for(hear(to_read, heard.append), LIMIT_S)
    assert heard == []


async def test_a_pulse_beats_at_once_and_again_and_a_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warren.workers.pulse.PERIOD_S", 0.01)
    beats: asyncio.Queue[Report] = asyncio.Queue()
    with Pulse(beats.put_nowait):
        assert beats.qsize() == 1
        async with asyncio.timeout(LIMIT_S):
            for _ in range(5):
                assert (await beats.get()).impediment == (
                    "starting: plugins are being loaded, and the broker is looked for"
                )
        before = beats.qsize()
    assert beats.qsize() == before + 1
