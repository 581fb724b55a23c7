"""PluginManager: what it loads and what not, how it finds, counts, and lets go."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.guests import OK, answering, ask, wat, write_plugin
from warren.manifests import Limits, ManifestError, Policy, VersionReq
from warren.plugins import LoadFailed, PluginError, PluginManager, PluginNotFound, host_function

FAILED = b'{"success":false,"result":null,"error":"no"}'
TYPED = '[actions.get]\n[actions.get.response]\ntype = "integer"\n'


def export(name: str, body: str, parameters: str = "") -> str:
    return f'(func (export "{name}") {parameters} (result i32) {body})'


TIME = ask("get_time")


async def test_one_plugin_is_loaded_and_run(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "a"))
        assert (plugin.name, plugin.version) == ("a", "1.0.0")
        assert (await plugin.run(b"{}")).response == OK


async def test_entering_loads_the_folder(tmp_path: Path) -> None:
    write_plugin(tmp_path, "b", stem="some-file")
    write_plugin(tmp_path / "deep", "a")
    async with PluginManager(str(tmp_path)) as manager:
        assert [info.name for info in manager.list_plugins()] == ["a", "b"], "by their manifests, not their files"
        assert manager.failures == ()


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="there is no such folder of plugins"):
        async with PluginManager(tmp_path / "missing"):
            pass
    with pytest.raises(PluginError, match="no folder of plugins"):
        await PluginManager().discover_and_load()


BAD = {
    "a module that is none": (b"hello", "", "this is not WebAssembly"),
    "an empty module": (b"", "", ""),
    "no exports": (b"\0asm\1\0\0\0", "", "does not export"),
    "a failing initialize": (
        wat(more=export("initialize", "(i32.const -1)", "(param i32 i32)")),
        "",
        "`initialize` returned -1, not 0",
    ),
    "a sick guest": (wat(more=export("health_check", "(i32.const 0)")), "", "`health_check` returned 0, not 1"),
    "an endless start": (wat(more="(func $s (loop (br 0))) (start $s)"), "", "used up its 10,000,000 units of fuel"),
    "too much memory": (wat(), "[resources]\nmemory_mb = 0", "memory_mb"),
    "an unknown key": (wat(), "[nonsense]", "nonsense"),
    "a capability not granted": (wat(), '[capabilities]\nrequired = ["network"]', "'network', which is not granted"),
    "another ABI": (wat(), '[runtime]\nabi = "extism"', "abi = 'extism', and the module is 'core'"),
    "a snapshot of a talk": (
        wat(more=export("initialize", f"(drop {TIME[0]}) (i32.const 0)", "(param i32 i32)") + TIME[1]),
        "[runtime]\nsnapshot = true",
        "calls the host function 'get_time'",
    ),
    "a schema that is none": (wat(), '[actions.x.request]\ntype = "what"', "[actions.x] request: not a JSON Schema"),
    "a schema elsewhere": (wat(), '[actions.x.request]\n"$ref" = "http://example.com/"', "are not followed"),
    "no TOML": (wat(), "[[[", ""),
    "deep TOML": (wat(), "x = " + "[" * 5000 + "]" * 5000, ""),
}


@pytest.mark.parametrize(("wasm", "manifest", "reason"), BAD.values(), ids=BAD.keys())
async def test_a_bad_plugin_is_named_and_keeps_no_other_from_loading(
    wasm: bytes, manifest: str, reason: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "bad", wasm, manifest)
    write_plugin(tmp_path, "good")
    async with PluginManager(tmp_path) as manager:
        assert [plugin.name for plugin in manager.plugins()] == ["good"]
        [failure] = manager.failures
        assert isinstance(failure, PluginError | ManifestError)
        assert str(tmp_path / "bad.") in str(failure)
        assert reason in str(failure)


async def test_a_module_larger_than_the_plugin_s_memory_is_refused(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with PluginManager(policy=Policy(limits=Limits(memory_bytes=65_536))) as manager:
        with pytest.raises(LoadFailed, match=r"a\.wasm: starts with 131,072 bytes of memory; its limit is 65,536"):
            await manager.load_plugin(path)


async def test_a_module_that_does_not_compile_is_named(tmp_path: Path) -> None:
    broken = wat().replace(b"\x42\x20\x86", b"\x42\x20\x6a")  # i64.shl become i32.add
    assert broken != wat()
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match=r"a\.wasm: the module does not compile: "):
            await manager.load_plugin(write_plugin(tmp_path, "a", broken))


async def test_the_same_plugin_from_two_files_is_refused(tmp_path: Path) -> None:
    first, second = write_plugin(tmp_path, "a", stem="one"), write_plugin(tmp_path, "a", stem="two")
    async with PluginManager(tmp_path) as manager:
        assert [plugin.files.wasm for plugin in manager.plugins()] == [first]
        assert str(manager.failures[0]) == f"{second}: a 1.0.0 is loaded from {first} already"


async def test_the_same_plugin_from_two_files_at_once_is_refused_too(tmp_path: Path) -> None:
    paths = [write_plugin(tmp_path, "a", stem=stem) for stem in ("one", "two")]
    async with PluginManager(max_plugins=1) as manager:
        ends = await asyncio.gather(*map(manager.load_plugin, paths), return_exceptions=True)
        assert sum(isinstance(end, LoadFailed) for end in ends) == 1
        assert len(manager.plugins()) == 1


async def test_the_same_files_may_be_loaded_again(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "a")
    async with PluginManager(max_plugins=1) as manager:
        await manager.load_plugin(path)
        write_plugin(tmp_path, "a", answering(FAILED))
        await manager.load_plugin(path.with_suffix(".toml"))
        assert (await manager.find("a").run(b"{}")).kind == "failed"


async def test_no_more_plugins_are_loaded_than_allowed(tmp_path: Path) -> None:
    for name in "abc":
        write_plugin(tmp_path, name)
    async with PluginManager(tmp_path, max_plugins=2) as manager:
        assert len(manager.plugins()) == 2
        assert "c.wasm: 2 plugins are loaded, which is the most allowed" in str(manager.failures[0])


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        (None, "2.1.0"),
        ("*", "2.1.0"),
        ("^1", "1.10.0"),
        ("=1.2.0", "1.2.0"),
        ("<1.5", "1.2.0"),
        ("=3.0.0-beta.1", "3.0.0-beta.1"),
    ],
)
async def test_the_highest_version_that_the_requirement_admits_is_found(
    requirement: str | None, found: str, tmp_path: Path
) -> None:
    versions = ("1.2.0", "1.10.0", "2.1.0") + (("3.0.0-beta.1",) if found.startswith("3") else ())
    for version in versions:
        write_plugin(tmp_path, "a", version=version, stem=f"a-{version.replace('.', '-')}")
    async with PluginManager(tmp_path) as manager:
        assert manager.find("a", None if requirement is None else VersionReq.parse(requirement)).version == found


async def test_what_is_not_found_is_told_with_what_there_is(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a"))
        with pytest.raises(PluginNotFound, match="no plugin 'b' is loaded"):
            manager.find("b")
        with pytest.raises(PluginNotFound, match=r"no version of plugin 'a' matches '\^2'; loaded: 1\.0\.0"):
            manager.find("a", VersionReq.parse("^2"))


async def test_runs_and_failures_are_counted(tmp_path: Path) -> None:
    write_plugin(tmp_path, "good")
    write_plugin(tmp_path, "saying_no", answering(FAILED))
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with PluginManager(tmp_path) as manager:
        for name in ("good", "saying_no", "broken"):
            await asyncio.gather(*(manager.find(name).run(b"{}") for _ in range(3)))
        counts = {
            info.name: (info.execution_count, info.failure_count, info.last_error) for info in manager.list_plugins()
        }
    assert counts == {
        "good": (3, 0, None),
        "saying_no": (3, 0, None),
        "broken": (3, 3, "the guest aborted (unreachable)"),
    }


async def test_an_answer_against_its_schema_is_counted_as_a_failure(tmp_path: Path) -> None:
    wasm = answering('{"success":true,"result":"x","error":null}')
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "a", wasm, TYPED))
        outcome = await plugin.run(b'{"action":"get","data":null}')
        assert (outcome.kind, outcome.response) == ("trap", b"")
        assert (await plugin.run(b'{"action":"other","data":null}')).kind == "rejected"
        assert plugin.info().failure_count == 2


async def test_an_unloaded_plugin_is_gone_and_its_runs_under_way_end_well(tmp_path: Path) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    @host_function()
    async def wait() -> None:
        waiting.set()
        await go_on.wait()

    call, segment = ask("wait")
    path = write_plugin(tmp_path, "a", wat(f"(drop {call}) (call $answer)", more=segment))
    async with PluginManager(host_functions=[wait]) as manager:
        plugin = await manager.load_plugin(path)
        run = asyncio.create_task(plugin.run(b"{}"))
        await waiting.wait()
        await manager.unload_plugin("a", "1.0.0")
        with pytest.raises(PluginNotFound):
            manager.find("a")
        del plugin
        go_on.set()
        assert (await run).kind == "ok"
        with pytest.raises(PluginNotFound):
            await manager.unload_plugin("a", "1.0.0")


async def test_closing_lets_every_plugin_shut_down_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_plugin(tmp_path, "a", wat(more=export("shutdown", "(i32.const 5)")))
    manager = PluginManager(tmp_path)
    async with manager:
        pass
    with caplog.at_level(logging.WARNING, "warren.plugins.manager"):
        await manager.close()
    assert [record.message for record in caplog.records if "shut down" in record.message] == [
        "a 1.0.0 did not shut down well: the guest's `shutdown` returned 5, not 0"
    ]


async def test_initialize_is_given_settings_resources_and_capabilities(tmp_path: Path) -> None:
    """The guest logs its configuration, which is how one can read it."""
    initialize = export("initialize", "(call $say (local.get 0) (local.get 1)) (i32.const 0)", "(param i32 i32)")
    extra = '[settings]\nmodel = "small"\n[resources]\nmemory_mb = 2\n[capabilities]\nrequired = ["compute"]\n'
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "a", wat(more=initialize), extra))
        [line] = (await plugin.run(b"{}")).logs
    assert '"settings":{"model":"small"}' in line.text
    assert '"memory_bytes":2097152' in line.text
    assert '"capabilities":["compute"]' in line.text
