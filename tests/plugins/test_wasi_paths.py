"""Paths that guests give: what they reach, and the errno of all that they must not."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.plugins.file_guests import (
    BUFFER,
    OUT,
    Call,
    FilePlugin,
    MakePlugin,
    link,
    make_plugin,
    open_file,
    path_call,
    read,
    rename,
    stat,
    write,
)
from warren.plugins.engine import Engine
from warren.plugins.wasi_abi import Errno, Rights
from warren.plugins.wasi_descriptors import DIRECTORY_RIGHTS

OK = Errno.SUCCESS


@pytest.fixture
def make(engine: Engine, tmp_path: Path) -> MakePlugin:
    return partial(make_plugin, engine, tmp_path)


@pytest.fixture
async def plugin(make: MakePlugin) -> AsyncIterator[FilePlugin]:
    """May read `in/**` and `both/**`, and write `out/**` and `both/**`; beside its directory is a secret."""
    made = await make(("in/**", "both/**"), ("out/**", "both/**"))
    (made.root.parent / "secret").write_text("secret", encoding="utf-8")
    for name in ("in", "out", "both", "hidden"):
        (made.root / name).mkdir()
        (made.root / name / "file").write_text(name, encoding="utf-8")
    (made.root / "both" / "dir").mkdir()
    (made.root / "in" / "dir").mkdir()
    yield made
    assert (made.root.parent / "secret").read_text(encoding="utf-8") == "secret"


class TestPathsOutOfTheDirectory:
    @pytest.mark.parametrize("path", ["..", "../secret", "in/../../secret", "/etc/passwd", "/", "../../etc/passwd"])
    async def test_they_are_eperm_and_no_honest_guest_s(self, plugin: FilePlugin, path: str) -> None:
        assert await plugin.one(open_file(path, read=True)) is Errno.PERM
        assert plugin.refusals == [("critical", "read_files", path)]

    @pytest.mark.parametrize("call", [
        stat("../secret"),
        open_file("../new", create=True, write=True),
        path_call("path_create_directory", "../new"),
        path_call("path_unlink_file", "../secret"),
        path_call("path_remove_directory", "../tested"),
        ("path_symlink", "x", 3, "../new"),
        path_call("path_readlink", "../secret", BUFFER, 100, OUT),
        path_call("path_filestat_set_times", 1, "../secret", 0, 0, 5),
        rename("both/file", "../new"),
        rename("../secret", "both/new"),
        link("../secret", "both/new"),
        link("both/file", "../new"),
    ], ids=str)  # fmt: skip
    async def test_every_call_with_a_path_answers_so(self, plugin: FilePlugin, call: Call) -> None:
        assert await plugin.one(call) is Errno.PERM
        assert sorted(one.name for one in plugin.root.parent.iterdir()) == ["secret", "tested", "tested.held"]

    async def test_a_way_back_that_stays_inside_is_no_harm(self, plugin: FilePlugin) -> None:
        assert await plugin.one(open_file("in/dir/../../both/./file", read=True)) is OK

    async def test_a_way_back_goes_through_what_is_there(self, plugin: FilePlugin) -> None:
        assert await plugin.one(open_file("in/none/../file", read=True)) is Errno.NOENT
        assert await plugin.one(open_file("in/file/../file", read=True)) is Errno.NOTDIR

    @pytest.mark.parametrize("glob", ["..", "../*", "/etc/*"])
    async def test_a_glob_that_matches_a_way_out_gives_none(self, make: MakePlugin, glob: str) -> None:
        # A manifest with it is refused; but should one get through:
        made = await make((glob, "**"), (glob, "**"))
        (made.root.parent / "secret").write_text("secret", encoding="utf-8")
        assert await made.one(open_file("../secret", read=True)) is Errno.PERM
        assert await made.one(open_file("/etc/passwd", read=True)) is Errno.PERM


class TestWrongPaths:
    @pytest.mark.parametrize(("path", "answer"), [
        ("", Errno.NOENT),
        ("in/none", Errno.NOENT),
        ("in/file/", Errno.NOTDIR),
        ("in/file/x", Errno.NOTDIR),
        ("in/file\0", Errno.INVAL),
        (b"in/\xff", Errno.ILSEQ),
        ("in/" + "x" * 256, Errno.NAMETOOLONG),
        ("in/" + "a/" * 200 + "x", Errno.NOENT),
        ("in/" + "dir/../" * 200 + "file", Errno.NAMETOOLONG),
        ("in/" + "x" * 4094, Errno.NAMETOOLONG),
        ("./" * 2048, OK),
        ("in//./file", OK),
        ("IN/file", Errno.ACCES),
        ("in/FILE", Errno.NOENT),
    ], ids=lambda value: str(value)[:20])  # fmt: skip
    async def test_each_has_its_errno(self, plugin: FilePlugin, path: str | bytes, answer: Errno) -> None:
        assert await plugin.one(stat(path)) is answer

    async def test_4096_bytes_are_a_path_and_4097_are_not(self, plugin: FilePlugin) -> None:
        assert await plugin.one(stat("in" + "/" * 4090 + "file")) is OK
        assert await plugin.one(stat("in" + "/" * 4091 + "file")) is Errno.NAMETOOLONG

    async def test_a_path_outside_memory_ends_the_run(self, plugin: FilePlugin) -> None:
        outcome = await plugin.outcome([("path_open", 3, 0, 1 << 30, 5, 0, 0, 0, 0, OUT)])
        assert (outcome.kind, "outside its memory" in str(outcome.error)) == ("trap", True)


class TestWhatIsGranted:
    @pytest.mark.parametrize(("call", "answer"), [
        (open_file("in/file", read=True), OK),
        (open_file("in/file", write=True), Errno.ACCES),
        (open_file("in/file", read=True, write=True), Errno.ACCES),
        (open_file("in/file", read=True, truncate=True), Errno.ACCES),
        (open_file("in/file", read=True, create=True), OK),
        (open_file("in/new", read=True, create=True), Errno.ACCES),
        (open_file("out/file", write=True), OK),
        (open_file("out/file", read=True), Errno.ACCES),
        (open_file("out/file", read=True, write=True), Errno.ACCES),
        (open_file("out/file"), Errno.ACCES),
        (open_file("out/new", write=True, create=True), OK),
        (open_file("out/new", read=True, create=True), Errno.ACCES),
        (open_file("both/file", read=True, write=True), OK),
        (open_file("both/new", read=True, write=True, create=True), OK),
        (open_file("hidden/file", read=True), Errno.ACCES),
        (open_file("hidden/none", read=True), Errno.ACCES),
        (open_file("hidden", directory=True), Errno.ACCES),
        (open_file("new", create=True, write=True), Errno.ACCES),
        (open_file(".", directory=True), OK),
        (open_file("in", directory=True), OK),
        (open_file("in/file", directory=True), Errno.NOTDIR),
        (open_file("in", read=True), OK),
        (open_file("both", write=True), Errno.ISDIR),
        (open_file("both", create=True), Errno.ISDIR),
        (open_file("both/file", new=True, write=True), Errno.EXIST),
        (open_file("both/dir", new=True, write=True), Errno.EXIST),
        (open_file("both/new/", create=True, write=True), Errno.ISDIR),
        (open_file("both/new", create=True, directory=True), Errno.INVAL),
        (stat("in/file"), OK),
        (stat("out/file"), OK),
        (stat("hidden/file"), Errno.ACCES),
        (path_call("path_create_directory", "both/new"), OK),
        (path_call("path_create_directory", "both/new/"), OK),
        (path_call("path_create_directory", "both/dir"), Errno.EXIST),
        (path_call("path_create_directory", "both/none/new"), Errno.NOENT),
        (path_call("path_create_directory", "in/new"), Errno.ACCES),
        (path_call("path_create_directory", "new"), Errno.ACCES),
        (path_call("path_remove_directory", "both/dir"), OK),
        (path_call("path_remove_directory", "both"), Errno.NOTEMPTY),
        (path_call("path_remove_directory", "both/file"), Errno.NOTDIR),
        (path_call("path_remove_directory", "in/dir"), Errno.ACCES),
        (path_call("path_remove_directory", "."), Errno.BUSY),
        (path_call("path_unlink_file", "both/file"), OK),
        (path_call("path_unlink_file", "both/file/"), Errno.NOTDIR),
        (path_call("path_unlink_file", "both/dir"), Errno.ISDIR),
        (path_call("path_unlink_file", "both/none"), Errno.NOENT),
        (path_call("path_unlink_file", "in/file"), Errno.ACCES),
        (path_call("path_filestat_set_times", 1, "both/file", 0, 0, 5), OK),
        (path_call("path_filestat_set_times", 1, "both/file", 0, 0, 3), Errno.INVAL),
        (path_call("path_filestat_set_times", 1, "in/file", 0, 0, 5), Errno.ACCES),
        (("path_symlink", "file", 3, "both/link"), Errno.PERM),
        (path_call("path_readlink", "both/file", BUFFER, 100, OUT), Errno.INVAL),
        (rename("both/file", "both/new"), OK),
        (rename("both/file", "out/new"), OK),
        (rename("out/file", "out/new"), OK),
        (rename("both/dir", "both/new"), OK),
        (rename("both/file", "both/file"), OK),
        (rename("both/file", "both/dir"), Errno.ISDIR),
        (rename("both/file", "both/new/"), Errno.NOTDIR),
        (rename("both/dir", "both/dir/sub"), Errno.INVAL),
        (rename("both/none", "both/new"), Errno.NOENT),
        (link("both/file", "both/new"), OK),
        (link("both/file", "both/dir"), Errno.EXIST),
        (link("both/dir", "both/new"), Errno.PERM),
    ], ids=str)  # fmt: skip
    async def test_each_call_answers(self, plugin: FilePlugin, call: Call, answer: Errno) -> None:
        assert await plugin.one(call) is answer
        severities = {severity for severity, _, _ in plugin.refusals}
        assert severities == ({"warning"} if answer is Errno.ACCES or call[0] == "path_symlink" else set())

    @pytest.mark.parametrize("call", [rename, link])
    @pytest.mark.parametrize(("old", "new"), [
        ("in/file", "both/new"),  # what was for reading would be for writing
        ("both/file", "in/new"),  # what cannot be written would be
        ("out/file", "both/new"),  # what cannot be read would be
        ("hidden/file", "both/new"),
        ("both/file", "hidden/new"),
    ])  # fmt: skip
    async def test_no_other_name_gives_other_rights(
        self, plugin: FilePlugin, call: Callable[[str, str], Call], old: str, new: str
    ) -> None:
        assert await plugin.one(call(old, new)) is Errno.ACCES
        assert (plugin.root / old).exists()
        assert not (plugin.root / new).exists()

    async def test_a_directory_is_moved_only_where_all_below_it_is_granted(self, make: MakePlugin) -> None:
        made = await make((), ("a/**", "b/*", "c/d"))
        for name in ("a/x", "b", "c"):
            (made.root / name).mkdir(parents=True)
        assert await made.one(rename("a/x", "b/x")) is Errno.ACCES
        assert await made.one(rename("a/x", "c/d")) is Errno.ACCES
        assert await made.one(rename("a/x", "a/y")) is OK

    async def test_a_directory_for_writing_alone_is_not_moved_to_where_it_could_be_read(
        self, plugin: FilePlugin
    ) -> None:
        (plugin.root / "out" / "dir").mkdir()
        assert await plugin.one(rename("out/dir", "both/new")) is Errno.ACCES

    async def test_the_way_to_what_may_be_written_can_be_made(self, make: MakePlugin) -> None:
        made = await make((), ("cache/v1/*.json",))
        script = [
            path_call("path_create_directory", "cache"),
            path_call("path_create_directory", "cache/v1"),
            open_file("cache/v1/a.json", create=True, write=True),
        ]
        assert await made.run(script) == [OK] * 3
        assert await made.one(path_call("path_create_directory", "cache/v2")) is Errno.ACCES
        assert await made.one(open_file("cache/v1/a.txt", create=True, write=True)) is Errno.ACCES

    async def test_what_lies_on_the_way_and_is_a_file_is_not_told_of(
        self, plugin: FilePlugin, make: MakePlugin
    ) -> None:
        made = await make(("in/file/x",), ())
        assert await made.one(stat("in/file")) is Errno.ACCES
        assert plugin.root == made.root

    async def test_without_globs_for_writing_there_is_no_writing_and_no_ledger(self, make: MakePlugin) -> None:
        made = await make(("**",), ())
        (made.root / "file").write_text("x", encoding="utf-8")
        assert await made.one(open_file("file", read=True)) is OK
        for call in (open_file("new", create=True, write=True), path_call("path_unlink_file", "file")):
            assert await made.one(call) is Errno.ACCES
        assert not (made.root.parent / "tested.held").exists()


class TestLinks:
    """A guest makes none; an operator may have."""

    async def test_one_that_leads_to_what_is_granted_is_followed(self, plugin: FilePlugin) -> None:
        (plugin.root / "in" / "link").symlink_to("../both/./dir/../file")
        assert await plugin.one(open_file("in/link", read=True)) is OK
        assert plugin.uses == [("read_files", "both/file")]

    @pytest.mark.parametrize(("target", "answer"), [
        ("../../secret", Errno.PERM),
        ("/etc/passwd", Errno.PERM),
        ("/", Errno.PERM),
        ("../..", Errno.PERM),
        ("../hidden/file", Errno.ACCES),
        ("../out/file", Errno.ACCES),
        ("link", Errno.LOOP),
        ("none", Errno.NOENT),
    ])  # fmt: skip
    @pytest.mark.parametrize("slash", ["", "/", "/.", "/secret"])
    async def test_one_that_leads_elsewhere_is_not(
        self, plugin: FilePlugin, target: str, answer: Errno, slash: str
    ) -> None:
        (plugin.root / "in" / "link").symlink_to(target)
        answers = {answer, Errno.NOTDIR} if slash and target == "../out/file" else {answer}
        assert await plugin.one(open_file(f"in/link{slash}", read=True)) in answers
        assert await plugin.one(stat(f"in/link{slash}")) in {*answers, OK if target == "../out/file" else answer}

    async def test_one_in_the_middle_of_a_path_is_no_way_out(self, plugin: FilePlugin) -> None:
        (plugin.root / "both" / "up").symlink_to("../..")
        assert await plugin.one(open_file("both/up/secret", read=True)) is Errno.PERM
        assert plugin.refusals == [("warning", "read_files", "both/up/secret")]
        assert await plugin.one(open_file("both/up/new", create=True, write=True)) is Errno.PERM
        assert await plugin.one(path_call("path_unlink_file", "both/up/secret")) is Errno.PERM

    async def test_one_that_must_not_be_followed_is_eloop(self, plugin: FilePlugin) -> None:
        (plugin.root / "both" / "link").symlink_to("file")
        assert await plugin.one(open_file("both/link", read=True, follow=False)) is Errno.LOOP
        assert await plugin.one(open_file("both/link", write=True, new=True)) is Errno.EXIST
        assert await plugin.one(stat("both/link", follow=False)) is OK

    async def test_nothing_is_made_where_one_leads_out_of_what_is_granted(self, plugin: FilePlugin) -> None:
        (plugin.root / "both" / "link").symlink_to("../hidden/new")
        assert await plugin.one(open_file("both/link", create=True, write=True)) is Errno.ACCES
        assert not (plugin.root / "hidden" / "new").exists()

    async def test_what_one_holds_is_told_unless_it_is_of_the_host(self, plugin: FilePlugin) -> None:
        (plugin.root / "in" / "near").symlink_to("file")
        (plugin.root / "in" / "far").symlink_to("/etc/passwd")
        assert await plugin.one(path_call("path_readlink", "in/near", BUFFER, 2, OUT)) is OK
        assert await plugin.one(path_call("path_readlink", "in/far", BUFFER, 100, OUT)) is Errno.PERM

    async def test_one_is_unlinked_and_moved_and_what_it_leads_to_is_not(self, plugin: FilePlugin) -> None:
        (plugin.root / "both" / "link").symlink_to("../../secret")
        assert await plugin.one(rename("both/link", "both/moved")) is OK
        assert await plugin.one(path_call("path_unlink_file", "both/moved")) is OK

    async def test_a_chain_of_41_is_too_long(self, plugin: FilePlugin) -> None:
        target = "file"
        for number in range(41):
            (plugin.root / "in" / f"{number}").symlink_to(target)
            target = f"{number}"
        assert await plugin.one(open_file("in/39", read=True)) is OK
        assert await plugin.one(open_file("in/40", read=True)) is Errno.LOOP


class TestWhatIsNoFile:
    async def test_a_pipe_is_not_opened_nor_waited_for(self, plugin: FilePlugin) -> None:
        os.mkfifo(plugin.root / "both" / "pipe")
        for call in (open_file("both/pipe", read=True), open_file("both/pipe", write=True)):
            assert await plugin.one(call) is Errno.ACCES
            assert plugin.refusals == [("warning", "read_files", "both/pipe")]

    async def test_a_socket_is_not_opened(self, plugin: FilePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(plugin.root / "both")  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            assert await plugin.one(open_file("both/socket", read=True)) is Errno.ACCES

    async def test_a_device_is_not_opened(self, plugin: FilePlugin) -> None:
        try:
            os.mknod(plugin.root / "in" / "zero", 0o020666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root can make a device")
        assert await plugin.one(open_file("in/zero", read=True)) is Errno.ACCES


class TestDirectoriesThatWereOpened:
    async def test_paths_are_looked_up_from_them(self, plugin: FilePlugin) -> None:
        script = [open_file("both", directory=True), open_file("file", read=True, at=4), stat("both/file")]
        assert await plugin.run(script) == [OK] * 3

    async def test_they_are_no_way_out_nor_to_what_is_not_granted(self, plugin: FilePlugin) -> None:
        opened = open_file("both", directory=True)
        assert await plugin.one(opened, open_file("../in/file", read=True, at=4)) is OK
        assert await plugin.one(opened, open_file("../hidden/file", read=True, at=4)) is Errno.ACCES
        assert await plugin.one(opened, open_file("../../secret", read=True, at=4)) is Errno.PERM

    async def test_one_that_was_moved_is_not_there_any_more(self, plugin: FilePlugin) -> None:
        script = [open_file("both/dir", directory=True), rename("both/dir", "both/new")]
        assert await plugin.one(*script, open_file("x", create=True, write=True, at=4)) is Errno.NOENT

    @pytest.mark.parametrize(("rights", "call"), [
        (Rights.PATH_OPEN, open_file("file", read=True, at=4)),
        (Rights.PATH_CREATE_FILE, open_file("new", create=True, write=True, at=4)),
        (Rights.PATH_FILESTAT_SET_SIZE, open_file("file", truncate=True, write=True, at=4)),
        (Rights.PATH_FILESTAT_GET, ("path_filestat_get", 4, 0, "file", OUT)),
        (Rights.PATH_UNLINK_FILE, ("path_unlink_file", 4, "file")),
        (Rights.PATH_RENAME_SOURCE, ("path_rename", 4, "file", 3, "both/new")),
        (Rights.PATH_RENAME_TARGET, ("path_rename", 3, "both/file", 4, "new")),
        (Rights.FD_READDIR, ("fd_readdir", 4, BUFFER, 100, 0, OUT)),
        (Rights.PATH_CREATE_DIRECTORY, ("path_create_directory", 4, "new")),
    ], ids=lambda value: value.name if isinstance(value, Rights) else "")  # fmt: skip
    async def test_what_they_were_not_opened_for_is_enotcapable(
        self, plugin: FilePlugin, rights: Rights, call: Call
    ) -> None:
        lacking = open_file("both", directory=True, rights=DIRECTORY_RIGHTS & ~rights)
        assert await plugin.one(lacking, call) is Errno.NOTCAPABLE
        assert await plugin.one(open_file("both", directory=True), call) is OK

    async def test_what_is_opened_below_has_no_more_rights_than_they_pass_on(self, plugin: FilePlugin) -> None:
        reading = open_file("both", directory=True, inheriting=int(Rights.FD_READ))
        assert await plugin.one(reading, open_file("file", write=True, at=4)) is Errno.NOTCAPABLE
        assert await plugin.one(reading, open_file("file", read=True, at=4), read(5, 4)) is OK
        assert await plugin.one(reading, open_file("file", read=True, at=4), write(5, b"x")) is Errno.NOTCAPABLE
