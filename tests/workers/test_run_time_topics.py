"""Topics that plugins subscribe to while they run: who carries it out, how long it holds, and what it cannot do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.guests import needing, relaying, wat, write_plugin
from tests.workers.test_served import LIMIT_S, NAMES, Live, living
from tests.workers.test_worker import serving
from warren.bus import Binding, Header, MemoryTransport, OutcomeKind
from warren.plugins import PluginManager
from warren.workers import served
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

#: A guest whose actions `subscribe` and `unsubscribe` do that, with their data; whatever else comes it answers.
CHANGING = wat(
    """(local $name i32) (local $letter i32) (local $size i32)
    (local.set $name (i32.add (local.get $at) (i32.const 11)))
    (local.set $letter (i32.load8_u (local.get $name)))
    (local.set $size (select (i32.const 9) (i32.const 11) (i32.eq (local.get $letter) (i32.const 115))))
    (if (i32.ne (local.get $letter) (i32.const 111)) (then
      (drop (call $ask (local.get $name) (local.get $size)
        (i32.add (local.get $name) (i32.add (local.get $size) (i32.const 9)))
        (i32.sub (local.get $length) (i32.add (local.get $size) (i32.const 21)))))))
    (call $answer)"""
)
GRANTED = '[bus]\nsubscribe = ["news"]\nmay_subscribe = ["rooms.*"]\n'


async def change(live: Live, action: str, topic: str) -> OutcomeKind:
    return (await live.client.call("reader", action, {"topic": topic})).outcome


async def load(live: Live, more: str = GRANTED) -> None:
    await live.manager.load_plugin(write_plugin(live.folder, "reader", CHANGING, more))
    await live.until_settled()


async def heard(live: Live, *topics: str) -> list[str]:
    """Those of these topics that come to the mailbox."""
    await live.manager.unload_plugin("reader")
    await live.until_settled()
    return await live.topics_of("reader", *topics)


async def test_what_a_run_subscribes_to_is_heard_until_one_unsubscribes(tmp_path: Path) -> None:
    write_plugin(tmp_path, "reader", CHANGING, GRANTED)
    async with serving(tmp_path) as bus:
        for _ in range(2):
            assert (await bus.client.call("reader", "subscribe", {"topic": "rooms.1"})).ok
        await bus.client.publish("rooms.1", "hello")
        heard = await bus.result()
        assert (heard.plugin, heard.action, heard.outcome) == ("reader", "on_message", OutcomeKind.OK)
        for _ in range(2):
            assert (await bus.client.call("reader", "unsubscribe", {"topic": "rooms.1"})).ok
        await bus.client.publish("rooms.1", "nobody")
        await bus.client.publish("news", "still")
        assert (await bus.result()).action == "on_message"
        assert bus.results.empty()


@pytest.mark.parametrize("topic", ["#", "rooms.#", "secret"])
async def test_what_is_not_granted_is_denied_and_bound_to_nothing(topic: str, tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        assert await change(live, "subscribe", topic) is OutcomeKind.DENIED
        assert await heard(live, "news", "rooms.1.2", "secret") == ["news"]


async def test_it_holds_over_reloads_that_grant_it_and_while_the_plugin_is_away(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        await change(live, "subscribe", "rooms.1")
        await load(live, '[bus]\nmay_subscribe = ["rooms.#"]\n')
        await live.manager.unload_plugin("reader")
        await live.until_settled()
        await load(live)
        assert await heard(live, "news", "rooms.1", "rooms.2") == ["news", "rooms.1"]


async def test_it_ends_when_no_version_grants_it_any_more_and_does_not_come_back(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        await change(live, "subscribe", "rooms.1")
        await load(live, '[bus]\nsubscribe = ["news"]\nmay_subscribe = ["rooms.2"]\n')
        await load(live)
        assert await heard(live, "news", "rooms.1") == ["news"]


async def test_what_came_to_stand_in_the_manifest_is_not_unbound_by_a_run(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        await live.manager.load_plugin(
            write_plugin(tmp_path, "reader", None, '[bus]\nsubscribe = ["rooms.1"]\n', version="0.9.0", stem="older")
        )
        await live.until_settled()
        assert await change(live, "unsubscribe", "rooms.1") is OutcomeKind.OK
        await live.manager.unload_plugin("reader", "0.9.0")
        await live.until_settled()
        assert await heard(live, "rooms.1") == []
        await load(live, '[bus]\nsubscribe = ["rooms.1"]\n')
        assert await change(live, "unsubscribe", "rooms.1") is OutcomeKind.OK, "the guest was told that it stays"
        assert await heard(live, "rooms.1") == ["rooms.1"]


async def test_it_outlives_the_worker_and_another_one_can_end_it(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        await change(live, "subscribe", "rooms.1")
        await change(live, "subscribe", "rooms.2")
        await live.worker.drain()
        transport = MemoryTransport(live.looking._broker)
        async with PluginManager(tmp_path) as manager:
            worker = Worker(transport, manager, WorkerSettings(tmp_path, "memory://", grace_s=LIMIT_S))
            await worker.start()
            assert await change(live, "unsubscribe", "rooms.1") is OutcomeKind.OK
            await worker.drain()
        await transport.close()
        assert await live.topics_of("reader", "rooms.1", "rooms.2", "news") == ["rooms.2", "news"]


async def test_a_binding_that_outlived_its_grant_brings_a_plugin_nothing(tmp_path: Path) -> None:
    write_plugin(tmp_path, "reader", CHANGING, GRANTED)
    async with serving(tmp_path) as bus:
        await bus.transport.bind(Binding(NAMES.mailbox("reader"), NAMES.events, "secret.#"))
        await bus.client.publish("secret.plan", 1)
        letter, result = await bus.dead_letter(), await bus.result()
    assert result.outcome is OutcomeKind.REJECTED
    assert letter.headers[Header.ERROR] == (
        "no pattern in the [bus] of reader lets it hear 'secret.plan'; "
        "its mailbox is still bound to that: undo the binding"
    )
    assert json.loads(letter.body)["payload"] == 1


async def test_while_the_broker_is_away_the_request_goes_back_and_then_it_is_done(tmp_path: Path) -> None:
    async with living(tmp_path) as live:
        await load(live)
        live.transport.is_away = True
        call = asyncio.create_task(change(live, "subscribe", "rooms.1"))
        await live.until(lambda: live.worker.metrics.given_back > 0)
        live.transport.is_away = False
        assert await call is OutcomeKind.OK
        assert await heard(live, "rooms.1") == ["rooms.1"]


async def test_a_plugin_that_would_fill_the_broker_with_bindings_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MAX_RUN_TIME_TOPICS", 2)
    async with living(tmp_path) as live:
        await load(live)
        for topic in ("rooms.1", "rooms.2", "rooms.1"):
            assert await change(live, "subscribe", topic) is OutcomeKind.OK
        refused = await live.client.call("reader", "subscribe", {"topic": "rooms.3"})
        assert (refused.outcome, refused.error) == (
            OutcomeKind.OUTPUT_TOO_LARGE,
            "reader may subscribe to 2 patterns at run time, and no more; it has to unsubscribe",
        )
        assert await change(live, "unsubscribe", "rooms.1") is OutcomeKind.OK
        assert await change(live, "subscribe", "rooms.4") is OutcomeKind.OK
        assert await heard(live, "rooms.1", "rooms.2", "rooms.3", "rooms.4") == ["rooms.2", "rooms.4"]


async def test_what_a_called_plugin_subscribes_to_comes_to_its_own_mailbox(tmp_path: Path) -> None:
    write_plugin(tmp_path, "reader", CHANGING, GRANTED)
    call = relaying("reader", action="subscribe", data={"topic": "rooms.1"})
    write_plugin(tmp_path, "caller", call, needing("reader"))
    async with serving(tmp_path) as bus:
        await bus.client.call("caller", "do")
        await bus.client.publish("rooms.1")
        assert (await bus.result()).plugin == "reader"
