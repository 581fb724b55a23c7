"""`warren plugins` and `warren check`: what a folder holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from tests.guests import wat, write_plugin
from tests.workers.cli.commands import EXAMPLES, warren
from warren.workers.cli.exit_codes import ExitCode

SAMPLES = {"digest", "text_processor", "word_stats"}


def misspelled(folder: Path) -> Path:
    write_plugin(folder, "misspelled", manifest_extra="[resources]\nmemroy_mb = 16\n")
    return folder


def test_plugins_lists_what_each_plugin_is_and_may() -> None:
    listed = warren("plugins", "--plugins", EXAMPLES, "--json")
    assert listed.code == ExitCode.OK
    assert listed.json["failed"] == []
    plugins = {plugin["name"]: plugin for plugin in listed.json["plugins"]}
    assert set(plugins) == SAMPLES
    word_stats = plugins["word_stats"]
    assert (word_stats["abi"], word_stats["status"]) == ("core", "loaded")
    assert (word_stats["subscribe"], word_stats["publish"]) == (["text.processed.#"], ["text.stats"])
    assert word_stats["limits"]["memory_bytes"] > 0


def test_plugins_shows_people_the_same() -> None:
    listed = warren("plugins", "--plugins", EXAMPLES)
    for plugin in SAMPLES:
        assert f"{plugin} " in listed.out
    assert "subscribes    text.processed.#" in listed.out
    assert listed.err == ""


def test_plugins_that_do_not_load_are_listed_with_the_reason(tmp_path: Path) -> None:
    write_plugin(misspelled(tmp_path), "good")
    listed = warren("plugins", "--plugins", tmp_path)
    assert listed.code == ExitCode.FAILED
    assert "good 1.0.0 loaded" in listed.out
    assert listed.err == (
        f"error: not loaded: {tmp_path}/misspelled.toml:5: "
        "unknown key 'memroy_mb' in [resources]; did you mean 'memory_mb'?\n"
    )
    data = warren("plugins", "--plugins", tmp_path, "--json")
    assert data.code == ExitCode.FAILED
    assert [plugin["name"] for plugin in data.json["plugins"]] == ["good"]
    assert len(data.json["failed"]) == 1


def test_a_folder_without_plugins_is_no_failure_and_is_said_to_be_empty(tmp_path: Path) -> None:
    listed = warren("plugins", "--plugins", tmp_path)
    assert (listed.code, listed.out) == (ExitCode.OK, "")
    assert f"there are no plugins in {tmp_path}" in listed.err


def test_check_passes_what_is_sound() -> None:
    checked = warren("check", EXAMPLES)
    assert checked.code == ExitCode.OK
    told = [line.split()[:4] for line in checked.out.splitlines()]
    assert [(ok, plugin, abi) for ok, plugin, _version, abi in told] == [
        ("ok", plugin, "core") for plugin in sorted(SAMPLES)
    ]


def test_check_says_where_each_problem_is_and_goes_on(tmp_path: Path) -> None:
    write_plugin(misspelled(tmp_path), "good")
    write_plugin(tmp_path, "no_wasm", b"this is text")
    write_plugin(tmp_path, "alone").with_suffix(".toml").unlink()
    checked = warren("check", tmp_path)
    assert checked.code == ExitCode.FAILED
    alone, good, manifest, module = checked.out.splitlines()
    assert alone.startswith(f"{tmp_path}/alone.toml: there is no such file")
    assert good.startswith("ok good 1.0.0")
    assert manifest.startswith(f"{tmp_path}/misspelled.toml:5: unknown key 'memroy_mb'")
    assert module.startswith(f"{tmp_path}/no_wasm.wasm: ")


def test_check_takes_either_file_of_a_plugin_and_checks_it_once(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "good")
    checked = warren("check", path, path.with_suffix(".toml"), tmp_path, "--json")
    assert [plugin["name"] for plugin in checked.json["plugins"]] == ["good"]


def test_check_gives_problems_as_data(tmp_path: Path) -> None:
    (plugin,) = warren("check", misspelled(tmp_path), "--json").json["plugins"]
    (problem,) = plugin["problems"]
    assert (plugin["ok"], problem["line"], problem["key"]) == (False, 5, "resources.memroy_mb")


def test_check_notes_what_the_policy_lowers(tmp_path: Path) -> None:
    write_plugin(tmp_path, "greedy", manifest_extra="[resources]\nmax_fuel = 1000000000\n")
    checked = warren("check", tmp_path)
    assert checked.code == ExitCode.OK
    assert "note: max_fuel is " in checked.out


def test_check_runs_nothing(tmp_path: Path) -> None:
    initialize = '(func (export "initialize") (param i32 i32) (result i32) (i32.const -1))'
    write_plugin(tmp_path, "unwilling", wat(more=initialize))
    assert warren("check", tmp_path).code == ExitCode.OK
    assert "initialize" in warren("plugins", "--plugins", tmp_path).err


def test_check_of_a_folder_without_plugins_fails_since_it_checked_nothing(tmp_path: Path) -> None:
    checked = warren("check", tmp_path)
    assert (checked.code, checked.out) == (
        ExitCode.FAILED,
        f"{tmp_path}: there is no plugin here; a plugin is a .wasm and a .toml of one stem\n",
    )


def test_words_of_a_manifest_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    write_plugin(tmp_path, "loud", manifest_extra='"\\u001b[31m" = 1\n')
    assert "\x1b" not in warren("check", tmp_path).out
    assert "\x1b" not in warren("plugins", "--plugins", tmp_path).err
