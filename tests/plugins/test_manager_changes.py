"""How a plugin takes the place of another: what is swapped when, what a bad one changes, what is counted and told."""

from __future__ import annotations

import asyncio
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.guests import answering, ask, wat, write_plugin
from warren.manifests import ManifestError
from warren.plugins import (
    LifecycleEvent,
    LoadFailed,
    Outcome,
    PluginHealth,
    PluginLoaded,
    PluginManager,
    PluginNotFound,
    PluginRefused,
    PluginReplaced,
    PluginUnloaded,
    host_function,
)
from warren.plugins.usage import RECENT_RUNS, Usage, percentile

#: What a host function that gives true is heard to say; false is a letter longer.
YES = b'{"ok":true}'

ASKING = "(drop {call}) (call $answer)"


def export(name: str, body: str, parameters: str = "") -> str:
    return f'(func (export "{name}") {parameters} (result i32) {body})'


def says(text: str) -> bytes:
    return answering(f'{{"success":true,"result":"{text}","error":null}}')


class Gate:
    """A host function in which a guest waits until it is told to go on, and one by which it says that it shuts down."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.shut_down: list[str] = []

    async def wait(self) -> None:
        self.waiting.set()
        await self.go_on.wait()

    async def note(self, mark: str, /) -> None:
        self.shut_down.append(mark)

    def manager(self, **options: Any) -> PluginManager:
        return PluginManager(host_functions=[host_function()(self.wait), host_function()(self.note)], **options)


def waiting(mark: str) -> bytes:
    """Waits in each request, and notes `mark` when it is shut down."""
    wait, segment = ask("wait")
    note, other_segment = ask("note", f'"{mark}"', at=1200)
    shutdown = export("shutdown", f"(drop {note}) (i32.const 0)")
    return wat(ASKING.format(call=wait), more=segment + other_segment + shutdown)


async def test_a_run_under_way_ends_in_the_old_one_which_is_shut_down_after_it(tmp_path: Path) -> None:
    gate = Gate()
    path = write_plugin(tmp_path, "a", waiting("old"))
    async with gate.manager() as manager:
        old = await manager.load_plugin(path)
        run = asyncio.create_task(old.run(b"{}"))
        await gate.waiting.wait()
        write_plugin(tmp_path, "a", says("new"))
        new = await manager.reload_plugin("a")
        assert manager.find("a") is new
        assert await manager.execute_plugin("a", "x") == "new", "nobody waits for the old one"
        assert gate.shut_down == []
        gate.go_on.set()
        assert (await run).kind == "ok"
        await manager.close()
    assert gate.shut_down == ["old"]


async def test_a_run_that_takes_longer_than_the_grace_period_keeps_nobody_from_being_shut_down(tmp_path: Path) -> None:
    gate = Gate()
    async with gate.manager(grace_s=0.01) as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "a", waiting("a")))
        run = asyncio.create_task(plugin.run(b"{}"))
        await gate.waiting.wait()
        await manager.close()
        assert gate.shut_down == ["a"]
        gate.go_on.set()
        assert (await run).kind == "ok", "it is not stopped: its own limits do that"


BAD = {
    "no module": (b"hello", ""),
    "a failing initialize": (wat(more=export("initialize", "(i32.const 1)", "(param i32 i32)")), ""),
    "a sick guest": (wat(more=export("health_check", "(i32.const 0)")), ""),
    "a trap at once": (wat(more="(func $s unreachable) (start $s)"), ""),
    "an endless start": (wat(more="(func $s (loop (br 0))) (start $s)"), ""),
    "a broken schema": (wat(), '[actions.x.request]\ntype = "what"\n'),
    "a broken manifest": (wat(), "[nonsense]\n"),
    "a newer runtime": (wat(), 'min_runtime_version = "99.0.0"\n'),
    "a schema that breaks callers": (wat(), '[actions.x.request]\ntype = "integer"\n'),
    "a schema that breaks callers, and a minor rise": (wat(), '[actions.x.request]\ntype = "integer"\n'),
}


@pytest.mark.parametrize(("name", "wasm", "manifest"), [(name, *bad) for name, bad in BAD.items()], ids=BAD.keys())
async def test_a_bad_successor_changes_nothing_and_says_so(
    name: str, wasm: bytes, manifest: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_plugin(tmp_path, "a", says("old"), "[actions.x]\n")
    events: list[LifecycleEvent] = []
    async with PluginManager() as manager:
        old = await manager.load_plugin(path)
        manager.observe(events.append)
        write_plugin(tmp_path, "a", wasm, manifest, version="1.1.0" if name.endswith("rise") else "1.0.0")
        with pytest.raises((LoadFailed, ManifestError)) as raised:
            await manager.reload_plugin("a")
        assert manager.plugins() == (old,)
        assert await manager.execute_plugin("a", "x") == "old"
        [info] = manager.list_plugins()
        assert (info.status, info.last_error, info.load_count) == ("stale", str(raised.value), 1)
        assert events == [PluginRefused(old.files, raised.value, old)]
        assert f"not loaded, and a 1.0.0 stays as it is: {raised.value}" in caplog.text
        write_plugin(tmp_path, "a", says("mended"), "[actions.x]\n")
        await manager.reload_plugin("a")
        [info] = manager.list_plugins()
        assert (info.status, info.last_error, info.load_count) == ("loaded", None, 2)


async def test_what_a_new_version_breaks_is_said_with_what_to_do(tmp_path: Path) -> None:
    strict = '[actions.x.request]\ntype = "integer"\n'
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a", manifest_extra="[actions.x]\n", stem="one"))
        path = write_plugin(tmp_path, "a", manifest_extra=strict, version="1.1.0", stem="two")
        with pytest.raises(
            LoadFailed, match=r"two\.toml: breaks who calls a 1\.0\.0: action 'x': .*; raise the version"
        ):
            await manager.load_plugin(path)
        write_plugin(tmp_path, "a", manifest_extra=strict, version="2.0.0", stem="two")
        assert (await manager.load_plugin(path)).version == "2.0.0"
        write_plugin(tmp_path, "a", manifest_extra=strict, version="0.9.0", stem="three")
        assert (await manager.load_plugin(tmp_path / "three.wasm")).version == "0.9.0", "going back is never refused"


async def test_a_plugin_that_needs_a_newer_warren_is_refused(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        for needed in ("0.1.0", "0.3.0"):
            await manager.load_plugin(write_plugin(tmp_path, "a", manifest_extra=f'min_runtime_version = "{needed}"\n'))
        path = write_plugin(tmp_path, "b", manifest_extra='min_runtime_version = "99.0.0"\n')
        with pytest.raises(LoadFailed, match=r"b\.toml: b is not admitted: it needs Warren 99\.0\.0 or newer"):
            await manager.load_plugin(path)


async def test_another_version_in_the_same_files_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    events: list[LifecycleEvent] = []
    path = write_plugin(tmp_path, "a")
    async with PluginManager(max_plugins=1) as manager:
        manager.observe(events.append)
        first = await manager.load_plugin(path)
        write_plugin(tmp_path, "a", version="1.1.0")
        second = await manager.reload_plugin("a")
        write_plugin(tmp_path, "b", version="1.1.0", stem="a")
        third = await manager.load_plugin(path)
        assert manager.plugins() == (third,)
    assert events == [
        PluginLoaded(first),
        PluginLoaded(second),
        PluginUnloaded(first),
        PluginLoaded(third),
        PluginUnloaded(second),
        PluginUnloaded(third),
    ]


async def test_counters_go_on_when_the_same_version_is_loaded_again_and_end_with_it(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a", wat("unreachable"))
    async with PluginManager() as manager:
        await manager.load_plugin(path)
        await manager.find("a").run(b"{}")
        write_plugin(tmp_path, "a")
        await manager.reload_plugin("a")
        await manager.find("a").run(b"{}")
        [info] = manager.list_plugins()
        assert (info.execution_count, info.failure_count, info.load_count, info.last_error) == (2, 1, 2, None)
        await manager.unload_plugin("a")
        await manager.load_plugin(path)
        [info] = manager.list_plugins()
        assert (info.execution_count, info.load_count, info.fuel_p50, info.memory_bytes_p99) == (0, 1, None, None)


async def test_every_version_is_counted_for_itself(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        for version in ("1.10.0", "1.9.0"):
            await manager.load_plugin(write_plugin(tmp_path, "a", version=version, stem=version.replace(".", "_")))
        await manager.execute_plugin("a", "x", requirement="=1.9.0")
        assert [(info.version, info.execution_count) for info in manager.list_plugins()] == [
            ("1.9.0", 1),
            ("1.10.0", 0),
        ]


async def test_what_runs_use_is_told_in_percentiles_of_the_latest(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "a", manifest_extra="[actions.x]\n"))
        outcomes = [await plugin.run(b'{"action":"x","data":null}') for _ in range(3)]
        await plugin.run(b'{"action":"y","data":null}')  # rejected: nothing ran
        [info] = manager.list_plugins()
        assert info.execution_count == 4
        assert info.fuel_p50 == info.fuel_p99 == outcomes[0].fuel > 0
        assert info.memory_bytes_p50 == info.memory_bytes_p99 == outcomes[0].memory_bytes == 131_072


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([], None, None), ([7], 7, 7), ([1, 2], 1, 2), ([*range(1, 101)], 50, 99), ([*range(1, 1001)], 500, 990)],
)
def test_a_percentile_is_the_nearest_rank(values: list[int], p50: int | None, p99: int | None) -> None:
    assert (percentile(values, 50), percentile(values, 99)) == (p50, p99)


def test_a_run_is_counted_within_a_microsecond_and_remembered_within_a_bound() -> None:
    usage, outcome = Usage(), Outcome("ok", fuel=5, memory_bytes=65_536)
    assert min(timeit.repeat(lambda: usage.add(outcome), number=10_000, repeat=20)) / 10_000 < 1e-6
    assert (len(usage.fuel()), usage.execution_count) == (RECENT_RUNS, 200_000)


async def test_changes_to_one_plugin_come_one_after_another_and_keep_no_other_waiting(tmp_path: Path) -> None:
    """The first is held up in its `initialize`."""
    gate = Gate()
    call, segment = ask("wait")
    slow = wat(more=export("initialize", f"(drop {call}) (i32.const 0)", "(param i32 i32)") + segment)
    events: list[LifecycleEvent] = []
    async with gate.manager() as manager:
        manager.observe(events.append)
        first = asyncio.create_task(manager.load_plugin(write_plugin(tmp_path, "a", slow)))
        await gate.waiting.wait()
        await manager.load_plugin(write_plugin(tmp_path, "other"))
        assert await manager.execute_plugin("other", "x") == 1, "different plugins do not wait for one another"
        await manager.reload_plugin("other")
        write_plugin(tmp_path, "a", says("second"))
        second = asyncio.create_task(manager.load_plugin(tmp_path / "a.wasm"))
        third = asyncio.create_task(manager.unload_plugin("a"))
        gate.go_on.set()
        await asyncio.gather(first, second, third)
        mine = [event for event in events if not isinstance(event, PluginRefused) and event.plugin.name == "a"]
        assert mine[0] == PluginLoaded(first.result())
        assert [type(event) for event in mine[1:]] == [PluginUnloaded, PluginLoaded]


async def test_a_reload_that_comes_after_its_plugin_was_unloaded_finds_nothing(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a"))
        reload = asyncio.create_task(manager.reload_plugin("a"))
        unload = asyncio.create_task(manager.unload_plugin("a"))
        ends = await asyncio.gather(reload, unload, return_exceptions=True)
        assert isinstance(ends[0], PluginNotFound)
        assert ends[1] is None
        assert manager.plugins() == ()


async def test_many_changes_at_once_leave_one_plugin_and_no_guest(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with PluginManager() as manager:
        await manager.load_plugin(path)
        tasks = [asyncio.create_task(manager.reload_plugin("a")) for _ in range(20)]
        runs = [asyncio.create_task(manager.find("a").run(b"{}")) for _ in range(20)]
        await asyncio.gather(*tasks)
        assert {run.kind for run in await asyncio.gather(*runs)} == {"ok"}
        [info] = manager.list_plugins()
        assert (info.load_count, info.execution_count) == (21, 20)


async def test_an_unloaded_plugin_takes_all_its_versions_along_unless_one_is_named(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        for version in ("1.0.0", "1.1.0", "2.0.0"):
            await manager.load_plugin(write_plugin(tmp_path, "a", version=version, stem=version.replace(".", "_")))
        with pytest.raises(PluginNotFound, match=r"'3\.0\.0'; loaded: 1\.0\.0, 1\.1\.0, 2\.0\.0"):
            await manager.unload_plugin("a", "3.0.0")
        await manager.unload_plugin("a", "1.1.0")
        assert [info.version for info in manager.list_plugins()] == ["1.0.0", "2.0.0"]
        await manager.unload_plugin("a")
        assert manager.list_plugins() == ()
        with pytest.raises(PluginNotFound, match="no plugin 'a' is loaded"):
            await manager.unload_plugin("a")


async def test_health_is_asked_of_a_fresh_guest(tmp_path: Path) -> None:
    well = True

    @host_function(name="well")
    async def ask_host() -> bool:
        return well

    call, segment = ask("well")
    healthy = f"(i32.eq (i32.wrap_i64 {call}) (i32.const {len(YES)}))"
    async with PluginManager(host_functions=[ask_host]) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a", wat(more=export("health_check", healthy) + segment)))
        assert await manager.health_check("a") == PluginHealth(healthy=True)
        well = False
        assert await manager.health_check("a", "1.0.0") == PluginHealth(
            healthy=False, reason="the guest's `health_check` returned 0, not 1"
        )
        assert manager.list_plugins()[0].execution_count == 0
        for version in ("2.0.0", None):
            with pytest.raises(PluginNotFound):
                await manager.health_check("a" if version else "b", version)


async def test_observers_are_told_until_they_leave_and_cannot_do_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[type[LifecycleEvent]] = []

    def clumsy(_event: LifecycleEvent) -> None:
        raise RuntimeError("dropped it")

    path = write_plugin(tmp_path, "a")
    async with PluginManager() as manager:
        end: Callable[[], None] = manager.observe(lambda event: told.append(type(event)))
        manager.observe(clumsy)
        await manager.load_plugin(path)
        await manager.reload_plugin("a")
        await manager.unload_plugin("a")
        end()
        end()
        await manager.load_plugin(path)
    assert told == [PluginLoaded, PluginReplaced, PluginUnloaded]
    assert caplog.text.count("an observer failed at Plugin") == 5, "and nothing else of it was felt"


async def test_discovering_again_loads_what_is_new_changed_or_moved_and_nothing_else(tmp_path: Path) -> None:
    for name in ("same", "changed", "moved"):
        write_plugin(tmp_path, name)
    write_plugin(tmp_path, "bad", b"no")
    async with PluginManager(tmp_path) as manager:
        same, moved = manager.find("same"), manager.find("moved")
        assert "bad.wasm" in str(manager.failures[0])
        write_plugin(tmp_path, "changed", says("changed"))
        write_plugin(tmp_path, "new")
        write_plugin(tmp_path, "bad")
        for suffix in (".wasm", ".toml"):
            (tmp_path / f"moved{suffix}").rename(tmp_path / f"elsewhere{suffix}")
        loaded = await manager.discover_and_load()
        assert [plugin.name for plugin in loaded] == ["bad", "changed", "new"]
        assert not manager.failures
        assert manager.find("same") is same
        assert manager.find("moved") is moved
        assert moved.files.wasm == tmp_path / "elsewhere.wasm"
