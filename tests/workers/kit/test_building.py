"""Builds: what they leave, what they refuse, and that a bad one leaves the last good pair."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.guests import wat
from tests.workers.kit.conftest import MANIFEST, TOOLCHAIN, MakeProject, module
from warren.manifests import ManifestError, Policy, parse_manifest
from warren.plugins.module import read_module
from warren.workers.kit import building
from warren.workers.kit.building import Built, build
from warren.workers.kit.errors import BuildFailed, KitError, ToolMissing
from warren.workers.kit.toolchain import read_toolchain


def built(project: Path, plugins: Path | None = None, *, debug: bool = False) -> Built:
    return build(project, plugins=plugins, debug=debug, policy=Policy())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("debug", [False, True])
def test_a_build_leaves_a_pair_and_nothing_else(make_project: MakeProject, *, debug: bool) -> None:
    project = make_project()
    done = built(project, debug=debug)
    assert names(project / "build") == ["hello.toml", "hello.wasm"]
    assert done.files.read_manifest() == parse_manifest(MANIFEST.encode())
    assert done.bytes_before == len(module())
    assert done.bytes_after == done.files.wasm.stat().st_size


def test_the_module_holds_the_manifest_it_was_built_with(make_project: MakeProject) -> None:
    wasm = built(make_project()).files.read_module()
    (section,) = (one for one in read_module(wasm).custom_sections if one.name == "warren.manifest")
    assert wasm[section.start : section.end].decode() == MANIFEST


def test_a_pair_goes_to_the_folder_that_is_named(make_project: MakeProject, tmp_path: Path) -> None:
    built(make_project(), tmp_path / "plugins")
    assert names(tmp_path / "plugins") == ["hello.toml", "hello.wasm"]


def test_a_compiler_that_fails_leaves_the_last_good_pair(make_project: MakeProject) -> None:
    project = make_project()
    good = built(project).files.read_module()
    (project / "source.txt").write_text("broken")
    toolchain = (project / "toolchain.toml").read_text()
    (project / "toolchain.toml").write_text(toolchain.replace('name = "copy"', 'name = "copy"\nprobe = ["-"]', 1))
    (project / "copy.py").write_text("import sys\nsys.exit(3 if len(sys.argv) == 3 else 0)")
    with pytest.raises(BuildFailed, match="exit code 3"):
        built(project)
    assert (project / "build" / "hello.wasm").read_bytes() == good


def test_a_module_that_no_worker_would_load_leaves_the_last_good_pair(make_project: MakeProject) -> None:
    project = make_project()
    good = built(project).files.read_module()
    (project / "source.wasm").write_bytes(b"\0asm\1\0\0\0")
    with pytest.raises(KitError, match=r"build/hello\.wasm: .*handle_request"):
        built(project)
    assert (project / "build" / "hello.wasm").read_bytes() == good
    assert names(project / "build") == ["hello.toml", "hello.wasm"]


def test_what_is_no_webassembly_is_refused(make_project: MakeProject) -> None:
    with pytest.raises(KitError, match="is no WebAssembly"):
        built(make_project(wasm=b"ELF"))


def test_a_compiler_that_writes_nothing_is_told_of(make_project: MakeProject) -> None:
    project = make_project()
    built(project)
    (project / "copy.py").write_text("")
    with pytest.raises(KitError, match="left no module") as refused:
        built(project)
    assert refused.value.hint == "toolchain.toml says where it comes out, as `module`"


def test_a_manifest_that_is_wrong_is_refused_before_anything_runs(make_project: MakeProject) -> None:
    project = make_project(manifest="[plugin]\nname = 1\n")
    with pytest.raises(ManifestError, match=r"plugin\.toml:2: 'name' in \[plugin\]"):
        built(project)
    assert not (project / ".build").exists()


def test_a_folder_without_a_manifest_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="this is no project of a plugin") as refused:
        built(tmp_path)
    assert refused.value.hint == "warren new NAME --lang LANGUAGE makes a project"


def test_a_missing_tool_is_told_with_what_installs_it(make_project: MakeProject) -> None:
    toolchain = TOOLCHAIN.replace(', { run = ["{python}", "copy.py"] }', "").replace('["cp -a"]', '["this", "or that"]')
    with pytest.raises(ToolMissing, match="copy is missing, which builds plugins in Copying") as refused:
        built(make_project(toolchain=toolchain))
    assert refused.value.hint == "install it: this; or: or that"


def test_a_tool_whose_probe_names_no_folder_is_missing(make_project: MakeProject) -> None:
    probe = """probe = ["{python}", "-c", "print('/no/such/folder')"]"""
    text = TOOLCHAIN.replace('run = ["{python}", "copy.py"]', f'run = ["{{python}}", "copy.py"], {probe}')
    built(make_project(toolchain=text))
    with pytest.raises(ToolMissing):
        built(make_project(toolchain=text.replace("install =", "prints_folder = true\ninstall =")))


def test_arguments_with_a_star_are_the_files_they_match(make_project: MakeProject) -> None:
    project = make_project(toolchain=TOOLCHAIN.replace('"source.wasm", "{module}"', '"so*.wasm", "{module}", "*.none"'))
    built(project)
    assert (project / "build" / "hello.wasm").is_file()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("{module}", "{modul}"), "nothing stands for {modul}"),
        (("about", "abuot"), "toolchain.toml: abuot: Extra inputs are not permitted"),
        (('language = "Copying"', "language = 1"), "toolchain.toml: language: Input should be a valid string"),
        (("[debug]", "[debug"), "toolchain.toml: not TOML"),
        (('commands = [["{copy}", "source.wasm", "{module}"]]\n\n', "commands = []\n\n"), "release.commands"),
    ],
)
def test_a_wrong_toolchain_is_told_with_its_key(
    make_project: MakeProject, change: tuple[str, str], problem: str
) -> None:
    with pytest.raises(KitError) as refused:
        built(make_project(toolchain=TOOLCHAIN.replace(*change)))
    assert problem in str(refused.value)


def test_what_wasm_opt_cannot_read_is_left_as_it_is(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "wasm-opt"
    tool.write_text("#!/bin/sh\necho 'Fatal: too new' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    done = built(make_project(toolchain=TOOLCHAIN.replace("[debug]", 'wasm_opt = ["-O2"]\n\n[debug]')))
    assert not done.optimized
    assert done.note == "wasm-opt could not make it smaller, a newer one may: Fatal: too new"
    assert read_module(done.files.read_module()).exports


#: An instruction of each proposal that compilers take for granted.
COMPILED = """
    (global $written (export "written") (mut i32) (i32.const 0))
    (func $two (result i32 i32) (i32.const 1) (i32.const 2))
    (func (export "use") (param f64) (result i32)
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 8))
      (call $two) i32.add
      (i32.add (i32.trunc_sat_f64_s (local.get 0)))
      (i32.add (i32x4.extract_lane 0 (i32x4.splat (i32.const 1))))
      (i32.add (ref.is_null (ref.null func)))
      i32.extend8_s)
"""


@pytest.mark.toolchain
@pytest.mark.skipif(shutil.which(building.OPTIMIZER) is None, reason="apt-get install binaryen")
def test_wasm_opt_makes_it_smaller_whatever_compilers_use(make_project: MakeProject) -> None:
    text = TOOLCHAIN.replace("[debug]", 'wasm_opt = ["-O2"]\n\n[debug]')
    done = built(make_project(toolchain=text, wasm=wat(more=COMPILED)))
    assert (done.optimized, done.note) == (True, None)
    assert read_module(done.files.read_module()).exports


def test_the_toolchain_of_the_tests_is_read(make_project: MakeProject) -> None:
    assert read_toolchain(make_project() / "toolchain.toml").language == "Copying"
