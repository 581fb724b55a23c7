"""`warren plugins show`: all there is to know of one plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guests import wat, write_plugin
from tests.workers.cli.commands import EXAMPLES, Ended, warren
from warren.workers.cli.exit_codes import ExitCode
from warren.workers.cli.json_data import fitted_json

EVERYTHING = """
description = "Says hello"
author = "Rabbit"
license = "MIT"
[[plugin.dependencies]]
name = "digest"
version_req = "1"
optional = true
[capabilities]
optional = ["compute", "network"]
[bus]
subscribe = ["greetings.#"]
may_subscribe = ["rooms.*"]
publish = ["hello.said"]
[settings]
greeting = "a secret"
[retry]
on = ["trap"]
max_attempts = 3
[rollout]
percent = 5
sticky = "x-user"
[actions.greet]
description = "Greets"
[actions.greet.request]
type = "string"
[actions.wave]
"""


def shown(*arguments: str | Path) -> Ended:
    return warren("plugins", "show", *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_plugin(tmp_path, "hello", manifest_extra=EVERYTHING, version="1.2.0")
    return tmp_path


def test_its_json_has_everything_under_names_that_stay(folder: Path) -> None:
    ended = shown("hello", "--plugins", folder, "--json")
    assert ended.code == ExitCode.OK
    data = ended.json
    limits, permissions = (data["grant"].pop(name) for name in ("limits", "permissions"))
    assert permissions["environment_vars"] == []
    assert data == {
        "name": "hello",
        "version": "1.2.0",
        "description": "Says hello",
        "author": "Rabbit",
        "license": "MIT",
        "abi": "core",
        "files": {"wasm": f"{folder}/hello.wasm", "manifest": f"{folder}/hello.toml"},
        "actions": {
            "greet": {"description": "Greets", "request": {"type": "string"}, "response": None},
            "wave": {"description": None, "request": None, "response": None},
        },
        "asked": {
            "capabilities": {"required": [], "optional": ["compute", "network"]},
            "permissions": {"read_files": [], "write_files": [], "network_hosts": [], "environment_vars": []},
            "resources": {},
            "publish": ["hello.said"],
            "subscribe": ["greetings.#"],
            "may_subscribe": ["rooms.*"],
        },
        "upgrade": {"waits": False, "approved": False, "predecessor": None, "more": []},
        "grant": {
            "capabilities": ["compute"],
            "left_out": [
                {"power": "capabilities", "asked": "network", "reason": "the capability 'network' is not granted"}
            ],
            "notes": ["the capability 'network' is not granted"],
        },
        "subscribe": ["greetings.#"],
        "may_subscribe": ["rooms.*"],
        "publish": ["hello.said"],
        "dependencies": [{"name": "digest", "version_req": "^1", "optional": True}],
        "settings": ["greeting"],
        "retry": {
            "on": ["trap"],
            "max_attempts": 3,
            "initial_delay_ms": 1000,
            "max_delay_ms": 60_000,
            "multiplier": 2.0,
            "jitter": 0.1,
        },
        "rollout": {
            "percent": 5.0,
            "sticky": "x-user",
            "shadow": False,
            "promote": "auto",
            "min_requests": 50,
            "window_s": 300.0,
            "max_failure_rise_points": 5.0,
            "max_fuel_ratio": 2.0,
            "count_refusals": True,
        },
    }
    assert set(limits) == {
        "memory_bytes",
        "max_fuel",
        "timeout_s",
        "max_open_files",
        "max_network_connections",
        "network_timeout_s",
        "storage_bytes",
        "files_bytes",
    }


def test_people_are_shown_the_same(folder: Path) -> None:
    page = shown("hello", "--plugins", folder).out
    for fact in (
        "hello 1.2.0\n",
        "author         Rabbit",
        "abi            core",
        f"manifest       {folder}/hello.toml",
        "  greet  Greets\n",
        '    request   {"type": "string"}\n    response  anything\n',
        "capabilities   compute",
        "256.0 MiB, 100,000,000 fuel, 30.00 s",
        "subscribe      greetings.#",
        "note: the capability 'network' is not granted",
        "settings       greeting\n",
        "dependencies   digest ^1 (optional)",
        "after trap, unavailable; 3 attempts",
        "rollout        5 % of requests, by header x-user; promoted after 300 s and 50 requests of each",
    ):
        assert fact in page
    assert "a secret" not in page


@pytest.mark.parametrize("plugin", ["digest", "text_processor", "word_stats"])
def test_the_samples_fit_a_terminal(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = shown(plugin, "--plugins", EXAMPLES).out
    schemas = page.partition("\nactions\n")[2]
    assert '"type": "object"' in schemas
    assert max(map(len, schemas.splitlines())) <= 80


def test_it_is_not_run_and_so_shown_even_where_it_would_not_load(tmp_path: Path) -> None:
    initialize = '(func (export "initialize") (param i32 i32) (result i32) (i32.const -1))'
    write_plugin(tmp_path, "unwilling", wat(more=initialize))
    page = shown("unwilling", "--plugins", tmp_path)
    assert page.code == ExitCode.OK
    assert "none is declared: the plugin decides for itself" in page.out


def test_of_several_versions_it_is_the_highest_that_will_do(folder: Path) -> None:
    write_plugin(folder, "hello", version="1.10.0", stem="b")
    write_plugin(folder, "hello", version="2.0.0-rc.1", stem="c")
    for requirement, version in (("1", "1.10.0"), ("~1.2", "1.2.0"), ("2.0.0-rc", "2.0.0-rc.1")):
        assert shown("hello", "--version", requirement, "--plugins", folder, "--json").json["version"] == version
    assert shown("hello", "--plugins", folder, "--json").json["version"] == "2.0.0-rc.1"


def test_what_is_not_there_is_answered_with_what_is(folder: Path) -> None:
    write_plugin(folder, "broken", manifest_extra="[nope]\n")
    hint = f"1 cannot be read: warren check {folder}\n"
    nobody = shown("hallo", "--plugins", folder)
    assert (nobody.code, nobody.out) == (ExitCode.USAGE, "")
    assert nobody.err == f"error: there is no plugin 'hallo' in {folder}; there are: hello\n{hint}"
    older = shown("hello", "--version", "^2", "--plugins", folder)
    assert older.code == ExitCode.USAGE
    assert older.err == f"error: no version of 'hello' in {folder} matches '^2'; there are: 1.2.0\n{hint}"


def test_a_requirement_that_is_none_is_wrong_usage(folder: Path) -> None:
    ended = shown("hello", "--version", "v1", "--plugins", folder)
    assert ended.code == ExitCode.USAGE
    assert "'v1' is not a version requirement: write it without the leading v" in ended.err


def test_what_keeps_it_from_being_loaded_is_an_error(tmp_path: Path) -> None:
    write_plugin(tmp_path, "wired", manifest_extra='[capabilities]\nrequired = ["network"]\n')
    ended = shown("wired", "--plugins", tmp_path)
    assert (ended.code, ended.out) == (ExitCode.FAILED, "")
    assert "it requires the capability 'network', which is not granted here" in ended.err


def test_options_may_stand_before_the_command(folder: Path) -> None:
    assert warren("plugins", "--plugins", folder, "--json", "show", "hello").json["name"] == "hello"


def test_its_words_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    loud = '[actions.go.request.properties."\\u001b[31m"]\npattern = "\\u001b[31m"\n[settings]\n"\\u001b[31m" = 1\n'
    write_plugin(tmp_path, "loud", manifest_extra=loud)
    assert "\x1b" not in shown("loud", "--plugins", tmp_path).out
    assert "\x1b" not in shown("loud", "--plugins", tmp_path, "--json").out


def test_json_is_broken_into_lines_only_where_it_has_to_be() -> None:
    value = {"short": [1, 2], "long": {"first": "x" * 10, "second": [True, None]}, "empty": {}}
    (line,) = fitted_json(value, 100)
    assert json.loads(line) == value
    assert fitted_json(value, 30) == [
        "{",
        '  "short": [1, 2],',
        '  "long": {',
        '    "first": "xxxxxxxxxx",',
        '    "second": [true, null]',
        "  },",
        '  "empty": {}',
        "}",
    ]
