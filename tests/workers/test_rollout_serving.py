"""Rollouts in a worker, on the memory bus, with plugins that trap, answer otherwise, or do well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.guests import answering, ask, wat, write_plugin
from warren.bus import Client, OutcomeKind, connect
from warren.plugins import EmbedderFunction, PluginManager, host_function
from warren.plugins.guest import guests
from warren.workers.metrics import SHADOW_RUNS
from warren.workers.rollout import State
from warren.workers.rollouts import RolloutStatus
from warren.workers.settings import WorkerSettings
from warren.workers.shadows import AT_ONCE
from warren.workers.worker import Worker

LIMIT_S = 20.0

#: No window to wait for: what is decided is decided by what was seen.
ROLLOUT = "[rollout]\npercent = 50\nmin_requests = 20\nwindow_s = 0.001\n"
SHADOW = ROLLOUT.replace("percent = 50", "percent = 99\nshadow = true")
ENDLESS = wat("(loop $again (br $again)) (call $answer)")
COMPUTES = '[capabilities]\nrequired = ["compute"]\n'


def write(folder: Path, version: str, wasm: bytes | None = None, extra: str = "") -> Path:
    return write_plugin(folder, "mole", wasm, extra, version=version, stem=f"mole_{version.replace('.', '_')}")


@asynccontextmanager
async def serving(
    plugins: Path, *functions: EmbedderFunction[..., Any], failures: int = 0
) -> AsyncIterator[tuple[Client, Worker]]:
    url = f"memory://{plugins.name}-{id(plugins)}"
    transport = await connect(url)
    async with (
        PluginManager(plugins, host_functions=functions) as manager,
        Client(url, timeout_s=LIMIT_S) as client,
    ):
        assert len(manager.failures) == failures
        worker = Worker(transport, manager, WorkerSettings(plugins, url, grace_s=LIMIT_S))
        await worker.start()
        yield client, worker
        await worker.drain()
    await transport.close()


def status(worker: Worker) -> RolloutStatus:
    (one,) = worker.rollouts.status()
    return one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


async def call_until(client: Client, done: Callable[[], bool]) -> list[Any]:
    """Calls, one after the other, until that is so."""
    results: list[Any] = []
    async with asyncio.timeout(LIMIT_S):
        while not done():
            results.append(await client.call("mole", "do"))
    return results


async def test_a_version_that_traps_is_rolled_back_by_itself_and_every_request_is_answered(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", wat("unreachable"), ROLLOUT)
    async with serving(tmp_path) as (client, worker), client.events("warren.rollout.#") as events:
        results = await asyncio.gather(*(client.call("mole", "do") for _ in range(200)))
        assert status(worker).state is State.ROLLED_BACK
        event = await anext(aiter(events))
        after = [await client.call("mole", "do") for _ in range(50)]
    assert {result.outcome for result in after} == {OutcomeKind.OK}
    trapped = [result for result in results if result.outcome is OutcomeKind.TRAP]
    assert {result.version for result in trapped} == {"2.0.0"}
    assert 20 <= len(trapped) < 60, "a batch may be under way when it is decided"
    assert (event.from_, event.topic) == ("warren", "warren.rollout.mole.rolled_back")
    assert event.payload["worker"] == worker.name
    assert "runs failed (trap) against 0.0 %" in event.payload["reason"]


async def test_a_good_version_is_promoted_by_itself(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", None, ROLLOUT)
    async with serving(tmp_path) as (client, worker):
        results = await call_until(client, lambda: status(worker).state is State.PROMOTED)
        assert {result.version for result in results} == {"1.0.0", "2.0.0"}
        assert {(await client.call("mole", "do")).version for _ in range(50)} == {"2.0.0"}
        assert (await client.call("mole", "do", version="^1")).version == "1.0.0"


async def test_a_version_that_refuses_what_the_old_one_did_is_rolled_back(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", None, ROLLOUT + "[actions.other]\n")
    async with serving(tmp_path) as (client, worker):
        results = await call_until(client, lambda: status(worker).state is State.ROLLED_BACK)
    assert {result.outcome for result in results} == {OutcomeKind.OK, OutcomeKind.REJECTED}


async def test_runs_that_end_after_many_slices_count_too(tmp_path: Path) -> None:
    few = "[resources]\nmax_fuel = 5000000\n"
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", ENDLESS, ROLLOUT + few)
    async with serving(tmp_path) as (client, worker):
        results = await call_until(client, lambda: status(worker).state is State.ROLLED_BACK)
    assert status(worker).new.outcomes == {"out_of_fuel": 20}
    assert {result.outcome for result in results} == {OutcomeKind.OK, OutcomeKind.OUT_OF_FUEL}


async def test_a_requests_requirement_is_respected_while_a_version_is_rolled_out(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", wat("unreachable"), ROLLOUT)
    async with serving(tmp_path) as (client, worker):
        results = [await client.call("mole", "do", version="^1") for _ in range(50)]
        assert {result.outcome for result in results} == {OutcomeKind.OK}
        assert (await client.call("mole", "do", version="^2")).version == "2.0.0"
        assert (await client.call("mole", "do", version="^3")).outcome is OutcomeKind.REJECTED
        assert status(worker).new.requests == 0


async def test_a_message_that_is_tried_again_stays_with_its_version(tmp_path: Path) -> None:
    retry = '[retry]\non = ["trap"]\nmax_attempts = 3\ninitial_delay_ms = 1\n'
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", wat("unreachable"), ROLLOUT.replace("min_requests = 20", "min_requests = 1000") + retry)
    async with serving(tmp_path) as (client, worker):
        results = await asyncio.gather(*(client.call("mole", "do") for _ in range(40)))
        trapped = status(worker).new.requests
    assert {(result.outcome, result.version, result.attempt) for result in results} == {
        (OutcomeKind.OK, "1.0.0", 1),
        (OutcomeKind.TRAP, "2.0.0", 3),
    }
    assert trapped == sum(result.outcome is OutcomeKind.TRAP for result in results), "each counts once"


async def test_a_version_that_does_not_initialise_never_starts(tmp_path: Path) -> None:
    initialize = '(func (export "initialize") (param i32 i32) (result i32) (i32.const 1))'
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", wat(more=initialize), ROLLOUT)
    async with serving(tmp_path, failures=1) as (client, worker):
        assert worker.rollouts.status() == ()
        assert (await client.call("mole", "do")).version == "1.0.0"


def sending(topic: str, answer: str) -> bytes:
    """A guest that publishes on `topic`, and answers that."""
    call, text = ask("send_message", json.dumps({"to": None, "topic": topic, "payload": 1}))
    raw = answer.encode()
    body = f"(drop {call}) (call $pack (i32.const 2048) (i32.const {len(raw)}))"
    escaped = "".join(f"\\{byte:02x}" for byte in raw)
    return wat(body, more=f'{text} (data (i32.const 2048) "{escaped}")')


async def test_a_shadow_is_compared_and_only_the_old_ones_answer_and_messages_are_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publishes = '[bus]\npublish = ["#"]\n'
    old = sending("news.old", '{"success":true,"result":{"words":5},"error":null}')
    new = sending("news.new", '{"success": true, "result": {"words": 6}, "error": null}')
    write(tmp_path, "1.0.0", old, publishes)
    write(tmp_path, "2.0.0", new, publishes + SHADOW)
    async with serving(tmp_path) as (client, worker), client.events("news.#") as events:
        results = await call_until(client, lambda: status(worker).shadow_runs["differed"] >= 30)
        heard = [await anext(aiter(events)) for _ in results]
        await client.publish("news.end")
        assert (await anext(aiter(events))).topic == "news.end", "there is nothing more"
    assert {result.version for result in results} == {"1.0.0"}
    assert {event.topic for event in heard} == {"news.old"}
    told = [record.getMessage() for record in caplog.records if "answers otherwise" in record.getMessage()]
    difference = '.result.words: 5, now 6; .messages[0].topic: "news.old", now "news.new"'
    assert told == [f"mole 2.0.0 answers otherwise than 1.0.0: {difference}"], "once, and then once a minute"
    counted = {result: count for (_, result), count in worker.metrics.snapshot()[SHADOW_RUNS.name].items()}
    assert counted == status(worker).shadow_runs
    assert counted["agreed"] == 0


async def test_a_shadow_that_agrees_waits_for_an_order(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0", answering('{"success":true,"result":{"a":1,"b":2},"error":null}'))
    write(tmp_path, "2.0.0", answering('{"error":null,"result":{"b":2.0,"a":1},"success":true}'), SHADOW)
    async with serving(tmp_path) as (client, worker):
        results = await call_until(client, lambda: status(worker).ready)
        assert {result for result, count in status(worker).shadow_runs.items() if count} == {"agreed"}
        assert {result.version for result in results} == {"1.0.0"}
        worker.rollouts.promote("mole")
        assert (await client.call("mole", "do")).version == "2.0.0"


async def test_a_shadow_that_traps_is_rolled_back_and_nobody_notices(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", wat("unreachable"), SHADOW)
    async with serving(tmp_path) as (client, worker):
        results = await call_until(client, lambda: status(worker).state is State.ROLLED_BACK)
        assert guests == {}
    assert {(result.outcome, result.version) for result in results} == {(OutcomeKind.OK, "1.0.0")}


async def test_no_more_shadows_run_than_a_few_and_a_worker_that_drains_drops_them(tmp_path: Path) -> None:
    write(tmp_path, "1.0.0")
    write(tmp_path, "2.0.0", ENDLESS, SHADOW + COMPUTES)
    async with serving(tmp_path) as (client, worker):
        results = await asyncio.gather(*(client.call("mole", "do") for _ in range(200)))
        assert len(guests) <= AT_ONCE
        assert status(worker).shadow_runs["dropped"] >= 100
        assert await worker.drain() == 0
        assert guests == {}
    assert {result.outcome for result in results} == {OutcomeKind.OK}


async def test_a_shadow_calls_no_host_function_that_may_change_something(tmp_path: Path) -> None:
    charged: list[Any] = []

    @host_function()
    def charge(amount: int, /) -> str:
        charged.append(amount)
        return "done"

    call, text = ask("charge", "1")
    write(tmp_path, "1.0.0", wat(f"(drop {call}) (call $answer)", more=text))
    write(tmp_path, "2.0.0", wat(f"(drop {call}) (call $answer)", more=text), SHADOW)
    async with serving(tmp_path, charge) as (client, worker):
        results = await call_until(client, lambda: status(worker).state is State.ROLLED_BACK)
        assert "mole called the host function 'charge', which may change something outside" in status(worker).reason
        assert status(worker).shadow_runs["not_compared"] == 1
    assert len(charged) == len(results)


async def test_a_shadow_calls_what_is_known_to_change_nothing(tmp_path: Path) -> None:
    @host_function(changes_nothing=True)
    async def look_up() -> int:
        await asyncio.sleep(0)
        return 7

    call, text = ask("look_up")
    for version, extra in (("1.0.0", ""), ("2.0.0", SHADOW)):
        write(tmp_path, version, wat(f"(drop {call}) (call $answer)", more=text), extra)
    async with serving(tmp_path, look_up) as (client, worker):
        await call_until(client, lambda: status(worker).ready)
        await until(lambda: not guests)
        assert {result for result, count in status(worker).shadow_runs.items() if count} == {"agreed"}
