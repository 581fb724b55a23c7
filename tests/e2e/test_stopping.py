"""How workers end: told once, told twice, left behind, and with no broker to say farewell to."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.broker import Broker, free_ports
from tests.guests import write_plugin
from tests.worker_process import WorkerProcess, worker_process

pytestmark = pytest.mark.timeout(180)

LIMIT_S = 60.0


@asynccontextmanager
async def started(plugins: Path, url: str, *options: str) -> AsyncIterator[WorkerProcess]:
    """A worker that may never come to serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "warren.workers.cli", "worker", "--plugins", str(plugins), "--broker", url, *options),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield WorkerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def silent_broker(connections: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Something that listens and says nothing; an event for that many having come."""
    come = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if len(writers) >= connections:
            come.set()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/", come
        for writer in writers:
            writer.close()


async def gone(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, LIMIT_S)
    assert not alive


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_second_signal_ends_a_worker_at_once_with_all_its_processes(tmp_path: Path, processes: int) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        silent_broker(processes) as (url, come),
        started(tmp_path, url, "--processes", str(processes), "--grace-s", "1000") as worker,
    ):
        await asyncio.wait_for(come.wait(), LIMIT_S)
        children = psutil.Process(worker.process.pid).children()
        worker.process.send_signal(signal.SIGTERM)
        code = None
        while code is None:
            worker.process.send_signal(signal.SIGINT)
            code = await ended_within(worker.process, 0.1)
        assert code == 130
        await gone(children)
        await worker.until_read()
    assert "ending at once" in worker.said
    assert "Traceback" not in worker.said


async def ended_within(process: asyncio.subprocess.Process, limit_s: float) -> int | None:
    try:
        return await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        return None


async def test_children_that_cannot_reach_the_broker_are_started_again_in_so_many_words(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    url = f"amqp://guest:secret@127.0.0.1:{free_ports(1)[0]}/"
    async with started(tmp_path, url, "--processes", "2") as worker:
        async with asyncio.timeout(LIMIT_S):
            while "could not reach the broker; another one starts in 1 s" not in worker.said:  # noqa: ASYNC110 - its output tells nobody
                await asyncio.sleep(0.05)
        assert await worker.terminate() == 0
    assert "nothing listens there (connection refused)" in worker.said
    assert "Traceback" not in worker.said
    assert "secret" not in worker.said


@pytest.mark.broker
async def test_no_worker_process_outlives_a_supervisor_that_was_killed(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix, "--processes", "2") as supervisor:
        children = psutil.Process(supervisor.process.pid).children(recursive=True)
        supervisor.process.kill()
        await gone(children)


@pytest.mark.broker
async def test_a_storm_of_signals_to_every_process_still_drains(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix, "--processes", "2") as supervisor:
        children = [
            child
            for child in psutil.Process(supervisor.process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        ]
        for child in children:
            child.terminate()
            child.send_signal(signal.SIGINT)
        assert await supervisor.terminate() == 0
    assert "Traceback" not in supervisor.said
    assert "was killed" not in supervisor.said


@pytest.mark.broker
async def test_a_worker_drains_in_time_while_the_broker_is_away(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix, "--grace-s", "5") as worker:
        await broker.stop()
        try:
            assert await asyncio.wait_for(worker.terminate(), 15) == 0
        finally:
            await broker.start()
    assert "Traceback" not in worker.said


@pytest.mark.broker
async def test_a_worker_whose_settings_contradict_the_mailbox_says_so_and_ends(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix):
        options = ("--prefix", prefix, "--delivery-limit", "5", "--processes", "2")
        async with started(tmp_path, broker.url, *options) as worker:
            assert await ended_within(worker.process, LIMIT_S) == 2
            await worker.until_read()
    assert f"'{prefix}.plugin.plain' exists on the broker with other properties" in worker.said
    assert "Traceback" not in worker.said
