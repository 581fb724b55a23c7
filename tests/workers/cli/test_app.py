"""The command line as a whole: help, usage, exit codes, and what it does not import."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib.metadata import version
from typing import Any

import pytest

from tests.workers.cli.commands import EXAMPLES, NO_BROKER, warren, warren_process
from warren.bus import DEFAULT_PREFIX, BusError
from warren.workers.audit import SINKS
from warren.workers.cli import app, options
from warren.workers.cli.exit_codes import MEANINGS, ExitCode
from warren.workers.cli.failures import WORKER_EXTRA, explain
from warren.workers.settings import WorkerSettings

COMMANDS = (
    "demo", "worker", "call", "run", "replay", "publish", "listen", "plugins", "check",
    "ps", "top", "inspect", "reload", "unload", "drain",
)  # fmt: skip

#: Runs the command in an interpreter that refuses the modules named after its first argument, a JSON list.
WITHOUT = """
import json, sys
arguments, *refused = sys.argv[1:]
sys.modules.update(dict.fromkeys(refused))
sys.argv = ["warren", *json.loads(arguments)]
from warren.workers.cli import main
main()
"""


def light(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as `pip install warren` gives it."""
    command = [sys.executable, "-c", WITHOUT, json.dumps(arguments), *WORKER_EXTRA]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_version_is_the_installed_one() -> None:
    assert warren("--version").out == f"warren {version('warren')}\n"


def test_help_lists_every_command_and_every_exit_code() -> None:
    helped = warren("--help")
    assert helped.code == 0
    for command in COMMANDS:
        assert f" {command} " in helped.out
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in helped.out


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str) -> None:
    helped = warren(command, "--help")
    assert helped.code == 0
    assert "--json" in helped.out


@pytest.mark.parametrize("setting", [field.name for field in fields(WorkerSettings)])
def test_the_workers_help_names_the_variable_of_every_setting(setting: str) -> None:
    assert f"WARREN_{setting.upper()}]" in warren("worker", "--help").out


def test_the_workers_defaults_are_those_of_its_settings() -> None:
    parameters = inspect.signature(app.worker).parameters
    settings: dict[str, Any] = {
        field.name: field.default for field in fields(WorkerSettings) if field.default is not MISSING
    }
    settings |= {
        name: ",".join(settings[name]) for name in ("host_functions", "audit", "record")
    }  # a text, as it is given
    settings["secrets"] = None  # an option that may be given several times has no other way to say that it was not
    assert {name: parameters[name].default for name in settings} == settings
    assert options.DEFAULT_PREFIX == DEFAULT_PREFIX
    assert options.AUDIT_SINKS == SINKS
    assert set(options.RECORDING_SINKS) == {"dead-letters", "callers"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["call", "--help"], ["call"], ["nope"]])
def test_help_and_wrong_usage_import_neither_the_bus_nor_the_sandbox(arguments: list[str]) -> None:
    slow = ("aio_pika", "aiormq", "opentelemetry", "wasmtime", "warren.bus", "warren.plugins")
    command = [sys.executable, "-c", WITHOUT, json.dumps(arguments), *slow]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if arguments[-1] in COMMANDS or arguments == ["nope"] else 0), ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_arguments_at_all_show_the_help() -> None:
    ended = warren()
    assert ended.code == ExitCode.USAGE
    assert "Commands" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint", "hint"),
    [
        (["nope"], "No such command 'nope'", "try: warren --help"),
        (["--nope"], "No such option: --nope", "try: warren --help"),
        (["call"], "Missing argument 'PLUGIN'", "try: warren call --help"),
        (["publish", "a.b"], "Missing option '--broker' (env var: 'WARREN_BROKER')", "try: warren publish --help"),
        (
            ["worker", "--plugins", ".", "--audit", "logs,syslog"],
            "'syslog' is none of logs, exchange; '' is for none of them",
            "try: warren worker --help",
        ),
        (
            ["listen", "#", "--broker", "amqp://a", "--results", "--audit"],
            "--results and --audit are two things to hear; give one of them",
            "try: warren listen --help",
        ),
        (["listen", "#", "--broker", "http://a"], "begins with amqp:// or amqps://", "try: warren listen --help"),
        (
            ["publish", "a", "--broker", "amqp://a", "--prefix", "a b"],
            "cannot be a prefix",
            "try: warren publish --help",
        ),
        (["plugins"], "Missing option '--plugins' (env var: 'WARREN_PLUGINS')", "try: warren plugins --help"),
        (["plugins", "show", "--plugins", "."], "Missing argument 'NAME'", "try: warren plugins show --help"),
        (["plugins", "--plugins", "/nowhere"], "'/nowhere' does not exist", "try: warren plugins --help"),
        (
            ["worker", "--plugins", ".", "--processes", "0"],
            "should be greater than or equal to 1",
            "try: warren worker --help",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_where_to_look(arguments: list[str], complaint: str, hint: str) -> None:
    ended = warren(*arguments)
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    error, where = ended.err.splitlines()
    assert error.startswith("error: ")
    assert complaint in error
    assert where == hint


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "--plugins", str(EXAMPLES)],
        ["call", "a", "b", "--plugins", str(EXAMPLES)],
        ["plugins", "--plugins", str(EXAMPLES)],
        ["plugins", "show", "digest", "--plugins", str(EXAMPLES)],
        ["check", str(EXAMPLES)],
        ["demo"],
    ],
)
def test_a_light_install_that_is_to_run_plugins_says_what_to_install(arguments: list[str]) -> None:
    ended = light(*arguments)
    assert ended.returncode == ExitCode.USAGE
    assert "pip install 'warren[worker]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["call", "a", "b"], ["publish", "a.b", "1"], ["listen", "#"], ["dead", "list"]])
def test_a_light_install_reaches_for_the_broker(arguments: list[str]) -> None:
    ended = light(*arguments, "--broker", NO_BROKER)
    assert ended.returncode == ExitCode.UNREACHABLE
    error, hint = ended.stderr.splitlines()
    assert error.startswith(f"error: cannot reach the broker at {NO_BROKER}")
    assert "WARREN_BROKER" in hint


def test_a_broker_that_a_variable_names_is_used_and_its_password_not_shown() -> None:
    ended = warren_process("publish", "a.b", "1", WARREN_BROKER="amqp://rabbit:burrow@127.0.0.1:1")
    assert ended.code == ExitCode.UNREACHABLE
    assert "127.0.0.1:1" in ended.err
    assert "burrow" not in ended.err


def test_a_traceback_is_shown_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_DEBUG", "1")
    ended = warren("call", "a", "b")
    assert ended.code == ExitCode.USAGE
    assert "Traceback" in ended.err
    assert "error: where is the plugin?" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
        (OSError(28, "No space left on device"), ExitCode.FAILED, "error: No space left on device\n"),
    ],
)
def test_what_stops_a_command_from_outside_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: ExitCode, said: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("warren.workers.cli.check.run", stopped)
    ended = warren("check", EXAMPLES)
    assert (ended.code, ended.err) == (code, said)


def test_errors_of_warrens_own_say_what_they_are_and_others_are_defects() -> None:
    assert explain(BusError("nobody listens")).message == "nobody listens"
    assert explain(BusError("nobody listens")).code == ExitCode.FAILED
    defect = explain(KeyError("burrow"))
    assert (defect.code, defect.message) == (ExitCode.DEFECT, "a defect of Warren: KeyError: 'burrow'")
    assert defect.hint is not None
    assert "WARREN_DEBUG" in defect.hint
