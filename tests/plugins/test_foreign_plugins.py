"""Programs and plugins that nobody wrote for Warren: as they come from their makers, they run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import pytest

from tests.guests import write_plugin
from warren.manifests import Policy
from warren.plugins import Outcome, PluginManager

COUNT_VOWELS: Final = (Path(__file__).parent / "extism" / "count_vowels.wasm").read_bytes()

#: Its own words: it tells a setting, and a variable that it has just set.
COUNTED: Final = {"count": 3, "config": "a thing", "a": "this is var a"}

ESBUILD: Final = """
[capabilities]
required = ["compute"]
[runtime]
args = ["--minify", "--log-limit=1"]
streams = "text"
[actions.minify]
request = { type = "string" }
"""

#: Extism's plugin in the package `extism-func-gen`: it keeps a function in JavaScript, and then calls it.
FUNC_GEN: Final = """
[capabilities]
required = ["compute", "storage"]
[runtime]
variables = "storage"
"""

SCRIPT: Final = "function hello(name) {\n  // greet\n  return 'Hi, ' + name;\n}\nconsole.log(hello('x'));\n"


def npm(folder: Path, *arguments: str) -> str:
    """What npm says; the test is skipped where it is not installed, or cannot get what it is asked for."""
    program = shutil.which("npm")
    if program is None:
        pytest.skip("npm is not installed; it comes with Node.js: apt-get install npm")
    ended = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"npm {' '.join(arguments)}: {ended.stderr.strip()[:500]}")
    return ended.stdout


def wheel(folder: Path, requirement: str) -> ZipFile:
    """A package of the Python registry; the test is skipped where it cannot be had."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    ended = subprocess.run(download, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"pip download {requirement}: {ended.stderr.strip()[:500]}")
    [package] = folder.glob("*.whl")
    return ZipFile(package)


async def run(folder: Path, *requests: Any, **options: Any) -> list[Outcome]:
    """What the one plugin in `folder` makes of the requests; the options are the manager's."""
    async with PluginManager(folder, **options) as manager:
        assert not manager.failures
        [plugin] = manager.plugins()
        return [await plugin.run(json.dumps(request).encode()) for request in requests]


async def assert_counts_vowels(folder: Path, wasm: bytes) -> None:
    write_plugin(folder, "vowels", wasm, '[settings]\nthing = "a thing"\n')
    counted, unknown = await run(
        folder, {"action": "count_vowels", "data": "hello world"}, {"action": "count_consonants", "data": ""}
    )
    assert counted.kind == "ok", counted
    assert json.loads(counted.response)["result"] == COUNTED
    assert unknown.error == "unknown action 'count_consonants'; the plugin exports: 'count_vowels'"


async def test_extisms_own_example_runs(tmp_path: Path) -> None:
    await assert_counts_vowels(tmp_path, COUNT_VOWELS)


@pytest.mark.toolchain
async def test_extisms_own_example_runs_as_its_pdk_builds_it_now(tmp_path: Path) -> None:
    npm(tmp_path, "install", "--no-audit", "--no-fund", "--silent", "@extism/as-pdk@1", "assemblyscript@0.28")
    package, built = tmp_path / "node_modules" / "@extism" / "as-pdk", tmp_path / "built.wasm"
    npm(package, "exec", "--no", "--", "asc", "example.ts", "--outFile", str(built), "--use", "abort=example/myAbort")
    await assert_counts_vowels(tmp_path / "plugins", built.read_bytes())


@pytest.mark.toolchain
async def test_a_plugin_that_extisms_authors_built_runs_functions_in_javascript(tmp_path: Path) -> None:
    package, folder = wheel(tmp_path, "extism-func-gen==0.4.0"), tmp_path / "plugins"
    write_plugin(folder, "func_gen", package.read("func_gen/eval.wasm"), FUNC_GEN)
    vowels = "module.exports = function (text) { return text.match(/[aeiou]/g).length }"
    unknown, registered, called, broken = await run(
        folder,
        {"action": "invoke", "data": "hello world"},
        {"action": "register_function", "data": vowels},
        {"action": "invoke", "data": "hello world"},
        {"action": "invoke", "data": "hm"},
        policy=Policy(capabilities=frozenset({"compute", "storage"})),
        storage=f"sqlite:///{tmp_path}/storage.db",
    )
    assert (unknown.kind, registered.kind) == ("failed", "ok")
    assert json.loads(called.response)["result"] == 3
    assert broken.kind == "failed"  # nothing matches


@pytest.mark.toolchain
@pytest.mark.timeout(300)  # esbuild's 20 MB take half a minute to compile
async def test_esbuild_minifies_a_script(tmp_path: Path) -> None:
    package = npm(tmp_path, "pack", "--silent", "@esbuild/wasi-preview1@0.27").strip()
    shutil.unpack_archive(tmp_path / package, tmp_path)
    folder = tmp_path / "plugins"
    write_plugin(folder, "esbuild", (tmp_path / "package" / "esbuild.wasm").read_bytes(), ESBUILD)
    minified, wrong, rejected = await run(
        folder,
        {"action": "minify", "data": SCRIPT},
        {"action": "minify", "data": "let let = 1"},
        {"action": "bundle", "data": SCRIPT},
    )
    assert minified.kind == "ok", minified
    assert json.loads(minified.response)["result"] == 'function hello(o){return"Hi, "+o}console.log(hello("x"));\n'
    assert wrong.kind == "failed"
    assert any('Cannot use "let" as an identifier' in line.text for line in wrong.logs)
    assert rejected.kind == "rejected"
