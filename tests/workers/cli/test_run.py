"""`warren run`: one request, right here, and what its author wants to know of it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.guests import ask, data, wat, write_plugin
from tests.workers.cli.commands import EXAMPLES, warren
from warren.workers.cli.exit_codes import ExitCode

WASI_GUESTS: Final = Path(__file__).parents[2] / "plugins" / "wasi"

#: Fills its memory, and calls itself until it is out of fuel.
ENDLESS: Final = """
  (global (export "answer") i32 (i32.const 42))
  (func $run (local $left i32) (loop (call $turn) (br 0)))
  (func $turn (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1))))
"""
MESSAGE, MESSAGE_DATA = ask("send_message", '{"topic":"ok.now","payload":{"n":1}}')


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    write_plugin(
        folder, "good", wat("(call $say (i32.const 1024) (i32.const 5)) (call $answer)", more=data(1024, "hello"))
    )
    write_plugin(
        folder, "endless", wat("(call $run) (call $answer)", more=ENDLESS), "[resources]\nmax_fuel = 200_000\n"
    )
    sender = wat(f"(drop {MESSAGE}) (call $answer)", more=MESSAGE_DATA)
    write_plugin(folder, "sender", sender, '[bus]\npublish = ["ok.#"]\n')
    return folder


def test_a_plugin_is_named_or_its_file_is(plugins: Path) -> None:
    by_name = warren("run", "good", "go", "--plugins", plugins, "--json")
    by_file = warren("run", plugins / "good.wasm", "go", "--json")
    by_manifest = warren("run", plugins / "good.toml", "go", "--json")
    assert by_name.code == by_file.code == by_manifest.code == ExitCode.OK
    responses = [each.json["response"] for each in (by_name, by_file, by_manifest)]
    assert responses == [{"success": True, "result": 1, "error": None}] * 3


def test_it_tells_what_a_call_does(plugins: Path) -> None:
    called = warren("call", "good", "go", "--plugins", plugins, "--json").json
    ran = warren("run", "good", "go", "--plugins", plugins, "--json").json
    for key in ("outcome", "response", "plugin", "version", "fuel", "memory_bytes"):
        assert ran[key] == called[key]
    assert ran["logs"] == [{"level": "info", "text": "hello", "plugin": None}]


def test_logs_are_shown_and_the_answer_is_all_of_stdout_with_its_figures(plugins: Path) -> None:
    ran = warren("run", "good", "go", "--plugins", plugins)
    assert ran.out.splitlines()[0] == "1"
    assert ran.out.splitlines()[1].startswith("good 1.0.0 · ok · ")
    assert ran.err.splitlines() == ["info  hello"]


def test_it_is_profiled_where_its_fuel_went_though_it_has_not_ended(plugins: Path, tmp_path: Path) -> None:
    profile, flame = tmp_path / "out.folded", tmp_path / "out.svg"
    ran = warren("run", "endless", "go", "--plugins", plugins, "--profile", profile, "--flame", flame)
    assert ran.code == ExitCode.BAD_OUTCOME
    stacks = dict(line.rsplit(" ", 1) for line in profile.read_text().splitlines())
    assert sum(map(int, stacks.values())) == 200_000
    assert int(stacks["handle_request;run;turn"]) > 100_000
    titles = [each.text or "" for each in ET.parse(flame).iter("{http://www.w3.org/2000/svg}title")]  # noqa: S314
    assert titles[0].startswith("all: 200,000 fuel, 100.0%")
    assert any(title.startswith("turn: ") for title in titles)
    table = next(line for line in ran.out.splitlines() if line.rstrip().endswith(" turn"))
    assert table.split()[1].endswith("%")
    assert f"flame graph: {flame}" in ran.err


def test_a_dump_is_the_memory_as_it_was_and_says_whose(plugins: Path, tmp_path: Path) -> None:
    dump = tmp_path / "memory"
    ran = warren("run", "endless", "go", "--plugins", plugins, "--dump", dump)
    memory, about = dump.read_bytes(), json.loads((tmp_path / "memory.json").read_text())
    turns = int.from_bytes(memory[2048:2052], "little")
    assert turns > 1_000
    assert len(memory) == about["bytes"] == about["pages"] * 65_536 == 131_072
    assert (about["plugin"], about["version"], about["outcome"]) == ("endless", "1.0.0", "out_of_fuel")
    assert about["globals"] == {"answer": "0x0000002a"}
    assert about["backtrace"][-1].startswith("handle_request at ")
    assert about["error"] == "the guest used up its 200,000 units of fuel"
    assert f"the guest's memory, with whatever secrets it had: {dump}" in ran.err
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600


def test_a_dump_is_not_written_into_what_a_link_leads_to(plugins: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "memory").symlink_to(mine)
    warren("run", "endless", "go", "--plugins", plugins, "--dump", tmp_path / "memory")
    assert mine.read_text() == "mine"
    assert (tmp_path / "memory").stat().st_size == 131_072


def test_an_answer_leaves_no_dump(plugins: Path, tmp_path: Path) -> None:
    ran = warren("run", "good", "go", "--plugins", plugins, "--dump", tmp_path / "memory")
    assert "the plugin answered, so no memory was written" in ran.err
    assert not (tmp_path / "memory").exists()


def test_what_was_not_run_leaves_nothing(tmp_path: Path) -> None:
    file = EXAMPLES / "digest" / "digest.wasm"
    ran = warren("run", file, "no_such", "--profile", tmp_path / "out", "--dump", tmp_path / "memory")
    assert ran.code == ExitCode.BAD_OUTCOME
    assert "it was not run, so there is nothing to write" in ran.err
    assert not list(tmp_path.iterdir())


def test_what_does_not_start_is_run_to_show_why(tmp_path: Path) -> None:
    initialize = """(func $settle (export "initialize") (param i32 i32) (result i32) (loop (br 0)) (i32.const 0))"""
    file = write_plugin(tmp_path, "stuck", wat(more=initialize), "[resources]\nmax_fuel = 50_000\n")
    ran = warren("run", file, "go", "--debug", "--profile", tmp_path / "out")
    assert ran.code == ExitCode.BAD_OUTCOME
    assert "stuck.wasm would be refused: the guest used up its 50,000 units of fuel" in ran.err
    assert "  0  settle at " in ran.out
    assert "\nsettle 4999" in (tmp_path / "out").read_text()


def test_debug_shows_lines_of_the_source_and_so_it_does_with_a_profile(tmp_path: Path) -> None:
    file = write_plugin(tmp_path, "broken", (WASI_GUESTS / "broken-5.wasm").read_bytes())
    for more in ((), ("--profile", tmp_path / "out")):
        ran = warren("run", file, "go", '"no digits"', "--debug", *more)
        frames = [line.split(maxsplit=1)[1] for line in ran.out.splitlines() if " at " in line]
        assert frames == ["first_digit at broken.c:11", "parse at broken.c:15", "handle_request at broken.c:25"]


def test_debug_shows_host_calls_and_what_would_be_sent(plugins: Path) -> None:
    ran = warren("run", "sender", "go", "--plugins", plugins, "--debug")
    assert "  host call send_message, " in ran.out
    assert '  would send to ok.now: {"n":1}' in ran.out


def test_what_a_guest_says_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[31m\x9b2J"
    text = f"(call $say (i32.const 1024) (i32.const {len(evil.encode())}))"
    write_plugin(tmp_path, "evil", wat(f"{text} unreachable", more=data(1024, evil)))
    ran = warren("run", tmp_path / "evil.wasm", "go", "--debug", "--profile", tmp_path / "out")
    assert "\x1b" not in ran.out + ran.err
    assert "\x9b" not in ran.out + ran.err
    assert "info  \\u001b[31m\\u009b2J" in ran.err


def test_without_a_place_it_says_how_to_give_one() -> None:
    ran = warren("run", "good", "go")
    assert ran.code == ExitCode.USAGE
    assert "where is the plugin 'good'?" in ran.err
    assert "--plugins DIR" in ran.err


def test_a_plugin_that_is_not_there_is_named(plugins: Path) -> None:
    ran = warren("run", "nobody", "go", "--plugins", plugins)
    assert ran.code == ExitCode.FAILED
    assert "no plugin 'nobody' is loaded" in ran.err


@pytest.mark.parametrize("requirement", ["^2", "not a version"])
def test_a_version_that_will_not_do_is_told(requirement: str, plugins: Path) -> None:
    ran = warren("run", "good", "go", "--plugins", plugins, "--version-req", requirement)
    assert ran.code in (ExitCode.FAILED, ExitCode.USAGE)
    assert requirement in ran.err


def test_where_nothing_can_be_written_it_says_so(plugins: Path, tmp_path: Path) -> None:
    ran = warren("run", "endless", "go", "--plugins", plugins, "--profile", tmp_path / "no" / "out")
    assert ran.code == ExitCode.FAILED
    assert "No such file or directory" in ran.err
