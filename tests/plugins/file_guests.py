"""Guests that make the WASI calls one gives them, one after another, and answer with the errno of each.

    script = [open_file("data/x", create=True, write=True), write(4, b"text"), ("fd_close", 4)]
    assert await plugin.run(script) == [SUCCESS, SUCCESS, SUCCESS]

A call is a name and its arguments; a text stands for its pointer and length. Descriptors are given out from the lowest
that is free, the plugin's directory being 3, so the first file is 4. Where a function writes a result is `OUT`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import wasmtime

from tests.guests import data
from warren.manifests import Grant, Limits
from warren.plugins import Outcome
from warren.plugins.checks import check_module
from warren.plugins.engine import Engine
from warren.plugins.files import PluginFiles
from warren.plugins.host import Surroundings
from warren.plugins.plugin_folder import PluginFolder, PluginFolders
from warren.plugins.sandbox import Sandbox
from warren.plugins.wasi_abi import SIGNATURES, WASI_MODULE, Errno, FdFlags, OpenFlags, Rights
from warren.plugins.wasi_descriptors import ALL_RIGHTS

#: Where results, pieces of data and buffers are; texts begin at `TEXTS`.
OUT: Final = 64
ANSWER: Final = 1024
TEXTS: Final = 65_536
BUFFER: Final = 196_608
BUFFER_BYTES: Final = 65_536
PAGES: Final = 6

Call = tuple[Any, ...]


@dataclass(frozen=True)
class Piece:
    """Data that a call reads or writes by one vector, the vector being its argument."""

    content: bytes | None
    length: int


def open_file(
    path: str | bytes,
    *,
    read: bool = False,
    write: bool = False,
    create: bool = False,
    new: bool = False,
    truncate: bool = False,
    directory: bool = False,
    append: bool = False,
    follow: bool = True,
    at: int = 3,
    rights: int | None = None,
    inheriting: int = ALL_RIGHTS,
) -> Call:
    flags = OpenFlags.CREAT * (create or new) | OpenFlags.EXCL * new | OpenFlags.TRUNC * truncate
    flags |= OpenFlags.DIRECTORY * directory
    if rights is None:
        wanted = Rights.FD_READ * read | Rights.FD_WRITE * write
        rights = ALL_RIGHTS & ~(Rights.FD_READ | Rights.FD_WRITE) | wanted
    return ("path_open", at, int(follow), path, flags, rights, inheriting, FdFlags.APPEND * append, OUT)


def write(fd: int, content: bytes, *, at: int | None = None) -> Call:
    piece = Piece(content, len(content))
    return ("fd_write", fd, piece, 1, OUT) if at is None else ("fd_pwrite", fd, piece, 1, at, OUT)


def read(fd: int, length: int, *, at: int | None = None) -> Call:
    piece = Piece(None, length)
    return ("fd_read", fd, piece, 1, OUT) if at is None else ("fd_pread", fd, piece, 1, at, OUT)


def path_call(name: str, *arguments: Any) -> Call:
    return (name, 3, *arguments)


def rename(old: str, new: str) -> Call:
    return ("path_rename", 3, old, 3, new)


def link(old: str, new: str, *, follow: bool = False) -> Call:
    return ("path_link", 3, int(follow), old, 3, new)


def stat(path: str | bytes, *, follow: bool = True) -> Call:
    return ("path_filestat_get", 3, int(follow), path, OUT)


def list_directory(fd: int, *, cookie: int = 0, length: int = 4096) -> Call:
    return ("fd_readdir", fd, BUFFER, length, cookie, OUT)


def scripted(script: Iterable[Call], *, forever: bool = False) -> bytes:
    """A guest that makes these calls and answers their errnos, or makes the last one `forever`."""
    calls = list(script)
    segments, body, place = [], [], TEXTS
    for name, *arguments in calls:
        values: list[int] = []
        for argument in arguments:
            if isinstance(argument, Piece):
                vector = place
                at = vector + 8 if argument.content is not None else BUFFER
                segments.append(data(vector, at.to_bytes(4, "little") + argument.length.to_bytes(4, "little")))
                segments.append(data(vector + 8, argument.content or b""))
                place += 8 + len(argument.content or b"")
                values.append(vector)
            elif isinstance(argument, str | bytes):
                raw = argument.encode() if isinstance(argument, str) else argument
                segments.append(data(place, raw))
                values += [place, len(raw)]
                place += len(raw)
            else:
                values.append(argument)
        assert place < BUFFER
        kinds = SIGNATURES[name].params
        given = " ".join(f"({kind}.const {value})" for kind, value in zip(kinds, values, strict=True))
        body.append(f"(call $note (call ${name} {given}))")
    last = body[-1] if body else ""
    if forever:
        body.append(f"(loop $again {last} (global.set $at (i32.const {ANSWER})) (br $again))")
    imports = "".join(
        f'(import "{WASI_MODULE}" "{name}" {str(signature).replace("(func", f"(func ${name}", 1)})\n'
        for name, signature in SIGNATURES.items()
    )
    head, tail = b'{"success":true,"error":null,"result":"', b'"}'
    text = f"""
