"""Coroutines that are begun at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from warren.workers.begun import begin


async def test_what_does_not_wait_has_ended_at_once() -> None:
    async def answer() -> int:
        return 42

    assert begin(answer()) == 42


async def test_what_waits_goes_on_where_it_stood() -> None:
    steps: list[str] = []
    waited_for: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        steps.append("begun")
        steps.append(await waited_for)
        await asyncio.sleep(0)
        return "ended"

    rest = begin(work())
    assert steps == ["begun"]
    assert isinstance(rest, Coroutine)
    task = asyncio.create_task(rest)
    waited_for.set_result("went on")
    assert await task == "ended"
    assert steps == ["begun", "went on"]


async def test_an_error_comes_out_wherever_it_is_raised() -> None:
    async def fail(*, first: bool) -> None:
        if not first:
            await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        begin(fail(first=True))
    rest = begin(fail(first=False))
    assert isinstance(rest, Coroutine)
    with pytest.raises(LookupError):
        await rest


async def test_what_is_cancelled_cleans_up() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            steps.append("cleaned up")

    rest = begin(work())
    assert isinstance(rest, Coroutine)
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["cleaned up"]
