"""`warren test`, at the command line: real plugins, and cases that hold and that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.guests import ask, data, wat, write_plugin
from tests.workers.cli.commands import warren
from warren.workers.cli.exit_codes import ExitCode

MESSAGE, MESSAGE_DATA = ask("send_message", '{"topic":"ok.now","payload":{"n":1}}')
STORE, STORE_DATA = ask("storage_compare_and_set", '{"key":"k","expected":null,"value":1}')
STORING: Final = '[capabilities]\nrequired = ["storage"]\n'

HOLDS: Final = '[[cases]]\nname = "answers"\naction = "go"\nexpect = { result = 1, logs = ["hel"], host_calls = [] }\n'
FAILS: Final = '[[cases]]\nname = "answers\x1b[31m"\naction = "go"\nexpect = { result = { n = 1, m = [2] } }\n'.replace(
    "\x1b", "\\u001b"
)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    logging = wat("(call $say (i32.const 1024) (i32.const 5)) (call $answer)", more=data(1024, "hello"))
    write_plugin(tmp_path, "good", logging)
    return tmp_path


def test_cases_that_hold_are_counted(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS)
    ran = warren("test", good)
    assert (ran.code, ran.err) == (ExitCode.OK, "")
    first, last = ran.out.splitlines()
    assert first.startswith("passed  a.case.toml: answers")
    assert first.endswith(" fuel")
    assert last == "1 passed"


def test_one_that_does_not_is_shown_with_what_there_is_instead_and_the_log(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS + FAILS)
    ran = warren("test", good)
    assert ran.code == ExitCode.FAILED
    assert "failed  a.case.toml: answers\\u001b[31m" in ran.out
    assert '        -  "n": 1,\n' in ran.out
    assert "        +1\n" in ran.out
    assert "        log: hello\n" in ran.out
    assert ran.out.endswith("1 passed, 1 failed\n")


def test_json_has_all_of_it(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS + FAILS)
    ran = warren("test", good, "--json")
    assert ran.code == ExitCode.FAILED
    held, failed = ran.json["cases"]
    assert (ran.json["passed"], ran.json["failed"]) == (1, 1)
    assert (held["passed"], held["outcome"], held["mismatches"]) == (True, "ok", [])
    assert failed["mismatches"] == [{"what": "result", "expected": {"n": 1, "m": [2]}, "actual": 1}]


def test_cases_are_chosen_by_name(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS + FAILS)
    assert warren("test", good, "-k", "answers\x1b").code == ExitCode.FAILED
    ran = warren("test", good, "-k", "nothing")
    assert ran.code == ExitCode.USAGE
    assert "has no case with 'nothing' in its name" in ran.err


def test_without_cases_nothing_has_been_tested(good: Path) -> None:
    ran = warren("test", good)
    assert ran.code == ExitCode.USAGE
    assert "cases stand in files *.case.toml" in ran.err


def test_a_file_that_is_wrong_is_told_with_its_line_and_nothing_is_run(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS + "[[cases]]\nname = 1\n")
    ran = warren("test", good)
    assert ran.code == ExitCode.FAILED
    assert "a.case.toml:6: " in ran.err
    assert ran.out == ""


def test_which_of_several_plugins_is_meant_has_to_be_said(good: Path) -> None:
    write_plugin(good, "other", wat())
    (good / "a.case.toml").write_text(HOLDS)
    ran = warren("test", good)
    assert ran.code == ExitCode.USAGE
    assert "there are: good, other" in ran.err
    (good / "a.case.toml").write_text('plugin = "good"\n' + HOLDS)
    assert warren("test", good).code == ExitCode.OK
    (good / "a.case.toml").write_text('plugin = "third"\n' + HOLDS)
    assert warren("test", good).code == ExitCode.FAILED


def test_a_plugin_that_cannot_be_loaded_is_said_to_be(good: Path) -> None:
    (good / "good.wasm").write_bytes(b"\0asm")
    (good / "a.case.toml").write_text(HOLDS)
    ran = warren("test", good)
    assert ran.code == ExitCode.FAILED
    assert '+"not_loaded: ' in ran.out
    assert "good.wasm" in ran.out


def test_each_case_has_a_storage_of_its_own_and_powers_only_by_a_policy(tmp_path: Path) -> None:
    write_plugin(tmp_path, "storing", wat(f"(drop {STORE}) (call $answer)", more=STORE_DATA), STORING)
    case = '[[cases]]\nname = "stores"\naction = "go"\nexpect = { host_calls = ["storage_compare_and_set"] }\n'
    (tmp_path / "a.case.toml").write_text(case * 2)
    refused = warren("test", tmp_path)
    assert refused.code == ExitCode.FAILED
    assert "requires the capability 'storage'" in refused.out
    policy = tmp_path / "policy"
    policy.write_text('capabilities = ["compute", "storage"]\n')
    assert warren("test", tmp_path, "--policy", policy).out.endswith("2 passed\n")


def test_what_a_plugin_sends_is_seen_and_sent_to_nobody(tmp_path: Path) -> None:
    sender = wat(f"(drop {MESSAGE}) (call $answer)", more=MESSAGE_DATA)
    write_plugin(tmp_path, "sender", sender, '[bus]\npublish = ["ok.#"]\n')
    messages = 'expect = { messages = [{ topic = "ok.now", payload = { n = 1 } }] }'
    (tmp_path / "a.case.toml").write_text(f'[[cases]]\nname = "sends"\naction = "go"\n{messages}\n')
    assert warren("test", tmp_path).code == ExitCode.OK


def test_a_project_is_built_first(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text('[plugin]\nname = "hello"\nversion = "1.0.0"\n')
    (tmp_path / "a.case.toml").write_text(HOLDS)
    ran = warren("test", tmp_path)
    assert ran.code == ExitCode.USAGE
    assert "has not been built" in ran.err
    write_plugin(tmp_path / "build", "hello", wat())
    (tmp_path / "a.case.toml").write_text('[[cases]]\nname = "answers"\naction = "go"\n')
    assert warren("test", tmp_path).code == ExitCode.OK


STEPS: Final = """
[[cases]]
name = "by steps"
given.time = 2026-01-01T00:00:00Z
[[cases.steps]]
action = "go"
[[cases.steps]]
after_seconds = 1
action = "go"
expect = { result = 2 }
"""


def test_of_a_case_in_steps_it_is_told_which_does_not_hold_and_the_fuel_of_all(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS + STEPS)
    ran = warren("test", good)
    assert "        step 2, go: result: expected (-), and got (+)\n        -2\n        +1\n" in ran.out
    one, two = warren("test", good, "--json").json["cases"]
    assert two["fuel"] == 2 * one["fuel"]


def test_host_functions_that_are_not_installed_are_told(good: Path) -> None:
    (good / "a.case.toml").write_text(HOLDS)
    ran = warren("test", good, "--host-functions", "nothing")
    assert "nothing" in ran.err
    assert (ran.code, ran.out) == (ExitCode.FAILED, "")
