"""The commands for a fleet, with three real worker processes: what an operator sees, and what becomes of orders."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.broker import Broker
from tests.guests import wat, write_plugin
from tests.worker_process import WorkerProcess, worker_process
from tests.workers.cli.commands import COMMAND, EXAMPLES, Ended
from warren.bus import Client
from warren.workers.cli.exit_codes import ExitCode

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

LIMIT_S = 60.0

ROOT = Path(__file__).parents[2]


class Operator:
    """Whoever has the commands, and one installation to use them on."""

    def __init__(self, url: str, prefix: str) -> None:
        self._environment = os.environ | {"WARREN_BROKER": url, "WARREN_PREFIX": prefix, "COLUMNS": "100"}

    async def run(self, *arguments: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def workers(self) -> dict[str, dict[str, Any]]:
        """All workers, by name."""
        listed = await self.run("ps", "--json")
        return {worker["worker"]: worker for worker in listed.json["workers"]}

    async def until_there_are(self, number: int) -> dict[str, dict[str, Any]]:
        """Return once as many are there: they need not all begin to serve at once."""
        async with asyncio.timeout(LIMIT_S):
            while len(workers := await self.workers()) != number:
                pass
        return workers


@pytest.fixture
def operator(broker: Broker, prefix: str) -> Operator:
    return Operator(broker.url, prefix)


@asynccontextmanager
async def three(plugins: Path, broker: Broker, prefix: str) -> AsyncIterator[tuple[WorkerProcess, WorkerProcess]]:
    """A worker of two processes, and another one."""
    async with (
        worker_process(plugins, broker.url, prefix, "--processes", "2") as pair,
        worker_process(plugins, broker.url, prefix) as single,
    ):
        yield pair, single


async def test_three_workers_are_listed_inspected_and_given_orders(
    broker: Broker, prefix: str, operator: Operator, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain", manifest_extra='description = "Answers"\n[actions.dig]')
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with three(tmp_path, broker, prefix) as (pair, single):
        workers = await operator.until_there_are(3)
        async with Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client:
            for _ in range(10):
                await client.call("plain", "dig")
            await client.call("broken", "do")

        began = time.monotonic()
        listed = await operator.run("ps", "--json")
        assert time.monotonic() - began < 10  # with the interpreter's start, on a busy machine
        assert (listed.code, listed.err) == (ExitCode.OK, "")
        assert {worker["state"] for worker in listed.json["workers"]} == {"serving"}
        assert sum(worker["counters"]["requests"] for worker in listed.json["workers"]) == 11
        assert (listed.json["silent"], listed.json["problems"]) == ([], [])
        assert listed.json["queues"] == {"broken": 0, "plain": 0}
        assert listed.json["dead_letters"] == 1

        for command in (("ps",), ("top", "--once", "--every", "0.1")):
            shown = await operator.run(*command)
            assert shown.code == ExitCode.OK
            assert "3 workers" in shown.out
            assert all(name in shown.out for name in workers)
            assert "\x1b" not in shown.out

        inspected = await operator.run("inspect", "plain", "--json")
        assert inspected.code == ExitCode.OK
        assert {answer["worker"] for answer in inspected.json["answers"]} == set(workers)
        assert sum(answer["versions"][0]["execution_count"] for answer in inspected.json["answers"]) == 10
        assert "Answers" in (await operator.run("inspect", "plain")).out
        missing = await operator.run("inspect", "ghost")
        assert missing.code == ExitCode.FAILED
        assert missing.err.count("no plugin 'ghost' is loaded") == 3

        reloaded = await operator.run("reload", "plain")
        assert reloaded.code == ExitCode.OK
        assert sorted(line.split()[0] for line in reloaded.out.splitlines()) == sorted(workers)
        assert reloaded.out.count("reloaded plain 1.0.0") == 3
        one = min(workers)
        unloaded = await operator.run("unload", "broken", "--worker", one, "--json")
        assert unloaded.json["answers"] == [{"worker": one, "unloaded": [{"plugin": "broken", "version": "1.0.0"}]}]
        again = await operator.run("unload", "broken")
        assert again.code == ExitCode.OK  # the others had it
        assert again.out.count("unloaded broken 1.0.0") == 2

        await drained(operator, pair, single, workers)


async def drained(
    operator: Operator, pair: WorkerProcess, single: WorkerProcess, workers: dict[str, dict[str, Any]]
) -> None:
    """Drain them one after the other: the first of two processes is not replaced, and the last one's parent ends."""
    alone = next(name for name, worker in workers.items() if worker["pid"] == single.process.pid)
    first, second = (name for name in workers if name != alone)
    assert (await operator.run("drain", first)).code == ExitCode.OK
    assert set(await operator.until_there_are(2)) == {second, alone}
    which = await operator.run("drain")
    assert (which.code, which.err.splitlines()[0]) == (ExitCode.USAGE, "error: which worker?")
    everybody = await operator.run("drain", "--all")
    assert (everybody.code, everybody.err) == (ExitCode.OK, "")
    for worker in (pair, single):
        assert await asyncio.wait_for(worker.process.wait(), LIMIT_S) == 0
        await worker.until_read()
        assert "Traceback" not in worker.said
    assert "was drained by order; no other one starts in its place" in pair.said
    assert "another one starts" not in pair.said
    nobody = await operator.run("ps")
    assert nobody.code == ExitCode.USAGE
    assert nobody.err.startswith("error: no worker answers on this broker under the prefix ")


