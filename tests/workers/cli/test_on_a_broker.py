"""The commands with a real RabbitMQ and a real worker between them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.fleet import until
from tests.worker_process import worker_process
from tests.workers.cli.commands import COMMAND, EXAMPLES, LIMIT_S, Ended
from warren.workers.cli.exit_codes import ExitCode

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

TEXT = json.dumps({"document": "burrows", "text": "Rabbits dig burrows. Foxes wait."})


class Bus:
    """The commands, with the options that lead them to one broker and one installation on it."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.environment = os.environ | {"WARREN_BROKER": broker.url, "WARREN_PREFIX": prefix}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, env=self.environment, stdout=pipe, stderr=pipe
        )

    async def run(self, *arguments: str) -> Ended:
        return await ended(await self.start(*arguments))

    @asynccontextmanager
    async def listening(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A `warren listen` that is listening."""
        process = await self.start("listen", *arguments)
        try:
            assert process.stderr is not None
            ready = await asyncio.wait_for(process.stderr.readline(), LIMIT_S)
            assert ready.startswith(b"listening to "), ready
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def ended(process: asyncio.subprocess.Process) -> Ended:
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def bus(broker: Broker, prefix: str) -> Bus:
    return Bus(broker, prefix)


async def test_a_call_is_served_by_a_worker_elsewhere(bus: Bus, broker: Broker, prefix: str) -> None:
    async with worker_process(EXAMPLES, broker.url, prefix):
        called = await bus.run("call", "text_processor", "process_data", TEXT, "--json")
        assert (called.code, called.err) == (ExitCode.OK, "")
        assert called.json["response"]["result"]["document"] == "burrows"
        assert f"process {prefix}.plugin.text_processor" in {span["name"] for span in called.json["trace"]["spans"]}
        refused = await bus.run("call", "text_processor", "nothing")
        assert refused.code == ExitCode.BAD_OUTCOME
        assert "unknown action 'nothing'" in refused.err


async def test_events_and_results_are_heard_as_json_lines_until_the_count_is_reached(
    bus: Bus, broker: Broker, prefix: str
) -> None:
    async with (
        worker_process(EXAMPLES, broker.url, prefix),
        bus.listening("text.digest", "--count", "1", "--json") as events,
        bus.listening("*.on_message.ok", "--results", "--count", "2", "--json") as results,
    ):
        await bus.run("call", "text_processor", "process_data", TEXT)
        heard, served = await asyncio.gather(ended(events), ended(results))
    assert (heard.code, served.code) == (ExitCode.OK, ExitCode.OK)
    assert (heard.json["topic"], heard.json["from"], heard.json["to"]) == ("text.digest", "digest", None)
    assert heard.json["payload"]["document"] == "burrows"
    lines = [json.loads(line) for line in served.out.splitlines()]
    assert {line["plugin"] for line in lines} == {"word_stats", "digest"}
    assert len({line["trace"]["trace_id"] for line in lines} | {heard.json["trace_id"]}) == 1


async def test_what_is_published_is_heard_and_cannot_act_on_the_terminal(bus: Bus) -> None:
    async with bus.listening("fox.#", "--count", "1") as listener:
        published = await bus.run("publish", "fox.seen", '"\\u001b[31mred [bold]fox"', "--json")
        heard = await ended(listener)
    assert published.code == ExitCode.OK
    assert (published.json["topic"], published.json["to"]) == ("fox.seen", None)
    assert heard.out.endswith('fox.seen from client "\\u001b[31mred [bold]fox"\n')


async def test_a_listener_in_the_background_listens_once_the_command_is_over(bus: Bus, tmp_path: Path) -> None:
    command = shlex.join([*COMMAND, "listen", "fox.#", "--count", "1", "--timeout", "60", "--background"])
    heard = tmp_path / "heard"
    shell = await asyncio.create_subprocess_shell(f"{command} > {heard} 2>&1", env=bus.environment)
    assert await asyncio.wait_for(shell.wait(), LIMIT_S) == ExitCode.OK
    await bus.run("publish", "fox.seen", '"red"')
    await until(lambda: "fox.seen" in heard.read_text())
    note, event = heard.read_text().splitlines()
    assert re.fullmatch("listening to events, fox.#; kill [0-9]+ ends it", note)
    assert event.endswith('fox.seen from client "red"')


async def test_a_listener_in_the_background_that_cannot_listen_says_so_at_once(bus: Bus) -> None:
    refused = await bus.run("listen", "fox*", "--background")
    assert refused.code == ExitCode.USAGE
    assert refused.err.count("error: ") == 1


async def test_a_message_for_one_plugin_wakes_it(bus: Bus, broker: Broker, prefix: str) -> None:
    async with (
        worker_process(EXAMPLES, broker.url, prefix),
        bus.listening("digest.#", "--results", "--count", "1") as results,
    ):
        sent = await bus.run("publish", "text.stats", '{"words": 4, "sentences": 2}', "--to", "digest")
        assert sent.out.startswith("published text.stats to digest ")
        served = await ended(results)
    assert served.out.startswith("on_message digest 1.0.0 · ok · ")
    assert "4 words in 2 sentences" in served.out


async def test_a_message_for_a_plugin_that_nobody_serves_fails_with_a_sentence(bus: Bus) -> None:
    sent = await bus.run("publish", "text.stats", "1", "--to", "nobody")
    assert sent.code == ExitCode.FAILED
    assert sent.err.startswith("error: no worker has ever served the plugin 'nobody'")


@pytest.mark.parametrize(
    "arguments", [("publish", "fox.*", "1"), ("publish", "a.b", "1", "--to", "No Body"), ("listen", "fox*")]
)
async def test_topics_and_names_that_are_none_are_wrong_usage(bus: Bus, arguments: tuple[str, ...]) -> None:
    asked = await bus.run(*arguments)
    assert asked.code == ExitCode.USAGE
    assert asked.err.startswith("error: ")
    assert "Traceback" not in asked.err


async def test_a_listener_that_is_interrupted_has_done_well(bus: Bus) -> None:
    async with bus.listening("#") as listener:
        listener.send_signal(signal.SIGINT)
        stopped = await ended(listener)
    assert (stopped.code, stopped.out, stopped.err) == (ExitCode.OK, "", "")


@pytest.mark.parametrize(("options", "code"), [((), ExitCode.OK), (("--count", "1"), ExitCode.TIMED_OUT)])
async def test_a_listener_ends_when_its_time_is_over(bus: Bus, options: tuple[str, ...], code: ExitCode) -> None:
    silent = await bus.run("listen", "#", "--timeout", "0.2", *options)
    assert (silent.code, silent.out) == (code, "")


async def test_a_call_that_nobody_serves_in_time_ends_with_5(bus: Bus) -> None:
    called = await bus.run("call", "text_processor", "process_data", TEXT, "--timeout", "5")
    assert called.code == ExitCode.TIMED_OUT
    assert called.err.startswith("error: no result from text_processor.process_data within 5 s")


async def test_a_worker_logs_json_lines_on_stderr_and_drains_when_told_to_stop(broker: Broker, prefix: str) -> None:
    async with worker_process(EXAMPLES, broker.url, prefix, "--json") as worker:
        assert await worker.terminate() == ExitCode.OK
    lines = [json.loads(line) for line in worker.lines]
    assert {line["level"] for line in lines} == {"info"}
    assert any("serving digest 1.0.0" in line["message"] for line in lines)
