"""Hot reload on a real file system: whatever is done to the folder, what is loaded becomes what is there.

Times are short, and every wait is one for a condition. That something is *not* done is seen by doing something else
after it, and waiting for that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.guests import answering, wat, write_plugin
from warren.plugins import (
    LifecycleEvent,
    PluginLoaded,
    PluginManager,
    PluginRefused,
    PluginReplaced,
    PluginUnloaded,
    WatchOptions,
    watcher,
)

#: Patience is long enough to see that it is had, and short enough to wait for.
QUICK: Final = WatchOptions(quiet_s=0.05, patience_s=0.6, rescan_s=30.0)
PATIENT: Final = replace(QUICK, patience_s=60.0)

#: A time in the far future, in seconds since the epoch.
LATER_S: Final = 4e9


def says(text: str) -> bytes:
    return answering(f'{{"success":true,"result":"{text}","error":null}}')


class Watched:
    """A manager with hot reload, and all that it told."""

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager
        self.events: list[LifecycleEvent] = []
        self._witnesses = 0
        manager.observe(self._note)

    def _note(self, event: LifecycleEvent) -> None:
        if isinstance(event, PluginRefused) or not event.plugin.name.startswith("witness"):
            self.events.append(event)

    def loaded(self) -> dict[str, str]:
        """The stem that each version was loaded from, witnesses aside."""
        loaded = {f"{one.name} {one.version}": one.files.wasm.stem for one in self.manager.plugins()}
        return {identity: stem for identity, stem in loaded.items() if not identity.startswith("witness")}

    def failures(self) -> list[str]:
        return list(map(str, self.manager.failures))

    def status(self) -> str:
        return self.manager.list_plugins()[0].status

    def told(self, kind: type[LifecycleEvent]) -> list[LifecycleEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - a bounded wait for what has no event
                await asyncio.sleep(0.005)

    async def until_loaded(self, *versions: str) -> None:
        """Until these are loaded, and nothing else."""
        try:
            await self.until(lambda: set(self.loaded()) == set(versions))
        except TimeoutError:
            assert set(self.loaded()) == set(versions)

    async def until_it_says(self, name: str, text: str) -> None:
        async with asyncio.timeout(20):
            while await self.manager.execute_plugin(name, "x") != text:  # noqa: ASYNC110 - nor has this
                await asyncio.sleep(0.005)

    async def until_seen(self, folder: Path) -> None:
        """Until what was done to the folder before has been seen to: a plugin that came later is loaded."""
        self._witnesses += 1
        name = f"witness{self._witnesses}"
        write_plugin(folder, name)
        await self.until(lambda: name in {one.name for one in self.manager.plugins()})


@asynccontextmanager
async def watching(folder: Path, options: WatchOptions = QUICK, **more: Any) -> AsyncIterator[Watched]:
    async with PluginManager(folder, hot_reload=True, watch_options=options, **more) as manager:
        yield Watched(manager)


def remove(path: Path) -> None:
    path.unlink()
    path.with_suffix(".toml").unlink()


def rename(path: Path, stem: str) -> Path:
    path.with_suffix(".toml").rename(path.with_name(f"{stem}.toml"))
    return path.rename(path.with_name(f"{stem}.wasm"))


@pytest.mark.parametrize(
    "options", [QUICK, replace(QUICK, force_polling=True, poll_delay_ms=20)], ids=["told by the kernel", "polling"]
)
async def test_plugins_come_change_and_go_with_their_files(options: WatchOptions, tmp_path: Path) -> None:
    write_plugin(tmp_path, "first")
    async with watching(tmp_path, options) as here:
        path = write_plugin(tmp_path, "a", says("one"))
        await here.until_loaded("first 1.0.0", "a 1.0.0")
        path.write_bytes(says("two"))
        os.utime(path, (LATER_S, LATER_S))  # polling, `watchfiles` sees a file that is newer by a second
        await here.until_it_says("a", "two")
        remove(path)
        await here.until_loaded("first 1.0.0")
        assert [type(event) for event in here.events] == [PluginLoaded, PluginReplaced, PluginUnloaded]


async def test_nothing_happens_to_what_does_not_change(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        a = here.manager.find("a")
        path.touch()
        path.write_bytes(path.read_bytes())
        path.with_suffix(".toml").chmod(0o600)
        (tmp_path / "README.md").write_text("a")
        await here.until_seen(tmp_path)
        assert here.manager.find("a") is a


async def test_a_change_to_the_manifest_alone_counts(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        write_plugin(tmp_path, "new", path.read_bytes(), 'description = "new"\n', stem="unused")
        await here.until(lambda: "new 1.0.0" in here.loaded())
        path.with_suffix(".toml").write_text('[plugin]\nname = "a"\nversion = "1.0.0"\ndescription = "better"\n')
        await here.until(lambda: here.manager.find("a").manifest.description == "better")


async def test_a_manifest_with_another_version_brings_that_and_takes_the_one_before_away(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", says("one"))
    async with watching(tmp_path) as here:
        write_plugin(tmp_path, "a", says("two"), version="1.1.0")
        await here.until_loaded("a 1.1.0")
        write_plugin(tmp_path, "b", says("two"), version="1.1.0", stem="a")
        await here.until_loaded("b 1.1.0")
        kinds = [type(event) for event in here.events]
        assert kinds == [PluginLoaded, PluginUnloaded, PluginLoaded, PluginUnloaded], (
            "never without the one or the other"
        )


async def test_what_is_removed_is_unloaded_by_what_it_was_not_by_its_stem(tmp_path: Path) -> None:
    one = write_plugin(tmp_path, "a", stem="x")
    write_plugin(tmp_path / "deep", "x", stem="a")
    write_plugin(tmp_path, "a", version="2.0.0", stem="y")
    async with watching(tmp_path) as here:
        remove(one)
        await here.until_loaded("x 1.0.0", "a 2.0.0")
        assert here.manager.find("a").version == "2.0.0"


async def test_a_renamed_pair_stays_loaded_all_along(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        a = here.manager.find("a")
        path = rename(path, "b")
        await here.until(lambda: here.loaded() == {"a 1.0.0": "b"})
        (tmp_path / "deep").mkdir()
        for file in (path, path.with_suffix(".toml")):
            shutil.copyfile(file, tmp_path / "deep" / f"c{file.suffix}")
        await here.until_seen(tmp_path)
        remove(path)
        await here.until(lambda: here.loaded() == {"a 1.0.0": "c"})
        assert here.manager.find("a") is a
        assert not [event for event in here.events if isinstance(event, PluginReplaced)]
        path = tmp_path / "deep" / "c.wasm"
        path.write_bytes(says("new"))
        await here.until_it_says("a", "new")
        assert here.told(PluginUnloaded) == []


async def test_a_pair_that_was_renamed_and_changed_leaves_no_gap(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a", says("one"))
    async with watching(tmp_path, max_plugins=1) as here:
        remove(path)
        write_plugin(tmp_path, "a", says("two"), stem="b")
        await here.until_it_says("a", "two")
        assert here.loaded() == {"a 1.0.0": "b"}
        assert [type(event) for event in here.events] == [PluginReplaced]


async def test_a_pair_that_is_renamed_one_file_after_the_other_is_waited_for(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path, PATIENT) as here:
        a = here.manager.find("a")
        path.rename(tmp_path / "b.wasm")
        await here.until_seen(tmp_path)
        path.with_suffix(".toml").rename(tmp_path / "b.toml")
        await here.until(lambda: here.loaded() == {"a 1.0.0": "b"})
        assert here.manager.find("a") is a


async def test_half_a_pair_is_no_plugin_in_the_end(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        path.unlink()
        await here.until_loaded()
        path.write_bytes(wat())
        await here.until_loaded("a 1.0.0")
        path.with_suffix(".toml").unlink()
        await here.until_loaded()
        await here.until(here.failures)
        assert "a.toml: there is no such file; a plugin is a .wasm and a .toml" in here.failures()[0]


async def test_a_module_without_its_manifest_is_waited_for(tmp_path: Path) -> None:
    """As a build script has it: first the module, and the manifest when that is done."""
    async with watching(tmp_path, PATIENT) as here:
        (tmp_path / "a.wasm").write_bytes(wat())
        await here.until_seen(tmp_path)
        assert here.told(PluginRefused) == []
        write_plugin(tmp_path, "a")
        await here.until_loaded("a 1.0.0")
        assert here.told(PluginRefused) == []


async def test_a_copy_that_takes_its_time_is_loaded_once_and_whole(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a", says("one"))
    wasm = says("two")
    async with watching(tmp_path) as here:
        with path.open("wb") as file:
            for byte in wasm:
                file.write(bytes([byte]))
                file.flush()
                await asyncio.sleep(0.001)
        await here.until_it_says("a", "two")
        assert [type(event) for event in here.events] == [PluginReplaced]


async def test_a_copy_that_pauses_is_not_refused_at_first_sight(tmp_path: Path) -> None:
    wasm = wat()
    async with watching(tmp_path, PATIENT) as here:
        path = write_plugin(tmp_path, "a", wasm[:50])
        await here.until_seen(tmp_path)  # by which time the half of it has been tried
        path.write_bytes(wasm)
        await here.until_loaded("a 1.0.0")
        assert here.told(PluginRefused) == []


async def test_a_bad_pair_is_refused_once_and_taken_when_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_plugin(tmp_path, "a", says("one"))
    async with watching(tmp_path) as here:
        path.write_bytes(b"hello")
        await here.until(lambda: here.status() == "stale")
        assert "a.wasm: this is not WebAssembly" in str(here.manager.list_plugins()[0].last_error)
        assert len(here.failures()) == 1
        for _ in range(2):
            await here.until_seen(tmp_path)
        assert len(here.told(PluginRefused)) == 1
        assert caplog.text.count("not loaded, and a 1.0.0 stays as it is: ") == 1
        path.write_bytes(b"hello again")
        await here.until(lambda: len(here.told(PluginRefused)) == 2)
        assert await here.manager.execute_plugin("a", "x") == "one"
        path.write_bytes(says("one"))
        await here.until(lambda: here.status() == "loaded")
        assert not here.failures()
        assert here.told(PluginReplaced) == [], "it is what it was"
        path.write_bytes(says("two"))
        await here.until_it_says("a", "two")


async def test_what_was_refused_at_the_start_is_not_said_again(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "bad", b"no")
    async with watching(tmp_path) as here:
        for _ in range(2):
            await here.until_seen(tmp_path)
        assert here.told(PluginRefused) == []
        write_plugin(tmp_path, "bad")
        await here.until_loaded("bad 1.0.0")
        path.unlink()
        await here.until_loaded()


async def test_a_twin_is_refused_and_takes_over_when_the_first_goes(tmp_path: Path) -> None:
    first = write_plugin(tmp_path, "a", stem="first")
    async with watching(tmp_path) as here:
        write_plugin(tmp_path, "a", stem="second")
        await here.until(lambda: here.told(PluginRefused))
        assert "second.wasm: a 1.0.0 is loaded from " in here.failures()[0]
        remove(first)
        await here.until(lambda: here.loaded() == {"a 1.0.0": "second"})
        assert not here.failures()
        assert here.told(PluginUnloaded) == []


async def test_what_found_no_place_is_loaded_when_there_is_one(tmp_path: Path) -> None:
    first = write_plugin(tmp_path, "a")
    async with watching(tmp_path, max_plugins=1) as here:
        write_plugin(tmp_path, "b")
        await here.until(here.failures)
        remove(first)
        await here.until_loaded("b 1.0.0")
        assert not here.failures()


@pytest.mark.parametrize(
    "name", ["a.wasm~", ".a.toml.swp", "#a.wasm#", "a.wasm.tmp", ".#a.wasm", "4913", "a.wasm.part"]
)
async def test_what_editors_and_copying_leave_for_a_while_is_nothing(name: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        a = here.manager.find("a")
        (tmp_path / name).write_bytes(says("half of it"))
        await here.until_seen(tmp_path)
        (tmp_path / name).unlink()
        await here.until_seen(tmp_path)
        assert here.manager.find("a") is a
        assert here.told(PluginRefused) == []


async def test_files_that_are_put_in_place_by_a_rename_are_taken(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a", says("one"))
    async with watching(tmp_path) as here:
        for number in range(3):
            for suffix in (".wasm", ".toml"):
                temporary = tmp_path / f".a{suffix}.new"
                manifest = f'[plugin]\nname = "a"\nversion = "1.{number}.0"\n'
                temporary.write_bytes(says(str(number)) if suffix == ".wasm" else manifest.encode())
                temporary.replace(path.with_suffix(suffix))
            await here.until_it_says("a", str(number))
            await here.until_loaded(f"a 1.{number}.0")


async def test_folders_below_come_and_go(tmp_path: Path) -> None:
    async with watching(tmp_path) as here:
        write_plugin(tmp_path / "x" / "y", "a")
        await here.until_loaded("a 1.0.0")
        write_plugin(tmp_path / "x" / "y", "b")
        await here.until_loaded("a 1.0.0", "b 1.0.0")
        (tmp_path / "x").rename(tmp_path / "z")
        await here.until(lambda: {"z"} == {one.files.wasm.parts[-3] for one in here.manager.plugins()})
        assert here.told(PluginUnloaded) == []
        shutil.rmtree(tmp_path / "z")
        await here.until_loaded()


async def test_a_folder_that_is_a_link_is_followed_to_where_it_points_now(tmp_path: Path) -> None:
    """As releases are switched: the link is replaced by another in one step."""
    for release in ("one", "two"):
        write_plugin(tmp_path / release, "a", says(release))
    current, following = tmp_path / "current", tmp_path / "following"
    current.symlink_to("one")
    async with watching(current, WatchOptions(0.05, 0.6, rescan_s=0.3)) as here:
        for release in ("two", "one"):
            following.symlink_to(release)
            following.replace(current)
            await here.until_it_says("a", release)
            write_plugin(tmp_path / release, "later")
            await here.until_loaded("a 1.0.0", "later 1.0.0")
            remove(tmp_path / release / "later.wasm")
            await here.until_loaded("a 1.0.0")


async def test_links_below_the_folder_are_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts files: links by way of a hidden folder that is switched."""
    plugins = tmp_path / "plugins"
    for release in ("..one", "..two"):
        write_plugin(plugins / release, "a", says(release))
    (plugins / "..data").symlink_to("..one")
    for suffix in (".wasm", ".toml"):
        (plugins / f"a{suffix}").symlink_to(f"..data/a{suffix}")
    write_plugin(tmp_path / "elsewhere", "b")
    async with watching(plugins) as here:
        (plugins / "linked").symlink_to(tmp_path / "elsewhere")
        await here.until_loaded("a 1.0.0", "b 1.0.0")
        (plugins / "..following").symlink_to("..two")
        (plugins / "..following").replace(plugins / "..data")
        await here.until_it_says("a", "..two")
        (plugins / "linked").unlink()
        await here.until_loaded("a 1.0.0")


