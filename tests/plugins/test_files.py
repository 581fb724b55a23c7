"""Finding and reading plugins on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guests import wat, write_plugin
from warren.manifests import ManifestError
from warren.plugins.errors import LoadFailed
from warren.plugins.files import PluginFiles, find_plugins


def test_plugins_are_found_anywhere_below_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for folder, name in (("", "b"), ("x/y", "c"), ("", "a")):
        write_plugin(tmp_path / folder, name)
    (tmp_path / "notes.txt").touch()
    found = find_plugins(tmp_path)
    assert [files.wasm.relative_to(tmp_path).as_posix() for files in found] == ["a.wasm", "b.wasm", "x/y/c.wasm"]
    assert found[0].manifest == tmp_path / "a.toml"


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_plugin(tmp_path / ".git", "a")
    write_plugin(tmp_path, "b", stem=".b")
    write_plugin(tmp_path / ".root" / "plugins", "c")
    assert find_plugins(tmp_path) == ()
    assert len(find_plugins(tmp_path / ".root")) == 1, "only what is hidden below the folder given"


def test_no_folder_is_no_answer(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", write_plugin(tmp_path, "a")):
        with pytest.raises(LoadFailed, match="there is no such folder of plugins"):
            find_plugins(path)


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_plugins(tmp_path)) == 1


def test_links_to_files_count_and_broken_ones_do_not(tmp_path: Path) -> None:
    real = write_plugin(tmp_path / "store", "a")
    shown = tmp_path / "plugins"
    shown.mkdir()
    (shown / "linked.wasm").symlink_to(real)
    (shown / "linked.toml").symlink_to(real.with_suffix(".toml"))
    (shown / "broken.wasm").symlink_to(tmp_path / "missing")
    (shown / "circle.wasm").symlink_to(shown / "circle.wasm")
    (shown / "folder.wasm").mkdir()
    [files] = find_plugins(shown)
    assert files.read_manifest().name == "a"
    assert files.read_module() == wat()


@pytest.mark.parametrize("half", ["a.wasm", "a.toml"])
def test_either_half_names_the_pair(half: str) -> None:
    assert PluginFiles.beside(Path("x") / half) == PluginFiles(Path("x/a.wasm"), Path("x/a.toml"))


def test_a_missing_manifest_is_said_with_what_a_plugin_is(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a")
    wasm.with_suffix(".toml").unlink()
    with pytest.raises(
        LoadFailed, match=r"a\.toml: there is no such file; a plugin is a \.wasm and a \.toml of one stem"
    ):
        PluginFiles.beside(wasm).read_manifest()


def test_a_missing_module_is_said_too(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a")
    wasm.unlink()
    with pytest.raises(LoadFailed, match=r"a\.wasm: there is no such file"):
        PluginFiles.beside(wasm).read_module()


def test_a_pipe_or_a_folder_is_not_read(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a")
    manifest = wasm.with_suffix(".toml")
    manifest.unlink()
    os.mkfifo(manifest)
    wasm.unlink()
    wasm.mkdir()
    files = PluginFiles.beside(wasm)
    with pytest.raises(LoadFailed, match="is not a regular file"):
        files.read_manifest()
    with pytest.raises(LoadFailed, match="is not a regular file"):
        files.read_module()


def test_a_manifest_of_megabytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a", manifest_extra="#" * (1 << 20))
    with pytest.raises(LoadFailed, match=r"a\.toml: has more than 1,048,576 bytes"):
        PluginFiles.beside(wasm).read_manifest()


def test_a_manifest_s_problems_are_named_with_file_and_line(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a", manifest_extra="[resources]\nmemroy_mb = 5\n")
    with pytest.raises(ManifestError, match=r"a\.toml:5: .*memroy_mb.*memory_mb"):
        PluginFiles.beside(wasm).read_manifest()


def test_a_manifest_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "a")
    wasm.with_suffix(".toml").write_bytes(b"[plugin]\nname = '\xff'")
    with pytest.raises(ManifestError, match=r"a\.toml"):
        PluginFiles.beside(wasm).read_manifest()
