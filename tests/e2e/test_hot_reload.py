"""Plugins that come, change and go under workers in processes of their own, on a real broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pika
import pytest

from tests.broker import Broker
from tests.guests import answering, write_plugin
from tests.probes import LIMIT_S, watched
from tests.worker_process import WorkerProcess
from warren.bus import Client, OutcomeKind

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

RELOADS = 100
CALLERS = 3
VERSIONS = ("1.0.0", "2.0.0")


def write_versions(folder: Path) -> dict[str, Path]:
    """The plugin `live` in two versions, each in a folder of its own; it answers with its version."""
    for version in VERSIONS:
        guest = answering(f'{{"success":true,"result":"{version}","error":null}}')
        write_plugin(folder / version, "live", guest, version=version)
    return {version: folder / version for version in VERSIONS}


def switch(link: Path, target: Path) -> None:
    """Both files of a plugin at once, as deployments do it."""
    following = link.parents[1] / "following"
    following.symlink_to(target, target_is_directory=True)
    following.replace(link)


async def until_said(worker: WorkerProcess, text: str, times: int = 1) -> None:
    async with asyncio.timeout(LIMIT_S):
        while sum(text in line for line in worker.lines) < times:
            assert worker.process.returncode is None, worker.said
            await asyncio.sleep(0.01)


async def test_a_hundred_reloads_under_load_lose_no_request_and_fail_none(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    versions = write_versions(tmp_path / "versions")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    switch(plugins / "current", versions["1.0.0"])
    answers = Counter[tuple[str, str | None, str]]()
    over = asyncio.Event()

    async def call_on(client: Client) -> None:
        while not over.is_set():
            result = await client.call("live", "do")
            answers[result.outcome, result.version, str(result.result)] += 1

    async with (
        watched(broker, prefix, plugins, "--hot-reload") as one,
        watched(broker, prefix, plugins, "--hot-reload") as other,
        Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        async with asyncio.TaskGroup() as calling:
            for _ in range(CALLERS):
                calling.create_task(call_on(client))
            for number in range(1, RELOADS + 1):
                version = VERSIONS[number % 2]
                switch(plugins / "current", versions[version])
                loads = number // 2 + 1  # of this version: the first one was there at the start
                await until_said(one.process, f"loaded live {version} ", loads)
                await until_said(other.process, f"loaded live {version} ", loads)
            over.set()
        sent = sum(answers.values())
        assert answers.keys() == {("ok", version, version) for version in VERSIONS}
        metrics = [await worker.probes.until_counted(1, "warren_requests_total") for worker in (one, other)]
        async with asyncio.timeout(LIMIT_S):
            while sum(each.sum("warren_requests_total") for each in metrics) < sent:
                metrics = [await worker.probes.metrics() for worker in (one, other)]
        for name, count in (
            ("warren_requests_total", sent),
            ("warren_run_duration_seconds_count", sent),
            ("warren_given_back_total", 0),
            ("warren_retries_total", 0),
            ("warren_dead_letters_total", 0),
            ("warren_publish_failures_total", 0),
        ):
            assert sum(each.sum(name) for each in metrics) == count, name
        assert all(each.sum("warren_requests_total", plugin="live", outcome="ok") > 0 for each in metrics)


async def test_a_worker_that_starts_with_nothing_serves_what_comes_and_leaves_what_goes(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    async with (
        watched(broker, prefix, plugins, "--hot-reload") as worker,
        Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        assert f"serving nothing yet: waiting for plugins in {plugins}" in worker.process.said
        assert (await client.call("late", "do")).outcome is OutcomeKind.REJECTED
        write_plugin(plugins, "late")
        await until_said(worker.process, "serving late")
        assert (await client.call("late", "do")).outcome is OutcomeKind.OK
        for path in plugins.iterdir():
            path.unlink()
        await until_said(worker.process, "no longer serving late; its mailbox stays on the broker")
        await worker.probes.until("/ready", 200)
        assert await asyncio.to_thread(consumers, broker.url, f"{prefix}.plugin.late") == 0
        write_plugin(plugins, "late")
        assert (await client.call("late", "do")).outcome is OutcomeKind.OK


def consumers(url: str, queue: str) -> int:
    """How many consumers a queue has, by the word of a client that is not ours."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.consumer_count)
    finally:
        connection.close()
