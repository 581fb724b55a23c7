"""Who is told of what plugins did with their powers: whose it was, once each, and however the run ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.guests import ask, calling, needing, wat, write_plugin
from warren.manifests import Policy
from warren.plugins import AuditRecord, HostRun, PluginManager, host_function

REQUEST = b'{"action":"do","data":null}'


@host_function(needs="network")
async def fetch(run: HostRun, url: str) -> None:
    if not url.startswith("https:"):
        run.refuse(url, "it is not encrypted")


def fetching(url: str) -> bytes:
    body, segment = ask("fetch", f'{{"url":"{url}"}}')
    return wat(f"(drop {body}) (call $answer)", more=segment)


ONLINE = '[capabilities]\nrequired = ["network"]\n'
ALLOWED = Policy(frozenset({"network"}))


def told(records: list[AuditRecord]) -> list[tuple[str, str, str, str, str | None]]:
    return [(one.plugin, one.version, one.event.power, one.event.asked, one.event.refusal) for one in records]


async def test_a_use_and_a_refusal_are_told_by_name_and_version(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "open", fetching("http://a"), ONLINE, version="1.2.3")
    async with PluginManager(tmp_path, policy=ALLOWED, host_functions=[fetch], on_audit=records.append) as manager:
        outcome = await manager.find("open").run(REQUEST)
    assert told(records) == [
        ("open", "1.2.3", "network", "fetch", None),
        ("open", "1.2.3", "fetch", "http://a", "it is not encrypted"),
    ]
    assert tuple(one.event for one in records) == outcome.audit


async def test_what_a_called_plugin_did_is_told_once_and_as_its_own(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "helper", fetching("https://a"), ONLINE, version="2.0.0")
    write_plugin(tmp_path, "caller", calling("helper"), needing("helper"))
    async with PluginManager(tmp_path, policy=ALLOWED, host_functions=[fetch], on_audit=records.append) as manager:
        outcome = await manager.find("caller").run(REQUEST)
    assert told(records) == [
        ("helper", "2.0.0", "network", "fetch", None),
        ("caller", "1.0.0", "call_plugin", "helper", None),
    ]
    assert [(one.plugin, one.power) for one in outcome.audit] == [(None, "call_plugin"), ("helper", "network")]


async def test_a_call_that_was_not_declared_is_told(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "helper")
    write_plugin(tmp_path, "caller", calling("helper"))
    async with PluginManager(tmp_path, on_audit=records.append) as manager:
        assert (await manager.find("caller").run(REQUEST)).kind == "denied"
    [(*who, reason)] = told(records)
    assert who == ["caller", "1.0.0", "call_plugin", "helper"]
    assert reason == "the plugin may not call 'helper': it is none of its [[plugin.dependencies]]"


async def test_a_call_that_is_too_deep_is_told(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "helper")
    write_plugin(tmp_path, "caller", calling("helper"), needing("helper"))
    async with PluginManager(tmp_path, call_depth=2, on_audit=records.append) as manager:
        await manager.find("caller").run(REQUEST, depth=2)
    assert told(records) == [("caller", "1.0.0", "call_plugin", "helper", "the call comes through 3 plugins already")]


async def test_a_topic_that_may_not_be_published_on_is_told(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    body, segment = ask("send_message", '{"topic":"secret.x"}')
    write_plugin(tmp_path, "talker", wat(f"(drop {body}) (call $answer)", more=segment))
    async with PluginManager(tmp_path, on_audit=records.append) as manager:
        assert (await manager.find("talker").run(REQUEST)).kind == "denied"
    [(_, _, power, asked, _)] = told(records)
    assert (power, asked) == ("publish", "secret.x")


@pytest.mark.parametrize(
    "body",
    ["(call $say (i32.const 131070) (i32.const 3)) (call $answer)", "(call $pack (i32.const -1) (i32.const 5))"],
    ids=["of a log line", "of an answer"],
)
async def test_a_range_outside_the_memory_is_critical(body: str, tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "breaker", wat(body))
    async with PluginManager(tmp_path, on_audit=records.append) as manager:
        assert (await manager.find("breaker").run(REQUEST)).kind == "trap"
    [record] = records
    assert (record.event.severity, record.event.power) == ("critical", "memory")
    assert record.event.asked.endswith("of 131,072")


async def test_a_run_that_is_given_up_is_told_as_well(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    waiting = asyncio.Event()

    @host_function(needs="network", name="fetch")
    async def hang(url: str) -> None:
        waiting.set()
        await asyncio.Event().wait()

    write_plugin(tmp_path, "open", fetching("https://a"), ONLINE)
    async with PluginManager(tmp_path, policy=ALLOWED, host_functions=[hang], on_audit=records.append) as manager:
        run = asyncio.create_task(manager.find("open").run(REQUEST))
        await waiting.wait()
        run.cancel()
        await asyncio.wait([run])
    assert told(records) == [("open", "1.0.0", "network", "fetch", None)]


async def test_what_is_refused_while_a_plugin_loads_is_told(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    body, segment = ask("send_message", '{"topic":"secret.x"}')
    health = f'(func (export "health_check") (result i32) (drop {body}) (i32.const 1))'
    write_plugin(tmp_path, "early", wat(more=segment + health))
    async with PluginManager(tmp_path, on_audit=records.append) as manager:
        assert len(manager.failures) == 1
    assert [one.event.asked for one in records] == ["secret.x"]


async def test_a_listener_that_fails_is_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_record: AuditRecord) -> None:
        raise RuntimeError("the disk is full")

    records: list[AuditRecord] = []
    write_plugin(tmp_path, "open", fetching("https://a"), ONLINE)
    async with PluginManager(tmp_path, policy=ALLOWED, host_functions=[fetch], on_audit=fail) as manager:
        end = manager.observe_audit(records.append)
        assert (await manager.find("open").run(REQUEST)).kind == "ok"
        assert len(records) == 1
        end()
        await manager.find("open").run(REQUEST)
    assert len(records) == 1
    assert "an observer failed at AuditRecord" in caplog.text


async def test_a_run_without_events_tells_nothing(tmp_path: Path) -> None:
    records: list[AuditRecord] = []
    write_plugin(tmp_path, "plain")
    async with PluginManager(tmp_path, on_audit=records.append) as manager:
        assert (await manager.find("plain").run(REQUEST)).audit == ()
    assert records == []