async def test_a_frozen_worker_is_named_and_obeys_no_stale_order_when_it_goes_on(
    broker: Broker, prefix: str, operator: Operator, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with three(tmp_path, broker, prefix) as (_, single):
        workers = await operator.until_there_are(3)
        frozen = next(name for name, worker in workers.items() if worker["pid"] == single.process.pid)
        single.process.send_signal(signal.SIGSTOP)
        try:
            told = await operator.run("drain", frozen, "--timeout", "1")
            assert told.code == ExitCode.TIMED_OUT
            listed = await operator.run("ps", "--timeout", "1", "--json")
            assert (listed.code, listed.json["silent"]) == (ExitCode.TIMED_OUT, [frozen])
            assert len(listed.json["workers"]) == 2
            shown = await operator.run("ps", "--timeout", "1")
            assert f"{frozen}: no answer within 1 s" in shown.err
            assert "silent" in shown.out
            reloaded = await operator.run("reload", "plain", "--timeout", "1", "--json")
            assert (reloaded.code, len(reloaded.json["answers"])) == (ExitCode.TIMED_OUT, 2)
            await asyncio.sleep(4)  # it is time itself that makes orders stale: a second, and what clocks may differ by
        finally:
            single.process.send_signal(signal.SIGCONT)
        assert set(await operator.until_there_are(3)) == set(workers)
        listed = await operator.run("ps", "--json")
        assert {worker["plugins"][0]["load_count"] for worker in listed.json["workers"]} == {1, 2}
    assert single.process.returncode is not None
    assert "the order came too late" in single.said
    assert "stopping" not in single.said


async def test_a_worker_told_to_take_no_orders_refuses_them(
    broker: Broker, prefix: str, operator: Operator, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix, environment={"WARREN_ORDERS": "0"}) as worker:
        refused = await operator.run("drain", "--all", "--json")
        assert refused.code == ExitCode.FAILED
        assert [one["problem"] for one in refused.json["problems"]] == ["refused"]
        [[name, told]] = (await operator.workers()).items()
        assert (told["orders"], name in refused.err) == (False, True)
        assert await worker.terminate() == 0


async def test_after_a_restart_of_the_broker_the_workers_hear_and_answer_again(
    broker: Broker, prefix: str, operator: Operator, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with three(tmp_path, broker, prefix):
        before = await operator.until_there_are(3)
        await broker.restart()
        assert set(await operator.until_there_are(3)) == set(before)
        assert (await operator.run("reload", "plain")).out.count("reloaded plain 1.0.0") == 3


async def test_the_commands_of_the_readme_run_as_printed(broker: Broker, prefix: str, operator: Operator) -> None:
    section = (ROOT / "README.md").read_text().partition("### The fleet")[2]
    commands = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert commands[0] == "warren ps"
    async with worker_process(EXAMPLES, broker.url, prefix) as worker:
        for command in commands:
            _, *arguments = command.split()
            ran = await operator.run(*arguments, *(["--once"] if arguments == ["top"] else []))
            assert (ran.code, ran.err) == (ExitCode.OK, ""), command
        assert await asyncio.wait_for(worker.process.wait(), LIMIT_S) == 0  # the last one drains


async def test_the_program_of_the_page_on_orders_runs_as_printed(broker: Broker) -> None:
    program = (ROOT / "bus" / "CONTROL.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert "amqp://guest:guest@localhost" in program
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program.replace("amqp://guest:guest@localhost", broker.url)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"[")


async def test_top_ends_with_q_on_a_terminal(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with worker_process(tmp_path, broker.url, prefix):
        ours, theirs = os.openpty()
        environment = os.environ | {"WARREN_BROKER": broker.url, "WARREN_PREFIX": prefix, "TERM": "xterm-256color"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "warren.workers.cli", "top", "--every", "0.2",
            env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        shown = await asyncio.to_thread(read_until, ours, b"q ends it")
        os.write(ours, b"q")
        rest = asyncio.create_task(asyncio.to_thread(read_until, ours, b"\x1b[?1049l"))
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
        await rest
        os.close(ours)
    assert b"1 worker" in shown
    assert b"plain" in shown


def read_until(terminal: int, end: bytes) -> bytes:
    """What the terminal shows, up to there."""
    shown = b""
    while end not in shown:
        shown += os.read(terminal, 4096)
    return shown
