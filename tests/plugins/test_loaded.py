"""Which version a request gets, that the answer is remembered no longer than it is right, and what finding costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.guests import write_plugin
from warren.manifests import InvalidValue, VersionReq
from warren.plugins import PluginManager, PluginNotFound
from warren.plugins.loaded import REMEMBERED, LoadedPlugins


@pytest.fixture
async def manager() -> AsyncIterator[PluginManager]:
    async with PluginManager() as manager:
        yield manager


async def load(manager: PluginManager, folder: Path, *versions: str) -> None:
    for version in versions:
        await manager.load_plugin(write_plugin(folder, "a", version=version, stem=f"a_{version.replace('.', '_')}"))


async def test_a_release_is_found_before_any_pre_release(manager: PluginManager, tmp_path: Path) -> None:
    await load(manager, tmp_path, "2.0.0-beta.2", "2.0.0-beta.1")
    assert manager.find("a").version == "2.0.0-beta.2", "there is no release"
    await load(manager, tmp_path, "1.0.0")
    assert manager.find("a").version == "1.0.0", "who asks for nothing gets no pre-release"
    assert manager.find("a", "=2.0.0-beta.1").version == "2.0.0-beta.1"


@pytest.mark.parametrize("requirement", ["^1", VersionReq.parse("^1")])
async def test_what_is_found_follows_what_is_loaded(
    requirement: VersionReq | str, manager: PluginManager, tmp_path: Path
) -> None:
    await load(manager, tmp_path, "1.0.0")
    assert manager.find("a", requirement).version == "1.0.0"
    await load(manager, tmp_path, "1.1.0", "2.0.0")
    assert (manager.find("a", requirement).version, manager.find("a").version) == ("1.1.0", "2.0.0")
    await manager.unload_plugin("a", "1.1.0")
    assert manager.find("a", requirement).version == "1.0.0"
    assert await manager.reload_plugin("a", "1.0.0") is manager.find("a", requirement)
    await manager.unload_plugin("a")
    with pytest.raises(PluginNotFound):
        manager.find("a", requirement)


async def test_a_retry_stays_on_its_version_while_that_is_loaded_and_admitted(
    manager: PluginManager, tmp_path: Path
) -> None:
    await load(manager, tmp_path, "1.0.0", "1.1.0", "2.0.0")
    assert manager.find("a", prefer="1.0.0").version == "1.0.0"
    assert manager.find("a", "^1", prefer="1.0.0").version == "1.0.0"
    assert manager.find("a", "^1", prefer="2.0.0").version == "1.1.0", "a header is no way around a requirement"
    assert manager.find("a", VersionReq.parse("^1"), prefer="1.0.7").version == "1.1.0", "not loaded"
    await manager.unload_plugin("a", "1.0.0")
    assert manager.find("a", "^1", prefer="1.0.0").version == "1.1.0"


async def test_a_requirement_that_is_none_is_said_to_be(manager: PluginManager, tmp_path: Path) -> None:
    await load(manager, tmp_path, "1.0.0")
    for prefer in (None, "1.0.0"):
        with pytest.raises(InvalidValue, match="'v1' is not a version requirement: write it without the leading v"):
            manager.find("a", "v1", prefer=prefer)


async def test_versions_that_differ_in_their_build_alone_have_one_order(manager: PluginManager, tmp_path: Path) -> None:
    for build in ("b", "c", "a"):
        await manager.load_plugin(write_plugin(tmp_path, "a", version=f"1.0.0+{build}", stem=build))
    assert manager.find("a").version == manager.find("a", "^1").version == "1.0.0+c"


async def test_what_strangers_ask_for_is_remembered_up_to_a_bound(manager: PluginManager, tmp_path: Path) -> None:
    await load(manager, tmp_path, "1.0.0")
    loaded = LoadedPlugins()
    loaded.put(manager.find("a"))
    for number in range(2 * REMEMBERED):
        assert loaded.find("a", f">=0.0.{number}").version == "1.0.0"
        with pytest.raises(PluginNotFound):
            loaded.find("a", f">1.0.{number}")
        with pytest.raises(PluginNotFound):
            loaded.find(f"b{number}", "1")
    assert 0 < len(loaded._resolved) <= REMEMBERED


async def test_a_second_look_compares_no_versions(
    manager: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(manager, tmp_path, "1.0.0", "1.1.0")
    found = manager.find("a", "^1")

    def compared(*_arguments: object) -> bool:
        raise AssertionError("a requirement was matched again")

    monkeypatch.setattr(VersionReq, "matches", compared)
    monkeypatch.setattr(VersionReq, "parse", compared)
    assert manager.find("a", "^1") is manager.find("a") is found
