"""Plugins that keep something, from the files on disk to the storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.guests import asking, wat, write_plugin
from tests.plugins.storage.test_sqlite import locked
from tests.redis_server import RedisServer
from warren.manifests import Limits, Policy
from warren.plugins import HostUnavailable, LoadFailed, NotForShadows, PluginManager, SecurityViolation

ASKS = '[capabilities]\nrequired = ["storage"]\n'
HOPES = '[capabilities]\noptional = ["storage"]\n'
POLICY = Policy(capabilities=frozenset({"storage"}))


def keeping(function: str, **arguments: Any) -> bytes:
    return asking(f"storage_{function}", arguments)


async def test_what_one_version_keeps_every_later_run_of_every_version_finds(
    url: str, plugin: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, plugin, keeping("set", key="a", value=[1, "ä"]), ASKS, version="1.0.0", stem="one")
    write_plugin(tmp_path, plugin, keeping("get", key="a"), ASKS, version="2.0.0", stem="two")
    write_plugin(tmp_path, f"{plugin}x", keeping("get", key="a"), ASKS)
    for _ in range(2):
        async with PluginManager(tmp_path, policy=POLICY, storage=url) as manager:
            assert not manager.failures
            assert await manager.execute_plugin(plugin, "do", requirement="^1") == {"ok": None}
            assert await manager.execute_plugin(plugin, "do", requirement="^2") == {"ok": {"value": [1, "ä"]}}
            assert await manager.execute_plugin(f"{plugin}x", "do") == {"ok": None}
    async with PluginManager(tmp_path, policy=POLICY, storage=url) as manager:
        outcome = await manager.find(plugin).run(b'{"action":"do"}')
        assert [(call.name, call.error) for call in outcome.host_calls] == [("storage_get", None)]
        assert [(event.power, event.asked, event.refusal) for event in outcome.audit] == [("storage", "get a", None)]


async def test_a_plugin_without_the_capability_is_denied(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", keeping("get", key="users/1"), HOPES)
    async with PluginManager(tmp_path, storage=f"sqlite://{tmp_path}/storage.db") as manager:
        with pytest.raises(SecurityViolation, match="the capability 'storage' is not granted to it") as caught:
            await manager.execute_plugin("a", "do")
        [event] = caught.value.outcome.audit
        assert (event.severity, event.power, event.asked) == ("warning", "storage", "get users/1")
    assert not (tmp_path / "storage.db").exists(), "nobody may use it"


async def test_the_quota_is_the_grant_s(url: str, plugin: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, plugin, keeping("set", key="a", value="x" * 500), ASKS)
    policy = Policy(capabilities=frozenset({"storage"}), limits=Limits(storage_bytes=500))
    async with PluginManager(tmp_path, policy=policy, storage=url) as manager:
        answer = await manager.execute_plugin(plugin, "do")
        assert answer["error"]["code"] == "quota_exceeded"


async def test_a_write_is_done_at_once_whatever_becomes_of_the_run(url: str, plugin: str, tmp_path: Path) -> None:
    body = json.dumps({"key": "a", "value": 1}).encode()
    call = f"(drop (call $ask (i32.const 1024) (i32.const 11) (i32.const 1035) (i32.const {len(body)}))) unreachable"
    text = "".join(f"\\{byte:02x}" for byte in b"storage_set" + body)
    breaking = wat(call, more=f'(data (i32.const 1024) "{text}")')
    write_plugin(tmp_path, plugin, breaking, ASKS, version="1.0.0", stem="one")
    write_plugin(tmp_path, plugin, keeping("get", key="a"), ASKS, version="2.0.0", stem="two")
    async with PluginManager(tmp_path, policy=POLICY, storage=url) as manager:
        assert (await manager.find(plugin, "^1").run(b"{}")).kind == "trap"
        assert await manager.execute_plugin(plugin, "do") == {"ok": {"value": 1}}


async def test_a_shadow_reads_and_does_not_write(tmp_path: Path) -> None:
    write_plugin(tmp_path, "writes", keeping("set", key="a", value=1), ASKS)
    write_plugin(tmp_path, "reads", keeping("get", key="a"), ASKS)
    async with PluginManager(tmp_path, policy=POLICY, storage=f"sqlite://{tmp_path}/storage.db") as manager:
        assert (await manager.find("reads").run(b"{}", shadow=True)).kind == "ok"
        with pytest.raises(NotForShadows, match="'storage_set', which may change something"):
            await manager.find("writes").run(b"{}", shadow=True)


async def test_a_storage_that_another_process_has_locked_is_unavailable_within_the_run_s_time(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", keeping("set", key="a", value=1), ASKS)
    async with PluginManager(tmp_path, policy=POLICY, storage=f"sqlite://{tmp_path}/storage.db") as manager:
        with locked(tmp_path / "storage.db"), pytest.raises(HostUnavailable, match="cannot be had just now"):
            await manager.execute_plugin("a", "do", timeout_s=1.0)
        assert await manager.execute_plugin("a", "do") == {"ok": None}


@pytest.mark.redis
async def test_while_redis_is_away_plugins_load_and_their_runs_are_unavailable(
    redis_server: RedisServer, plugin: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, plugin, keeping("set", key="a", value=1), ASKS)
    redis_server.stop()
    try:
        async with PluginManager(tmp_path, policy=POLICY, storage=redis_server.url) as manager:
            with pytest.raises(HostUnavailable, match="cannot be had just now"):
                await manager.execute_plugin(plugin, "do")
            redis_server.start()
            assert await manager.execute_plugin(plugin, "do") == {"ok": None}
    finally:
        redis_server.start()


async def test_a_storage_that_cannot_be_opened_keeps_out_the_plugins_that_may_use_it_alone(tmp_path: Path) -> None:
    write_plugin(tmp_path, "keeps", keeping("get", key="a"), ASKS)
    write_plugin(tmp_path, "plain")
    (tmp_path / "storage.db").write_text("no database, by far no database")
    async with PluginManager(tmp_path, policy=POLICY, storage=f"sqlite://{tmp_path}/storage.db") as manager:
        assert [one.name for one in manager.plugins()] == ["plain"]
        [failure] = manager.failures
        assert isinstance(failure, LoadFailed)
        assert failure.may_pass
        assert str(failure).startswith(f"{tmp_path}/keeps.toml: the storage {tmp_path}/storage.db is damaged (")
        (tmp_path / "storage.db").unlink()
        await manager.discover_and_load()
        assert [one.name for one in manager.plugins()] == ["plain", "keeps"]


async def test_the_default_is_opened_for_the_first_plugin_that_may_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WARREN_STORAGE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with PluginManager(policy=POLICY) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "plain"))
        assert not (tmp_path / "state").exists()
        await manager.load_plugin(write_plugin(tmp_path, "keeps", keeping("set", key="a", value=1), ASKS))
        assert (tmp_path / "state" / "warren" / "storage.db").exists()
        assert await manager.execute_plugin("keeps", "do") == {"ok": None}