async def test_a_folder_that_is_gone_unloads_nothing_and_is_taken_up_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "plugins"
    write_plugin(folder, "a", says("one"))
    async with watching(folder, WatchOptions(0.05, 0.6, rescan_s=0.2)) as here:
        folder.rename(tmp_path / "away")
        await here.until(lambda: "there is no such folder of plugins" in caplog.text)
        assert await here.manager.execute_plugin("a", "x") == "one"
        write_plugin(folder, "a", says("two"))
        await here.until_it_says("a", "two")
        write_plugin(folder, "b")
        await here.until_loaded("a 1.0.0", "b 1.0.0")
        assert caplog.text.count("there is no such folder of plugins") == 1


async def test_a_hundred_changes_at_once_are_all_seen_to(tmp_path: Path) -> None:
    wasm = wat()
    for number in range(40):
        write_plugin(tmp_path, f"old{number}", wasm)
    async with watching(tmp_path) as here:
        for number in range(40):
            remove(tmp_path / f"old{number}.wasm")
            write_plugin(tmp_path, f"new{number}", wasm)
        for number in range(20):
            write_plugin(tmp_path, "many", wasm, version=f"1.{number}.0")
        await here.until_loaded(*(f"new{number} 1.0.0" for number in range(40)), "many 1.19.0")
        assert here.told(PluginRefused) == []