(module
  {imports}
  (memory (export "memory") {PAGES})
  (global $at (mut i32) (i32.const {ANSWER}))
  (func (export "allocate") (param i32) (result i32) (i32.const {BUFFER + BUFFER_BYTES}))
  (func $put (param i32)
    (i32.store8 (global.get $at) (local.get 0))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))
  (func $note (param i32)
    (call $put (i32.add (i32.const 48) (i32.div_u (local.get 0) (i32.const 10))))
    (call $put (i32.add (i32.const 48) (i32.rem_u (local.get 0) (i32.const 10))))
    (call $put (i32.const 32)))
  {data(ANSWER - len(head), head)}
  {" ".join(segments)}
  (func (export "handle_request") (param i32 i32) (result i64)
    {" ".join(body)}
    {" ".join(f"(call $put (i32.const {each}))" for each in tail)}
    (i64.or (i64.shl (i64.const {ANSWER - len(head)}) (i64.const 32))
      (i64.extend_i32_u (i32.sub (global.get $at) (i32.const {ANSWER - len(head)}))))))
"""
    return bytes(wasmtime.wat2wasm(text))


@dataclass
class FilePlugin:
    """A plugin with a directory on disk, `root`, and what has become of its latest run."""

    engine: Engine
    grant: Grant
    folder: PluginFolder
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def root(self) -> Path:
        return self.folder.root

    @property
    def last(self) -> Outcome:
        return self.outcomes[-1]

    async def sandbox(self, wasm: bytes) -> Sandbox:
        abi, prepared = check_module(wasm, self.grant.limits.memory_bytes)
        return Sandbox(
            await self.engine.compile(prepared),
            abi,
            self.grant,
            b"{}",
            {},
            surroundings=Surroundings(folder=self.folder),
        )

    async def outcome(self, script: Iterable[Call], *, forever: bool = False) -> Outcome:
        sandbox = await self.sandbox(scripted(script, forever=forever))
        self.outcomes.append(await sandbox.run(b"{}"))
        return self.last

    async def run(self, script: Iterable[Call]) -> list[Errno]:
        outcome = await self.outcome(script)
        assert outcome.kind == "ok", outcome.error
        return [Errno(int(each)) for each in json.loads(outcome.response)["result"].split()]

    async def one(self, *script: Call) -> Errno:
        """The errno of the last call; those before it must do well."""
        *before, last = await self.run(script)
        assert before == [Errno.SUCCESS] * len(before)
        return last

    @property
    def refusals(self) -> list[tuple[str, str, str]]:
        """Of the last run: how severe, which power, what was asked for."""
        return [(one.severity, one.power, one.asked) for one in self.last.audit if one.refusal is not None]

    @property
    def uses(self) -> list[tuple[str, str]]:
        return [(one.power, one.asked) for one in self.last.audit if one.refusal is None]


MakePlugin = Callable[..., Awaitable[FilePlugin]]


async def make_plugin(
    engine: Engine, place: Path, read: tuple[str, ...], write: tuple[str, ...], **limits: Any
) -> FilePlugin:
    granted = Limits(**{"memory_bytes": 1 << 20, "timeout_s": 10.0, **limits})
    grant = Grant("tested", frozenset({"filesystem"}), granted, read_files=read, write_files=write)
    folder = PluginFolders(place / "data").folder(grant, PluginFiles.beside(place / "plugins" / "tested.wasm"))
    assert folder is not None
    return FilePlugin(engine, grant, folder)
