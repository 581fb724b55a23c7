"""Workers in processes of their own, on a real broker: what users are promised, seen from outside."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pika
import psutil
import pytest

from tests.broker import Broker
from tests.guests import echoing, needing, relaying, wat, write_plugin
from tests.worker_process import worker_process
from warren.bus import Client, OutcomeKind, Result, Trace

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples"

TEXT = "Rabbits dig burrows. A warren is a system of burrows. Foxes wait outside the warren."


@pytest.fixture
async def client(broker: Broker, prefix: str) -> AsyncIterator[Client]:
    async with Client(broker.url, prefix=prefix, timeout_s=60) as client:
        yield client


#: Some 40 million units of fuel: tens of milliseconds, in which a worker can be killed.
SPIN = """
(local $i i32)
(loop $again
  (local.set $i (i32.add (local.get $i) (i32.const 1)))
  (br_if $again (i32.lt_u (local.get $i) (i32.const 5000000))))
(call $answer)
"""


def spinning_plugin(folder: Path) -> None:
    write_plugin(folder, "spinner", wat(SPIN), '[capabilities]\nrequired = ["compute"]')


def depth(url: str, queue: str) -> int:
    """How many messages wait in a queue, by the word of a client that is not ours."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    finally:
        connection.close()


def only(plugin: str, folder: Path) -> Path:
    """A folder of plugins with just that one of the samples."""
    shutil.copytree(EXAMPLES / plugin, folder / plugin)
    return folder


async def test_a_call_from_another_process_is_served_by_either_of_two_workers(broker: Broker, prefix: str) -> None:
    options = ("--broker", broker.url, "--prefix", prefix, "--json")
    async with worker_process(EXAMPLES, broker.url, prefix), worker_process(EXAMPLES, broker.url, prefix):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "warren.workers.cli", "call", "text_processor", "process_data"),
            *(json.dumps({"text": TEXT}), *options),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    said = json.loads(output)
    assert said["outcome"] == "ok"
    assert said["response"]["success"] is True


async def test_a_worker_killed_in_mid_run_costs_no_result(
    broker: Broker, prefix: str, tmp_path: Path, client: Client
) -> None:
    spinning_plugin(tmp_path)
    async with (
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "20") as killed,
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "20"),
    ):
        calls = [asyncio.create_task(client.call("spinner", "spin")) for _ in range(100)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await killed.kill()  # it holds 20 requests, and is in the middle of one
        results = await asyncio.gather(*calls)
    assert {result.outcome for result in results} == {OutcomeKind.OK}
    assert max(result.attempt for result in results) > 1
    assert await asyncio.to_thread(depth, broker.url, f"{prefix}.dead") == 0


async def test_sigterm_under_load_loses_nothing_and_dead_letters_nothing(
    broker: Broker, prefix: str, tmp_path: Path, client: Client
) -> None:
    spinning_plugin(tmp_path)
    async with (
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "20", "--processes", "2") as stopped,
        worker_process(tmp_path, broker.url, prefix, "--prefetch", "20"),
    ):
        calls = [asyncio.create_task(client.call("spinner", "spin")) for _ in range(150)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert await stopped.terminate() == 0
        results = await asyncio.gather(*calls)
    assert {result.outcome for result in results} == {OutcomeKind.OK}
    assert await asyncio.to_thread(depth, broker.url, f"{prefix}.dead") == 0


async def test_a_worker_process_that_is_killed_is_replaced_by_its_supervisor(
    broker: Broker, prefix: str, client: Client
) -> None:
    async with worker_process(EXAMPLES, broker.url, prefix, "--processes", "2") as supervisor:
        children = psutil.Process(supervisor.process.pid).children()
        workers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        result = await client.call("text_processor", "get_status")
        assert result.ok
        assert await supervisor.terminate() == 0


async def test_the_events_of_three_plugins_flow_across_processes_and_their_trace_is_whole(
    broker: Broker, prefix: str, tmp_path: Path, client: Client
) -> None:
    first = only("text_processor", tmp_path / "first")
    second = only("digest", only("word_stats", tmp_path / "second"))
    async with (
        worker_process(first, broker.url, prefix),
        worker_process(second, broker.url, prefix),
        client.results() as results,
        client.events("text.digest") as digests,
    ):
        called = await client.call("text_processor", "process_data", {"document": "warren", "text": TEXT})
        heard: list[Result] = []
        async for result in results:
            heard.append(result)
            if result.plugin == "digest":
                break
        digest = await anext(aiter(digests))
    assert [(result.plugin, result.outcome) for result in heard] == [("word_stats", "ok"), ("digest", "ok")]
    assert digest.payload["document"] == "warren"

    trace = Trace.merged(*(result.trace for result in (called, *heard) if result.trace))
    names = [(depth, span.name) for depth, span in trace.walk() if span.name != "send_message"]
    assert names == [
        (0, f"send {prefix}.requests"),
        (1, f"process {prefix}.plugin.text_processor"),
        (2, "run text_processor"),
        (3, f"send {prefix}.events"),
        (4, f"process {prefix}.plugin.word_stats"),
        (5, "run word_stats"),
        (6, f"send {prefix}.events"),
        (7, f"process {prefix}.plugin.digest"),
        (8, "run digest"),
        (9, f"send {prefix}.events"),
    ]


async def test_a_plugin_calls_one_that_a_worker_of_another_process_has(
    broker: Broker, prefix: str, tmp_path: Path, client: Client
) -> None:
    needs = needing("echo", requirement="^1", optional=True)
    write_plugin(tmp_path / "near", "caller", relaying("echo", data="burrow", version_req=">=1.0.0"), needs)
    write_plugin(tmp_path / "far", "echo", echoing())
    async with (
        worker_process(tmp_path / "near", broker.url, prefix),
        worker_process(tmp_path / "far", broker.url, prefix),
    ):
        results = await asyncio.gather(*(client.call("caller", "do") for _ in range(50)))
    assert all(result.result == {"ok": {"action": "do", "data": "burrow"}} for result in results)
    trace = results[0].trace
    assert trace is not None
    assert [(depth, span.name) for depth, span in trace.walk()] == [
        (0, f"send {prefix}.requests"),
        (1, f"process {prefix}.plugin.caller"),
        (2, "run caller"),
        (3, "call_plugin"),
        (4, f"send {prefix}.requests"),
        (5, f"process {prefix}.plugin.echo"),
        (6, "run echo"),
    ]
