"""`warren call`: data in, a result out, and an exit code that says how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guests import answering, wat, write_plugin
from tests.workers.cli.commands import EXAMPLES, NO_BROKER, Ended, warren, warren_process
from warren.workers.cli.exit_codes import ExitCode

KEYS = ["outcome", "response", "plugin", "version", "fuel", "memory_bytes", "duration_us", "attempt", "trace"]

#: A guest's words that would colour the terminal, and be markup.
HOSTILE = (
    '{"success":false,"result":{"[red]a":"\\u001b[31m\\u009b2J"},"error":"\\u001b]0;title\\u0007 [bold]no[/nope]"}'
)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    write_plugin(tmp_path, "good")
    write_plugin(tmp_path, "broken", wat("unreachable"))
    write_plugin(tmp_path, "hostile", answering(HOSTILE))
    return tmp_path


def process_data(*arguments: str | Path, stdin: str = "") -> Ended:
    return warren("call", "text_processor", "process_data", *arguments, "--plugins", EXAMPLES, "--json", stdin=stdin)


def test_json_has_exactly_what_is_promised(plugins: Path) -> None:
    called = warren("call", "good", "go", "--plugins", plugins, "--json")
    assert called.code == ExitCode.OK
    assert list(called.json) == KEYS
    assert called.json["response"] == {"success": True, "result": 1, "error": None}
    assert (called.json["outcome"], called.json["plugin"], called.json["version"]) == ("ok", "good", "1.0.0")
    assert (called.json["attempt"], called.json["memory_bytes"]) == (1, 131_072)
    assert called.json["fuel"] > 0


def test_the_trace_in_json_reaches_from_the_publisher_to_the_plugins_run(plugins: Path) -> None:
    trace = warren("call", "good", "go", "--plugins", plugins, "--json").json["trace"]
    assert [span["name"] for span in trace["spans"]] == [
        "send warren.requests",
        "process warren.plugin.good",
        "run good",
    ]


def test_data_is_an_argument_or_a_file_or_stdin(tmp_path: Path) -> None:
    data = json.dumps({"text": "One rabbit."})
    (tmp_path / "data.json").write_text(data)
    for answer in (process_data(data), process_data(f"@{tmp_path}/data.json"), process_data("-", stdin=data)):
        assert answer.json["response"]["result"]["processed"] == "One rabbit."


@pytest.mark.parametrize("data", ["{text: 1}", "hello", "{'text': 1}", "", "NaN", "1 2"])
def test_data_that_is_not_json_is_wrong_usage_and_quoting_is_explained(data: str) -> None:
    called = process_data(data)
    assert called.code == ExitCode.USAGE
    assert called.out == ""
    error, hint = called.err.splitlines()
    assert error.startswith("error: the data is not JSON: ")
    assert """quote it: '{"text": "…"}'""" in hint


def test_a_file_of_data_that_is_not_there_is_wrong_usage() -> None:
    called = process_data("@/nowhere.json")
    assert (called.code, called.err) == (
        ExitCode.USAGE,
        "error: cannot read /nowhere.json: No such file or directory\n",
    )


def test_people_see_the_result_and_a_line_of_figures(plugins: Path) -> None:
    called = warren("call", "good", "go", "--plugins", plugins)
    result, line = called.out.splitlines()
    assert result == "1"
    assert line.startswith("good 1.0.0 · ok · ")
    assert " fuel · 128 KiB" in line
    assert called.err == ""


def test_people_see_the_trace_if_they_ask_for_it(plugins: Path) -> None:
    called = warren("call", "good", "go", "--plugins", plugins, "--trace")
    assert "\n    run good " in called.out
    assert "━" in called.out


def test_a_plugin_that_says_no_ends_with_1_and_what_it_says_cannot_act_on_the_terminal(plugins: Path) -> None:
    called = warren("call", "hostile", "go", "--plugins", plugins)
    assert called.code == ExitCode.FAILED
    assert called.err == "error: \\u001b]0;title\\u0007 [bold]no[/nope]\n"
    assert '"[red]a": "\\u001b[31m\\u009b2J"' in called.out
    assert all(line.isprintable() for line in called.out.splitlines())


def test_json_of_hostile_words_prints_and_says_the_same(plugins: Path) -> None:
    called = warren("call", "hostile", "go", "--plugins", plugins, "--json")
    assert called.out.rstrip("\n").isprintable()
    assert called.json["response"] == json.loads(HOSTILE)


@pytest.mark.parametrize(
    ("arguments", "outcome", "word"),
    [
        (["broken", "go"], "trap", "unreachable"),
        (["nobody", "go"], "rejected", "no plugin 'nobody'"),
        (["good", "go", "--version-req", "^2"], "rejected", "no version of plugin 'good' matches '^2'"),
    ],
)
def test_every_other_outcome_ends_with_3(plugins: Path, arguments: list[str], outcome: str, word: str) -> None:
    called = warren("call", *arguments, "--plugins", plugins, "--json")
    assert called.code == ExitCode.BAD_OUTCOME
    assert called.json["outcome"] == outcome
    assert word in called.json["response"]["error"]
    assert word in warren("call", *arguments, "--plugins", plugins).err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "where is the plugin?"),
        (["--plugins", str(EXAMPLES), "--broker", NO_BROKER], "give one of them"),
        (["--plugins", str(EXAMPLES), "--version-req", "one"], "version requirement"),
    ],
)
def test_a_call_that_cannot_be_made_is_wrong_usage(options: list[str], complaint: str) -> None:
    called = warren("call", "text_processor", "get_status", *options)
    assert called.code == ExitCode.USAGE
    assert complaint in called.err


def test_names_that_are_none_are_wrong_usage(plugins: Path) -> None:
    called = warren("call", "Good Plugin", "go", "--plugins", plugins)
    assert called.code == ExitCode.USAGE
    assert "'Good Plugin' cannot be the name of a plugin" in called.err


def test_a_folder_that_is_named_goes_before_a_broker_of_the_environment(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARREN_BROKER", NO_BROKER)
    assert warren("call", "good", "go", "--plugins", plugins).code == ExitCode.OK
    assert warren("call", "good", "go").code == ExitCode.UNREACHABLE


def test_a_result_that_does_not_come_in_time_ends_with_5(tmp_path: Path) -> None:
    write_plugin(tmp_path, "endless", wat("(loop $again (br $again)) unreachable"), "[resources]\nmax_fuel = 10000000")
    called = warren("call", "endless", "go", "--plugins", tmp_path, "--timeout", "0.001")
    assert called.code == ExitCode.TIMED_OUT
    assert called.err.startswith("error: no result from endless.go within 0.001 s\n")


def test_what_a_guest_logs_is_shown_on_stderr_if_asked_for(plugins: Path) -> None:
    arguments = ("call", "text_processor", "process_data", '"One rabbit."', "--plugins", EXAMPLES)
    assert "warren.guest.text_processor: 11 characters" in warren(*arguments, "--log-level", "info").err
    assert warren(*arguments).err == ""
    lines = warren(*arguments, "--log-level", "info", "--json").err.splitlines()
    assert {"warren.guest.text_processor"} < {json.loads(line)["logger"] for line in lines}


def test_a_plugin_that_could_not_be_loaded_is_named_beside_the_outcome(plugins: Path) -> None:
    (plugins / "good.toml").write_text('[plugin]\nname = "good"\nversoin = "1.0.0"\n')
    called = warren("call", "good", "go", "--plugins", plugins)
    assert called.code == ExitCode.BAD_OUTCOME
    assert f"not loaded: {plugins}/good.toml" in called.err


def test_a_terminal_that_knows_no_unicode_gets_escapes_and_no_traceback(plugins: Path) -> None:
    called = warren_process("call", "good", "go", "--plugins", plugins, "--trace", PYTHONIOENCODING="ascii")
    assert called.code == ExitCode.OK
    assert "====" in called.out
    assert called.err == ""