async def test_plugins_that_need_one_another_come_and_go_in_any_order(tmp_path: Path) -> None:
    def needs(name: str) -> str:
        return f'[[plugin.dependencies]]\nname = "{name}"\nversion_req = "1"\noptional = false\n'

    async with watching(tmp_path) as here:
        write_plugin(tmp_path, "a", manifest_extra=needs("b"))
        await here.until(lambda: "a 1.0.0 needs b ^1, but there is no plugin b" in "".join(here.failures()))
        write_plugin(tmp_path, "b", manifest_extra=needs("c"))
        write_plugin(tmp_path, "c")
        await here.until_loaded("a 1.0.0", "b 1.0.0", "c 1.0.0")
        assert not here.failures()
        remove(tmp_path / "c.wasm")
        await here.until(lambda: "c 1.0.0 is needed by a 1.0.0, b 1.0.0" in "".join(here.failures()))
        remove(tmp_path / "a.wasm")
        remove(tmp_path / "b.wasm")
        await here.until_loaded()
        await here.until(lambda: not here.failures())


async def test_one_that_takes_long_to_load_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        engine = here.manager._keeper._loader._engine
        compile_module, go_on, slow = engine.compile, asyncio.Event(), says("slow")

        async def held_up(wasm: bytes) -> Any:
            if b"slow" in wasm:
                await go_on.wait()
            return await compile_module(wasm)

        monkeypatch.setattr(engine, "compile", held_up)
        write_plugin(tmp_path, "slow", slow)
        await here.until_seen(tmp_path)
        write_plugin(tmp_path, "a", says("changed"))
        await here.until_it_says("a", "changed")
        assert "slow 1.0.0" not in here.loaded()
        go_on.set()
        await here.until_loaded("a 1.0.0", "slow 1.0.0")


