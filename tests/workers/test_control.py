"""Workers of a fleet, in this process, on both transports: what they announce, answer, obey and withstand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.fleet import LIMIT_S, Member, member, until
from tests.guests import wat, write_plugin
from warren.bus import (
    DIRECT_REPLY_TO,
    MAX_CONTROL_BYTES,
    ORDERS,
    Announcement,
    Answer,
    Client,
    Drain,
    Fleet,
    Header,
    Inspect,
    ListPlugins,
    ListRollouts,
    Message,
    Names,
    Order,
    Ping,
    Problem,
    Reload,
    StepRollout,
    Transport,
    Unload,
    WorkerState,
    announcement_message,
    connect,
    control_topology,
    order_message,
    read_announcement,
)
from warren.bus.fleet import _Question
from warren.plugins import Plugin, PluginManager
from warren.workers.control import MAX_UNDER_WAY
from warren.workers.orders import COUNTERS, HANDLERS


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{token_hex(6)}"
    found: str = request.getfixturevalue("broker").url
    return found


@pytest.fixture
async def transport(url: str) -> AsyncIterator[Transport]:
    """A connection of the operator's."""
    transport = await connect(url)
    yield transport
    await transport.close()


@asynccontextmanager
async def asking(transport: Transport, prefix: str) -> AsyncIterator[Fleet]:
    async with Fleet(transport, Names(prefix)) as fleet:
        yield fleet


async def one_answer(fleet: Fleet, order: Order) -> Answer:
    heard = await fleet.ask(order, timeout_s=LIMIT_S)
    [answer] = heard.answers.values()
    return answer


async def done(fleet: Fleet, order: Order) -> dict[str, Any]:
    answer = await one_answer(fleet, order)
    assert answer.problem is None, answer.error
    assert answer.answer is not None
    return answer.answer


def test_every_order_has_a_handler() -> None:
    assert set(HANDLERS) == set(ORDERS.values())


# Questions and orders ----------------------------------------------------------------------------------------------


