"""Files through WASI: real programs find them, limits hold, and nothing outlives its run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.guests import write_plugin
from tests.plugins.file_guests import (
    OUT,
    FilePlugin,
    MakePlugin,
    list_directory,
    make_plugin,
    open_file,
    path_call,
    read,
    rename,
    scripted,
    stat,
    write,
)
from warren.manifests import Grant, Policy
from warren.plugins import PluginManager, data_folder
from warren.plugins.checks import check_module
from warren.plugins.engine import Engine
from warren.plugins.errors import LoadFailed, ModuleRefused, NotForShadows
from warren.plugins.file_quota import ENTRY_BYTES, measured
from warren.plugins.listing import MAX_LISTING_BYTES, MAX_LOOKED_AT
from warren.plugins.snapshot import take_snapshot
from warren.plugins.wasi_abi import Errno
from warren.plugins.wasi_descriptors import open_here

OK = Errno.SUCCESS
LIBC = (Path(__file__).parent / "wasi" / "files.wasm").read_bytes()

CAPABLE = '[capabilities]\nrequired = ["filesystem"]\n[permissions]\nread_files = ["**"]\nwrite_files = ["**"]\n'
FILES_ALLOWED = Policy(capabilities=frozenset({"compute", "filesystem"}))


@pytest.fixture
def make(engine: Engine, tmp_path: Path) -> MakePlugin:
    return partial(make_plugin, engine, tmp_path)


@pytest.fixture(autouse=True)
def no_file_is_left_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir would open one more
    yield
    assert not open_here
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # noqa: PTH208 - the loop's own


def held(plugin: FilePlugin) -> int:
    """What the ledger says, which must be what there is."""
    ledger = plugin.folder.ledger
    assert ledger is not None
    with ledger.changing(0) as account:
        used = -account.room
    assert used == measured(plugin.root)
    return used


async def libc(plugin: FilePlugin, *commands: str) -> list[str]:
    outcome = await (await plugin.sandbox(LIBC)).run("\n".join(commands).encode())
    assert outcome.kind == "ok", outcome.error
    result: list[str] = json.loads(outcome.response)["result"]
    return result


class TestALibc:
    async def test_it_reads_writes_lists_and_moves_with_paths_of_either_kind(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), max_fuel=100_000_000)
        assert await libc(
            plugin,
            "mkdir data", "write data/x.txt hello", "read data/x.txt", "read /data/x.txt", "append data/x.txt -you",
            "patch data/x.txt", "stat data/x.txt", "name data/x.txt data/y.txt", "klink data/y.txt data/z",
            "list data", "truncate data/y.txt 2", "read data/z", "unlink data/y.txt", "unlink data/z", "drop data",
            "list .",
        ) == [
            "done", "done", "hello", "hello", "done",
            "hel", "file 9", "done", "done",
            ". .. y.txt z", "done", "he", "done", "done", "done",
            ". ..",
        ]  # fmt: skip
        assert held(plugin) == 0

    async def test_it_is_told_what_it_may_not(self, make: MakePlugin) -> None:
        plugin = await make(("in/*",), ())
        (plugin.root / "in").mkdir()
        (plugin.root / "in" / "x").write_text("x", encoding="utf-8")
        assert await libc(plugin, "read in/x", "write in/x y", "read other", "read ../x", "ysym x in/y", "list in") == [
            "x", "Permission denied", "Permission denied", "Operation not permitted", "Operation not permitted",
            ". .. x",
        ]  # fmt: skip

    async def test_it_counts_a_large_directory(self, make: MakePlugin) -> None:
        plugin = await make(("many/*",), (), max_fuel=100_000_000)
        (plugin.root / "many").mkdir()
        for number in range(3_000):
            (plugin.root / "many" / f"{number}").touch()
        assert await libc(plugin, "count many") == ["3002"]


class TestLimits:
    async def test_one_file_too_many_is_emfile(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), max_open_files=3)
        opens = [open_file(name, create=True, write=True) for name in "abcd"]
        assert await plugin.run([*opens, ("fd_close", 5), opens[3]]) == [OK, OK, OK, Errno.MFILE, OK, OK]
        assert ("warning", "max_open_files", "d") in plugin.refusals

    async def test_the_last_byte_of_the_quota_may_be_written_and_no_more(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), files_bytes=ENTRY_BYTES + 10)
        script = [open_file("x", create=True, write=True), write(4, b"12345"), write(4, b"67890"), write(4, b"!")]
        assert await plugin.run(script) == [OK, OK, OK, Errno.DQUOT]
        assert (plugin.root / "x").read_bytes() == b"1234567890"
        assert ("warning", "files_bytes", f"{ENTRY_BYTES + 10:,} bytes") in plugin.refusals
        assert held(plugin) == ENTRY_BYTES + 10

    async def test_what_does_not_fit_is_written_as_far_as_it_does(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), files_bytes=ENTRY_BYTES + 3)
        await plugin.run([open_file("x", create=True, write=True), write(4, b"12345")])
        assert (plugin.root / "x").read_bytes() == b"123"

    @pytest.mark.parametrize("call", [
        write(4, b"x", at=100_000),
        ("fd_filestat_set_size", 4, 100_000),
        ("fd_allocate", 4, 99_999, 1),
        path_call("path_create_directory", "d"),
        open_file("y", create=True, write=True),
        ("path_link", 3, 0, "x", 3, "y"),
    ], ids=str)  # fmt: skip
    async def test_holes_lengths_and_names_count_too(self, make: MakePlugin, call: tuple[object, ...]) -> None:
        plugin = await make(("**",), ("**",), files_bytes=ENTRY_BYTES + 100)
        assert await plugin.one(open_file("x", create=True, write=True), call) is Errno.DQUOT
        assert held(plugin) == ENTRY_BYTES

    async def test_what_is_removed_may_be_used_again(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), files_bytes=ENTRY_BYTES + 10)
        once = [open_file("x", create=True, write=True), write(4, b"1234567890"), ("fd_close", 4)]
        assert await plugin.run([*once, path_call("path_unlink_file", "x")] * 3) == [OK] * 12
        assert held(plugin) == 0

    async def test_an_unlinked_file_counts_until_it_is_closed(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), files_bytes=2 * ENTRY_BYTES + 10)
        script = [
            open_file("x", create=True, write=True), write(4, b"1234567890"), path_call("path_unlink_file", "x"),
            open_file("y", create=True, write=True), write(5, b"1"), ("fd_close", 4), write(5, b"1"),
        ]  # fmt: skip
        # The name is given back at once, and that is room enough.
        assert await plugin.run(script) == [OK] * 7
        assert held(plugin) == ENTRY_BYTES + 2

    async def test_what_a_rename_replaces_is_given_back(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",))
        new = [open_file("new", create=True, write=True), write(4, b"12"), ("fd_close", 4), rename("new", "x")]
        await plugin.run(new * 3)
        assert held(plugin) == ENTRY_BYTES + 2

    async def test_processes_that_write_at_once_are_all_counted(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",))
        ledger = plugin.folder.ledger
        assert ledger is not None
        spend = (
            "import sys; from pathlib import Path; from warren.plugins.file_quota import Ledger\n"
            "for _ in range(300):\n"
            "    with Ledger(Path(sys.argv[1]), Path(sys.argv[2])).changing(10**9) as account: account.spend(7)"
        )
        arguments = [sys.executable, "-c", spend, str(plugin.root.with_name("tested.held")), str(plugin.root)]
        running = [await asyncio.create_subprocess_exec(*arguments) for _ in range(3)]
        assert [await one.wait() for one in running] == [0, 0, 0]
        with ledger.changing(0) as account:
            assert -account.room == 3 * 300 * 7
        ledger.measure()
        assert held(plugin) == 0

    async def test_an_operator_s_files_count_once_it_is_loaded_again(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), files_bytes=ENTRY_BYTES)
        (plugin.root / "x").touch()
        again = await make(("**",), ("**",), files_bytes=ENTRY_BYTES)
        assert await again.one(open_file("y", create=True, write=True)) is Errno.DQUOT

    async def test_a_directory_with_few_names_to_show_is_eagain_and_goes_on(self, make: MakePlugin) -> None:
        plugin = await make(("d/*.x",), ())
        (plugin.root / "d").mkdir()
        for number in range(MAX_LOOKED_AT + 10):
            (plugin.root / "d" / f"{number}.y").touch()
        opened = open_file("d", directory=True)
        # From the beginning each time, and then on from where that came to.
        answers = await plugin.run([opened, *[list_directory(4)] * 2, list_directory(4, cookie=2)])
        assert answers == [OK, Errno.AGAIN, Errno.AGAIN, OK]

    async def test_a_buffer_or_a_cookie_that_cannot_be_is_einval(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ())
        for call in (list_directory(3, length=MAX_LISTING_BYTES + 1), list_directory(3, cookie=99)):
            assert await plugin.one(call) is Errno.INVAL

    async def test_reads_and_writes_without_end_run_out_of_fuel(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), max_fuel=1_000_000)
        opened = open_file("x", create=True, write=True, read=True)
        for call in (write(4, b"x" * 1000, at=0), read(4, 65_536, at=0), stat("x")):
            outcome = await plugin.outcome([opened, call], forever=True)
            assert outcome.kind == "out_of_fuel"


class TestDescriptors:
    async def test_positions_ends_and_rights(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",))
        script = [
            open_file("x", create=True, write=True), write(4, b"abc"), ("fd_tell", 4, OUT), ("fd_seek", 4, 1, 0, OUT),
            write(4, b"X"), ("fd_seek", 4, (1 << 64) - 9, 2, OUT), ("fd_seek", 4, 0, 3, OUT), read(4, 1),
            ("fd_fdstat_set_flags", 4, 1), write(4, b"!"), ("fd_fdstat_set_flags", 4, 16),
            ("fd_advise", 4, 0, 0, 6), ("fd_allocate", 4, 0, 0), ("fd_allocate", 4, 0, 6), ("fd_sync", 4),
            ("fd_datasync", 3), ("fd_filestat_get", 4, OUT), ("fd_filestat_get", 3, OUT),
            ("fd_fdstat_set_rights", 4, 0, 0), write(4, b"x"), ("fd_fdstat_set_rights", 4, 64, 0), ("fd_sync", 4),
            ("fd_prestat_get", 3, OUT), ("fd_prestat_get", 4, OUT), ("fd_renumber", 4, 9), ("fd_renumber", 4, 3),
            ("fd_prestat_get", 3, OUT), ("fd_close", 3), ("fd_close", 3), ("fd_sync", 3), ("fd_sync", 1),
        ]  # fmt: skip
        assert await plugin.run(script) == [
            OK, OK, OK, OK,
            OK, Errno.INVAL, Errno.INVAL, Errno.NOTCAPABLE,
            OK, OK, Errno.NOTSUP,
            Errno.INVAL, Errno.INVAL, OK, OK,
            OK, OK, OK,
            OK, Errno.NOTCAPABLE, Errno.NOTCAPABLE, Errno.NOTCAPABLE,
            OK, Errno.BADF, Errno.BADF, OK,
            Errno.NOTDIR, OK, Errno.BADF, Errno.BADF, Errno.BADF,
        ]  # fmt: skip
        assert (plugin.root / "x").read_bytes() == b"aXc!\0\0"

    async def test_a_run_that_is_stopped_leaves_nothing_open(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",), max_fuel=2_000_000)
        outcome = await plugin.outcome([open_file("x", create=True, write=True), list_directory(3)], forever=True)
        assert outcome.kind == "out_of_fuel"
        assert not open_here


class TestWhoGetsFiles:
    async def test_a_shadow_reads_and_must_not_write(self, make: MakePlugin) -> None:
        plugin = await make(("**",), ("**",))
        (plugin.root / "x").write_text("x", encoding="utf-8")
        reading = await plugin.sandbox(scripted([open_file("x", read=True)]))
        assert (await reading.run_shadow(b"{}")).kind == "ok"
        for call in (open_file("y", create=True, write=True), path_call("path_unlink_file", "x"), rename("x", "y")):
            with pytest.raises(NotForShadows):
                await (await plugin.sandbox(scripted([call]))).run_shadow(b"{}")
        assert [one.name for one in plugin.root.iterdir()] == ["x"]

    async def test_a_snapshot_sees_no_files(self, engine: Engine, make: MakePlugin) -> None:
        plugin = await make(("**",), ())
        abi, wasm = check_module(LIBC, 1 << 20)
        with pytest.raises(ModuleRefused, match="no snapshot can be taken of a module that imports 'wasi_snapshot_pre"):
            await take_snapshot(wasm, abi, plugin.grant, b"{}", engine.compile)

    async def test_globs_and_capability_give_a_directory_through_the_manager(self, tmp_path: Path) -> None:
        write_plugin(tmp_path / "plugins", "keeper", scripted([open_file("x", create=True, write=True)]), CAPABLE)
        async with PluginManager(tmp_path / "plugins", policy=FILES_ALLOWED, data=tmp_path / "data") as manager:
            assert await manager.execute_plugin("keeper", "do") == "00 "
        assert (tmp_path / "data" / "keeper" / "x").exists()

    @pytest.mark.parametrize("extra", ["", '[capabilities]\nrequired = ["filesystem"]\n'])
    async def test_the_capability_alone_gives_nothing(self, tmp_path: Path, extra: str) -> None:
        calls = [("fd_prestat_get", 3, OUT), open_file("x", read=True)]
        write_plugin(tmp_path / "plugins", "keeper", scripted(calls), extra)
        async with PluginManager(tmp_path / "plugins", policy=FILES_ALLOWED, data=tmp_path / "data") as manager:
            assert await manager.execute_plugin("keeper", "do") == "08 08 "
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize("data", [".", "plugins", "plugins/data"])
    async def test_files_must_not_lie_among_plugins(self, tmp_path: Path, data: str) -> None:
        path = write_plugin(tmp_path / "plugins" / "deep", "plugins", None, CAPABLE)
        async with PluginManager(tmp_path / "plugins", policy=FILES_ALLOWED, data=tmp_path / data) as manager:
            with pytest.raises(LoadFailed, match="must not lie among plugins"):
                await manager.load_plugin(path)

    async def test_a_folder_that_cannot_be_made_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("no folder", encoding="utf-8")
        path = write_plugin(tmp_path / "plugins", "keeper", None, CAPABLE)
        async with PluginManager(policy=FILES_ALLOWED, data=tmp_path / "data") as manager:
            with pytest.raises(LoadFailed, match="cannot be used: "):
                await manager.load_plugin(path)

    def test_the_data_folder_is_the_operator_s_or_the_user_s(self) -> None:
        assert data_folder({"WARREN_DATA": "/srv/w", "XDG_STATE_HOME": "/state"}) == Path("/srv/w")
        assert data_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/warren")
        home = data_folder({})
        assert home is None or home.parts[-3:] == (".local", "state", "warren")

    def test_a_grant_without_globs_has_none(self) -> None:
        assert Grant("x", frozenset({"filesystem"}), FILES_ALLOWED.limits).read_files == ()
