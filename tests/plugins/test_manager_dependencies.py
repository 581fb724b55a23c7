"""Plugins that need one another: none is loaded without what it needs, and none loses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests import write_plugin
from warren.manifests import DependencyMissing, InvalidValue, NoVersionMatches, VersionReq
from warren.plugins import (
    LifecycleEvent,
    LoadFailed,
    PluginLoaded,
    PluginManager,
    PluginNotFound,
    PluginRefused,
    PluginUnloaded,
    StillNeeded,
)


def needs(name: str, requirement: str, *, optional: bool = False) -> str:
    flag = str(optional).lower()
    return f'[[plugin.dependencies]]\nname = "{name}"\nversion_req = "{requirement}"\noptional = {flag}\n'


def names(manager: PluginManager) -> list[str]:
    return [f"{info.name} {info.version}" for info in manager.list_plugins()]


def chain(folder: Path) -> None:
    """`a` needs `b`, and `b` needs `c`."""
    write_plugin(folder, "a", manifest_extra=needs("b", "1"))
    write_plugin(folder, "b", manifest_extra=needs("c", "1.2"))
    write_plugin(folder, "c", version="1.2.0")


async def test_a_folder_is_loaded_in_the_order_of_needs(tmp_path: Path) -> None:
    chain(tmp_path)
    async with PluginManager() as manager:
        manager.directory = tmp_path
        assert [plugin.name for plugin in await manager.discover_and_load()] == ["c", "b", "a"]


async def test_what_lacks_what_it_needs_is_refused_with_the_reason_at_the_end_of_the_chain(tmp_path: Path) -> None:
    chain(tmp_path)
    write_plugin(tmp_path, "c", version="1.1.0")
    write_plugin(tmp_path, "choosy", manifest_extra=needs("missing", "1", optional=True))
    async with PluginManager(tmp_path) as manager:
        assert names(manager) == ["c 1.1.0", "choosy 1.0.0"]
        sentence = "b 1.0.0 needs c ^1.2; available: 1.1.0"
        assert list(map(str, manager.failures)) == [f"{tmp_path / stem}.toml: {sentence}" for stem in ("a", "b")]
        write_plugin(tmp_path, "c", version="1.3.0")
        assert [plugin.name for plugin in await manager.discover_and_load()] == ["c", "b", "a"]
        assert manager.failures == ()


async def test_what_needs_a_plugin_that_is_bad_is_refused_with_it(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", manifest_extra=needs("b", "1"))
    write_plugin(tmp_path, "b", b"no")
    async with PluginManager(tmp_path) as manager:
        assert names(manager) == []
        assert "a.toml: a 1.0.0 needs b ^1, but there is no plugin b" in str(manager.failures[0])


async def test_what_needs_a_plugin_that_found_no_place_is_not_loaded_without_it(tmp_path: Path) -> None:
    chain(tmp_path)
    async with PluginManager(tmp_path, max_plugins=1) as manager:
        assert names(manager) == ["c 1.2.0"]
        assert len(manager.failures) == 2


async def test_plugins_that_need_each_other_are_refused(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", manifest_extra=needs("b", "1"))
    write_plugin(tmp_path, "b", manifest_extra=needs("a", "1"))
    async with PluginManager(tmp_path) as manager:
        assert names(manager) == []
        assert "plugins depend on each other in a circle" in str(manager.failures[0])


async def test_one_plugin_is_not_loaded_without_what_it_needs(tmp_path: Path) -> None:
    chain(tmp_path)
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match=r"b\.toml: b 1\.0\.0 needs c \^1\.2, but there is no plugin c"):
            await manager.load_plugin(tmp_path / "b.wasm")
        await manager.load_plugin(tmp_path / "c.wasm")
        await manager.load_plugin(tmp_path / "b.wasm")
        assert names(manager) == ["b 1.0.0", "c 1.2.0"]


async def test_a_plugin_is_loaded_with_all_that_it_needs_and_nothing_else(tmp_path: Path) -> None:
    chain(tmp_path)
    write_plugin(tmp_path, "c", version="1.4.0", stem="c4")
    write_plugin(tmp_path, "c", version="2.0.0", stem="c5")
    write_plugin(tmp_path, "bad", b"no")
    (tmp_path / "worse.wasm").touch()
    manager = PluginManager(tmp_path)
    loaded = await manager.load_with_dependencies("a")
    assert [f"{plugin.name} {plugin.version}" for plugin in loaded] == ["c 1.4.0", "b 1.0.0", "a 1.0.0"]
    assert names(manager) == ["a 1.0.0", "b 1.0.0", "c 1.4.0"]
    assert await manager.load_with_dependencies("a", VersionReq.parse("^1")) == loaded, "they are loaded already"
    for requirement, error in (("^2", NoVersionMatches), ("v1", InvalidValue)):
        with pytest.raises(error):
            await manager.load_with_dependencies("a", requirement)
    with pytest.raises(DependencyMissing, match="worse"):
        await manager.load_with_dependencies("worse")
    await manager.close()


async def test_what_was_loaded_from_elsewhere_serves_as_well(tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "b", manifest_extra=needs("c", "1"))
    manager = PluginManager(tmp_path / "plugins")
    c = await manager.load_plugin(write_plugin(tmp_path, "c"))
    assert (await manager.load_with_dependencies("b"))[0] is c
    await manager.close()


async def test_what_is_needed_is_not_unloaded_unless_its_dependants_go_before_it(tmp_path: Path) -> None:
    chain(tmp_path)
    events: list[LifecycleEvent] = []
    async with PluginManager(tmp_path) as manager:
        manager.observe(events.append)
        with pytest.raises(
            StillNeeded, match=r"c is needed by a 1\.0\.0, b 1\.0\.0; unload it with its dependants"
        ) as told:
            await manager.unload_plugin("c")
        assert told.value.dependants == ("a 1.0.0", "b 1.0.0")
        assert events == []
        await manager.unload_plugin("c", with_dependants=True)
        assert names(manager) == []
        with pytest.raises(PluginNotFound):
            await manager.unload_plugin("c", with_dependants=True)
    assert [event.plugin.name for event in events if isinstance(event, PluginUnloaded)] == ["a", "b", "c"]


async def test_a_version_that_another_can_stand_in_for_may_go(tmp_path: Path) -> None:
    chain(tmp_path)
    write_plugin(tmp_path, "c", version="1.4.0", stem="c4")
    async with PluginManager(tmp_path) as manager:
        await manager.unload_plugin("c", "1.2.0")
        with pytest.raises(StillNeeded, match=r"c 1\.4\.0 is needed by"):
            await manager.unload_plugin("c", "1.4.0")


async def test_a_new_version_does_not_take_away_what_others_need(tmp_path: Path) -> None:
    chain(tmp_path)
    async with PluginManager(tmp_path) as manager:
        write_plugin(tmp_path, "c", version="2.0.0")
        with pytest.raises(LoadFailed, match=r"c\.toml: would take away c 1\.2\.0, which b 1\.0\.0 needs"):
            await manager.reload_plugin("c")
        assert names(manager) == ["a 1.0.0", "b 1.0.0", "c 1.2.0"]
        write_plugin(tmp_path, "c", version="1.5.0")
        await manager.reload_plugin("c")
        assert names(manager) == ["a 1.0.0", "b 1.0.0", "c 1.5.0"]


async def test_closing_unloads_what_is_needed_after_what_needs_it(tmp_path: Path) -> None:
    chain(tmp_path)
    events: list[LifecycleEvent] = []
    async with PluginManager(tmp_path) as manager:
        manager.observe(events.append)
    assert [event.plugin.name for event in events if not isinstance(event, PluginRefused)] == ["a", "b", "c"]
    assert not [event for event in events if isinstance(event, PluginLoaded)]