async def test_a_worker_tells_what_it_serves_and_what_it_has_counted(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with (
        member(tmp_path, url, prefix) as one,
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
        asking(transport, prefix) as fleet,
    ):
        for _ in range(3):
            await client.call("plain", "do")
        await client.call("broken", "do")
        pinged, listed = await done(fleet, Ping()), await done(fleet, ListPlugins())
        assert pinged.items() <= listed.items()
        assert (listed["state"], listed["orders"]) == ("serving", True)
        assert set(listed["counters"]) == set(COUNTERS)
        assert (listed["counters"]["requests"], listed["counters"]["dead_letters"]) == (4, 1)
        plugins = {plugin["name"]: plugin for plugin in listed["plugins"]}
        assert plugins["plain"]["execution_count"] == 3
        assert plugins["plain"]["fuel_p99"] > 0
        assert plugins["broken"]["failure_count"] == 1
        assert "unreachable" in plugins["broken"]["last_error"]
        await one.worker.drain()
        assert (await done(fleet, Ping()))["state"] == "draining"


async def test_all_there_is_to_know_of_a_plugin_but_the_values_of_its_settings(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain", manifest_extra='[settings]\ntoken = "secret"\n[actions.dig]\ndescription = "Digs"')
    async with member(tmp_path, url, prefix), asking(transport, prefix) as fleet:
        [version] = (await done(fleet, Inspect(plugin="plain")))["versions"]
        assert (version["version"], list(version["actions"]), version["settings"]) == ("1.0.0", ["dig"], ["token"])
        assert (version["execution_count"], version["in_flight"], version["last_error"]) == (0, 0, None)
        assert "secret" not in str(version)
        missing = await one_answer(fleet, Inspect(plugin="ghost"))
        assert (missing.problem, missing.error) == (Problem.NOT_FOUND, "no plugin 'ghost' is loaded")


async def test_a_rollout_is_begun_promoted_and_rolled_back_by_order(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    for version in ("1.0.0", "2.0.0"):
        folder = tmp_path / version
        folder.mkdir()
        write_plugin(folder, "plain", version=version)
    async with member(tmp_path, url, prefix), asking(transport, prefix) as fleet:
        assert await done(fleet, ListRollouts()) == {"rollouts": []}
        early = await one_answer(fleet, StepRollout(plugin="plain", step="promote"))
        assert (early.problem, early.error) == (Problem.FAILED, "plain: nothing is rolled out; start a rollout first")
        begun = await done(fleet, StepRollout(plugin="plain", step="start", percent=25))
        [status] = begun["rollouts"]
        assert (status["new"]["version"], status["old"]["version"], status["state"]) == ("2.0.0", "1.0.0", "canary")
        assert status["policy"]["percent"] == 25
        [status] = (await done(fleet, StepRollout(plugin="plain", step="promote")))["rollouts"]
        assert (status["state"], status["reason"]) == ("promoted", "by order")
        [status] = (await done(fleet, StepRollout(plugin="plain", step="roll_back")))["rollouts"]
        assert (status["state"], status["reason"]) == ("rolled_back", "by order")
        [same] = (await done(fleet, ListRollouts(plugin="plain")))["rollouts"]
        assert same | {"elapsed_s": 0} == status | {"elapsed_s": 0}
        missing = await one_answer(fleet, StepRollout(plugin="ghost", step="promote"))
        assert missing.problem is Problem.NOT_FOUND


async def test_a_plugin_is_reloaded_and_unloaded_by_order(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    needs = '[[plugin.dependencies]]\nname = "plain"\nversion_req = "*"\noptional = false'
    write_plugin(tmp_path, "needy", manifest_extra=needs)
    async with member(tmp_path, url, prefix) as one, asking(transport, prefix) as fleet:
        assert await done(fleet, Reload(plugin="plain")) == {"plugin": "plain", "version": "1.0.0"}
        write_plugin(tmp_path, "plain", b"no module")
        bad = await one_answer(fleet, Reload(plugin="plain"))
        assert bad.problem is Problem.FAILED
        assert "plain.wasm" in str(bad.error)
        needed = await one_answer(fleet, Unload(plugin="plain"))
        assert "is needed by needy 1.0.0" in str(needed.error)
        assert {plugin.name for plugin in one.manager.plugins()} == {"plain", "needy"}
        unloaded = await done(fleet, Unload(plugin="plain", with_dependants=True))
        assert [gone["plugin"] for gone in unloaded["unloaded"]] == ["needy", "plain"]
        assert one.manager.plugins() == ()


async def test_an_order_to_drain_has_the_process_end_and_no_other_order_does(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        member(tmp_path, url, prefix) as one,
        member(tmp_path, url, prefix) as other,
        asking(transport, prefix) as fleet,
    ):
        assert await done(fleet, Drain(worker=one.name)) == {"in_flight": 0}
        assert one.told_to_stop.is_set()
        assert not other.told_to_stop.is_set()


async def test_a_worker_that_takes_no_orders_refuses_them_and_answers_questions(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    async with member(tmp_path, url, prefix, obeys=False) as one, asking(transport, prefix) as fleet:
        for order in (
            Reload(plugin="plain"),
            Unload(plugin="plain"),
            StepRollout(plugin="plain", step="start"),
            Drain(),
        ):
            refused = await one_answer(fleet, order)
            assert refused.problem is Problem.REFUSED
            assert refused.error == "this worker answers questions and takes no orders (--no-orders)"
        assert not one.told_to_stop.is_set()
        assert (await done(fleet, Ping()))["orders"] is False
        assert len((await done(fleet, Inspect(plugin="plain")))["versions"]) == 1


async def test_orders_that_take_their_time_are_few_and_questions_are_answered_meanwhile(
    url: str, prefix: str, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "plain")
    go_on = asyncio.Event()
    begun: list[str] = []

    async def reload_slowly(manager: PluginManager, name: str, version: str | None = None) -> Plugin:
        begun.append(name)
        await go_on.wait()
        return manager.find(name, version)

    async with member(tmp_path, url, prefix) as one, asking(transport, prefix) as fleet:
        monkeypatch.setattr(PluginManager, "reload_plugin", reload_slowly)
        slow = [asyncio.create_task(one_answer(fleet, Reload(plugin="plain"))) for _ in range(MAX_UNDER_WAY)]
        await until(lambda: len(begun) == MAX_UNDER_WAY)
        busy = await one_answer(fleet, Reload(plugin="plain"))
        assert (busy.problem, len(begun)) == (Problem.BUSY, MAX_UNDER_WAY)
        assert (await done(fleet, Ping()))["state"] == "serving"
        assert one.worker.impediment() is None
        go_on.set()
        assert [(await answer).problem for answer in slow] == [None] * MAX_UNDER_WAY


async def test_an_order_that_fails_by_the_workers_fault_is_answered_and_the_next_one_obeyed(
    url: str, prefix: str, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "plain")

    async def fail(*_: Any) -> Plugin:
        raise RuntimeError("out of order")

    async with member(tmp_path, url, prefix), asking(transport, prefix) as fleet:
        with monkeypatch.context() as broken:
            broken.setattr(PluginManager, "reload_plugin", fail)
            failed = await one_answer(fleet, Reload(plugin="plain"))
            assert (failed.problem, failed.error) == (Problem.FAILED, "the worker failed: RuntimeError")
        assert (await one_answer(fleet, Reload(plugin="plain"))).problem is None


# Announcements -----------------------------------------------------------------------------------------------------


async def test_workers_know_one_another_with_their_plugins_and_miss_who_leaves(
    url: str, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "one", "plain")
    write_plugin(tmp_path / "two", "plain", version="2.0.0")
    async with member(tmp_path / "one", url, prefix, period_s=0.5) as one:
        async with member(tmp_path / "two", url, prefix, period_s=0.5) as two:
            await until(lambda: {peer.worker for peer in one.roster.peers()} == {two.name})
            await until(lambda: {peer.worker for peer in two.roster.peers()} == {one.name})
            await until(lambda: one.roster.complete and two.roster.complete)
            [peer] = one.roster.peers()
            assert peer.plugins == {"plain": ("2.0.0",)}
            assert peer.state is WorkerState.SERVING
        await until(lambda: not one.roster.peers())


async def test_what_changes_is_announced_at_once(url: str, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        member(tmp_path, url, prefix, period_s=1_000.0) as one,
        member(tmp_path, url, prefix, period_s=1_000.0) as two,
    ):
        await until(lambda: len(one.roster.peers()) == 1)
        write_plugin(tmp_path, "more")
        await two.manager.discover_and_load()
        await until(lambda: "more" in one.roster.peers()[0].plugins)
        await two.worker.drain()
        two.control.changed()
        await until(lambda: one.roster.peers()[0].state is WorkerState.DRAINING)


async def test_what_a_worker_announces_is_small_and_expires(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    heard: asyncio.Queue[Message] = asyncio.Queue()
    async with member(tmp_path, url, prefix) as one, asking(transport, prefix):
        await listen(transport, prefix, heard)
        message = await asyncio.wait_for(heard.get(), LIMIT_S)
        assert read_announcement(message).worker == one.name
        assert message.headers[Header.WORKER] == one.name
        assert message.expiration_ms == 200
        assert len(message.body) < 500


async def listen(transport: Transport, prefix: str, heard: asyncio.Queue[Message]) -> None:
    """Hear what there is on the control exchange."""
    topology = control_topology(Names(prefix), token_hex(4))
    await transport.declare(topology)
    await transport.consume(topology.queues[0].name, lambda one: heard.put_nowait(one.message), prefetch=1_000)


# What is hostile ---------------------------------------------------------------------------------------------------

HOSTILE: list[tuple[str, str | None, bytes]] = [
    ("not JSON", "warren.order", b"\xff\x00"),
    ("no object", "warren.order", b"[" * 10_000),
    ("deep", "warren.order", b'{"order":' * 10_000),
    ("unknown", "warren.order", b'{"order": "explode"}'),
    ("wrong types", "warren.order", b'{"order": "reload", "plugin": {"a": 1}}'),
    ("too long", "warren.order", b" " * (MAX_CONTROL_BYTES + 1)),
    ("another type", "something", b"{}"),
    ("no type", None, b"{}"),
    ("a huge number", "warren.order", b'{"order": "ping", "worker": ' + b"9" * 4_400 + b"}"),
]


@pytest.mark.parametrize(("type_", "body"), [pytest.param(*case, id=kind) for kind, *case in HOSTILE])
async def test_a_hostile_order_is_answered_with_what_is_wrong_and_harms_nobody(
    url: str, prefix: str, tmp_path: Path, transport: Transport, *, type_: str | None, body: bytes
) -> None:
    write_plugin(tmp_path, "plain")
    async with member(tmp_path, url, prefix) as one, asking(transport, prefix) as fleet:
        question = order_message(Names(prefix), Ping(), valid_s=LIMIT_S)
        heard = await answers_to(fleet, transport, replace(question, type=type_, body=body))
        assert heard.problem is Problem.MALFORMED
        assert heard.worker == one.name
        assert len(str(heard.error)) < 500
        assert (await done(fleet, Ping()))["state"] == "serving"


async def answers_to(fleet: Fleet, transport: Transport, message: Message) -> Answer:
    """The answer to a message that no `Fleet` would send."""
    order_id = token_hex(4)
    question = fleet._questions[order_id] = _Question(Ping())
    await transport.publish(replace(message, reply_to=DIRECT_REPLY_TO, correlation_id=order_id))
    async with asyncio.timeout(LIMIT_S):
        await question.complete()
    [answer] = question.heard.answers.values()
    return answer


async def test_fifteen_megabytes_are_no_order(url: str, prefix: str, tmp_path: Path, transport: Transport) -> None:
    write_plugin(tmp_path, "plain")
    async with member(tmp_path, url, prefix) as one, asking(transport, prefix) as fleet:
        huge = order_message(Names(prefix), Ping(), valid_s=LIMIT_S)
        answer = await answers_to(fleet, transport, replace(huge, body=b"x" * 15_000_000))
        assert "an order of 15,000,000 bytes" in str(answer.error)
        assert one.worker.impediment() is None


async def test_a_flood_of_nonsense_is_one_line_of_the_log_and_does_not_keep_requests_from_being_served(
    url: str, prefix: str, tmp_path: Path, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        member(tmp_path, url, prefix) as one,
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        nonsense = replace(order_message(Names(prefix), Ping(), valid_s=5), body=b"nonsense " * 1_000)
        await asyncio.gather(*(transport.publish(nonsense) for _ in range(2_000)))
        for _ in range(20):
            assert (await client.call("plain", "do")).ok
        assert one.worker.impediment() is None
    said = [one.getMessage() for one in caplog.records if "was not followed" in one.getMessage()]
    assert len(said) == 1
    assert "the body is not JSON" in said[0]


async def test_control_takes_a_twentieth_of_the_time_at_most(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "plain")
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(delay_s: float) -> None:
        rests.append(delay_s)
        await sleep(0)

    async with member(tmp_path, "memory://", prefix, period_s=1_000.0) as one:
        monkeypatch.setattr("warren.workers.control.asyncio.sleep", rest)
        order = replace(order_message(Names(prefix), Ping(), valid_s=5), body=b"x" * 1_000_000)
        await one.transport.publish(order)
        await until_rested(rests)
    assert rests[-1] >= 20 * 0.001  # a millisecond for having received a megabyte


async def until_rested(rests: list[float]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not rests or max(rests) < 0.02:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_forged_announcements_fill_no_memory(
    url: str, prefix: str, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren.workers.roster.MAX_BYTES", 2_000)
    write_plugin(tmp_path, "plain")
    async with member(tmp_path, url, prefix, period_s=1_000.0) as one, asking(transport, prefix) as fleet:
        real = one.control._announcement()
        for number in range(20):
            forged = Announcement.model_validate(real.model_dump() | {"worker": f"forged-{number}"})
            await transport.publish(announcement_message(Names(prefix), forged, valid_s=60))
        await done(fleet, Ping(worker=one.name))
        assert 0 < len(one.roster.peers()) < 15


async def test_a_stale_order_is_not_obeyed_and_a_stale_question_is_answered(
    url: str, prefix: str, tmp_path: Path, transport: Transport
) -> None:
    write_plugin(tmp_path, "plain")
    names = Names(prefix)
    async with member(tmp_path, url, prefix) as one, asking(transport, prefix) as fleet:
        for order, wanted in ((Drain(), Problem.REFUSED), (Ping(), None)):
            message = order_message(names, order, valid_s=5)
            assert message.timestamp_s is not None
            answer = await answers_to(fleet, transport, replace(message, timestamp_s=message.timestamp_s - 60))
            assert answer.problem is wanted
        assert not one.told_to_stop.is_set()


async def test_what_is_ordered_is_in_the_log(
    url: str, prefix: str, tmp_path: Path, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_plugin(tmp_path, "plain")
    async with member(tmp_path, url, prefix), asking(transport, prefix) as fleet:
        await done(fleet, Reload(plugin="plain"))
    assert "ordered to reload {'plugin': 'plain'}" in caplog.text


# Who has what ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_versions(url: str, prefix: str, folder: Path, **settings: Any) -> AsyncIterator[tuple[Member, Member]]:
    """Two workers that share the mailbox of `plain`: one has 1.0.0, the other 2.0.0."""
    write_plugin(folder / "one", "plain")
    write_plugin(folder / "two", "plain", version="2.0.0")
    async with (
        member(folder / "one", url, prefix, **settings) as one,
        member(folder / "two", url, prefix, **settings) as two,
    ):
        yield one, two


async def test_a_request_comes_to_the_worker_that_has_its_version(url: str, prefix: str, tmp_path: Path) -> None:
    async with (
        two_versions(url, prefix, tmp_path) as (one, two),
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        await until(lambda: one.roster.complete and two.roster.complete)
        calls = [client.call("plain", "do", version=wanted) for wanted in ("^1", "^2", "*") for _ in range(20)]
        results = await asyncio.gather(*calls)
        assert {result.outcome for result in results} == {"ok"}
        assert {result.attempt for result in results} == {1}
        assert {result.version for result in results[:20]} == {"1.0.0"}
        assert {result.version for result in results[20:40]} == {"2.0.0"}
        passed_on = sum(each.count("warren_passed_on_total", "plain") for each in (one, two))
        assert 0 < passed_on < 400


async def test_a_worker_that_has_just_started_rejects_nothing_that_a_peer_may_have(
    url: str, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "one", "plain")
    write_plugin(tmp_path / "two", "plain", version="2.0.0")
    async with (
        member(tmp_path / "one", url, prefix, period_s=1_000.0) as one,
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        call = asyncio.create_task(client.call("plain", "do", version="^2"))
        await until(lambda: one.count("warren_passed_on_total", "plain") >= 2)
        async with member(tmp_path / "two", url, prefix):
            result = await call
    assert (result.outcome, result.version, result.attempt) == ("ok", "2.0.0", 1)


async def test_a_version_that_nobody_announces_is_rejected_with_a_sentence_that_says_so(
    url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        two_versions(url, prefix, tmp_path) as (one, two),
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        await until(lambda: one.roster.complete and two.roster.complete)
        result = await client.call("plain", "do", version="^3")
        assert result.outcome == "rejected"
        assert str(result.error).endswith("; no other worker announces one that does")
        assert one.count("warren_passed_on_total", "plain") + two.count("warren_passed_on_total", "plain") == 0


async def test_a_request_is_not_passed_on_for_ever(
    url: str, prefix: str, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren.workers.passing.LATER_MS", 101)
    write_plugin(tmp_path, "plain")
    async with (
        member(tmp_path, url, prefix, period_s=0.5) as one,
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        real = one.control._announcement()
        liar = real.model_copy(update={"worker": "liar", "plugins": {"plain": ("2.0.0",)}})
        lying = asyncio.create_task(announce_again_and_again(transport, prefix, liar))
        await until(lambda: bool(one.roster.peers()))
        result = await client.call("plain", "do", version="^2")
        lying.cancel()
    assert result.outcome == "rejected"
    assert str(result.error).endswith("; it was passed on 20 times, and came to no worker that has one")


async def announce_again_and_again(transport: Transport, prefix: str, announced: Announcement) -> None:
    while True:
        await transport.publish(announcement_message(Names(prefix), announced, valid_s=60))
        await asyncio.sleep(0.2)


async def test_a_count_of_passes_that_is_none_is_rejected(url: str, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        member(tmp_path, url, prefix),
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
        client.results() as results,
    ):
        headers = {Header.VERSION: "^2", Header.PASSED_ON: "often"}
        body = b'{"action":"do","data":null}'
        transport = client._open_transport
        await transport.publish(Message(body, f"{prefix}.requests", "plain.do", message_id="1", headers=headers))
        result = await asyncio.wait_for(anext(aiter(results)), LIMIT_S)
    assert (result.outcome, result.error) == (
        "rejected",
        "the header 'warren-passed-on' must be a whole number, not 'often'",
    )