async def test_what_is_being_loaded_when_the_manager_closes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(tmp_path) as here:
        started = asyncio.Event()

        async def never(_wasm: bytes) -> Any:
            started.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(here.manager._keeper._loader._engine, "compile", never)
        write_plugin(tmp_path, "a")
        await asyncio.wait_for(started.wait(), 20)
    assert here.manager.plugins() == ()
    await here.manager.close()


async def test_what_was_unloaded_by_order_stays_so_until_its_files_change(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        await here.manager.unload_plugin("a")
        path.touch()
        await here.until_seen(tmp_path)
        assert here.loaded() == {}
        write_plugin(tmp_path, "a", says("new"))
        await here.until_loaded("a 1.0.0")
        remove(path)
        await here.until_loaded()
        write_plugin(tmp_path, "a", says("new"))
        await here.until_loaded("a 1.0.0")


async def test_what_was_loaded_from_elsewhere_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    outside = write_plugin(tmp_path / "elsewhere", "a")
    monkeypatch.chdir(tmp_path)
    async with watching(folder) as here:
        await here.manager.load_plugin(outside)
        await here.manager.load_plugin(Path("plugins") / write_plugin(folder, "b").name)
        await here.until_seen(folder)
        assert here.loaded() == {"a 1.0.0": "a", "b 1.0.0": "b"}
        write_plugin(folder, "a", stem="twin")
        await here.until(here.failures)
        assert f"a 1.0.0 is loaded from {outside} already" in here.failures()[0]
        remove(folder / "b.wasm")
        await here.until_loaded("a 1.0.0")


@pytest.mark.parametrize("loss", ["events", "no watch"])
async def test_changes_of_which_nothing_is_heard_are_seen_all_the_same(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def deaf(*_paths: Path, stop_event: asyncio.Event, **_options: Any) -> AsyncIterator[set[Any]]:
        if loss == "no watch":
            raise OSError("OS file watch limit reached")
        await stop_event.wait()
        yield set()

    monkeypatch.setattr(watcher, "awatch", deaf)
    async with watching(tmp_path, WatchOptions(0.05, 0.6, rescan_s=0.1)) as here:
        write_plugin(tmp_path, "a")
        await here.until_loaded("a 1.0.0")
    assert ("changes in" in caplog.text) == (loss == "no watch")


async def test_a_pipe_that_is_named_like_a_plugin_does_not_hold_up_the_watching(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with watching(tmp_path) as here:
        path.with_suffix(".toml").unlink()
        os.mkfifo(path.with_suffix(".toml"))
        await here.until(lambda: here.told(PluginRefused))
        assert "is not a regular file" in here.failures()[0]
        assert here.loaded() == {"a 1.0.0": "a"}
