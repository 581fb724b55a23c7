"""Case files: what they may say, what is wrong with one that cannot be read, and what an outcome is held against."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from warren.manifests import ManifestError
from warren.plugins import GuestMessage, HostCall, LogLine, Outcome
from warren.workers.kit.cases import Expected, find_cases, read_cases
from warren.workers.kit.judging import Ended, judge

OK: Final = Outcome(
    "ok",
    b'{"success":true,"result":{"words":3,"top":[{"word":"a","n":2},{"word":"b","n":1}],"exact":true},"error":null}',
    fuel=1_000,
    logs=(LogLine("info", "counting 3 words", 0), LogLine("debug", "done", 0)),
    messages=(GuestMessage(None, "counted", b'{"words":3}'), GuestMessage("other", "counted", b"null")),
    host_calls=(HostCall("get_time", 0, 1), HostCall("storage_get", 0, 1)),
)
FAILED: Final = Outcome("failed", b'{"success":false,"result":null,"error":"there is no text"}')
TRAPPED: Final = Outcome("trap", error="wasm trap: unreachable")

#: What holds, and what does not and how it is told.
JUDGED: Final[list[tuple[Outcome, str, list[str]]]] = [
    (OK, "", []),
    (FAILED, "", ["outcome"]),
    (TRAPPED, "outcome = 'ok'", ["outcome"]),
    (FAILED, "outcome = 'failed'", []),
    (TRAPPED, "outcome = 'trap'", []),
    (OK, "result = { words = 3 }", ["result"]),
    (OK, "includes = { words = 3 }", []),
    (OK, "includes = { top = [{ word = 'a' }, { n = 1 }] }", []),
    (OK, "includes = { top = [{ word = 'a' }] }", ["part of the result"]),
    (OK, "includes = { exact = 1 }", ["part of the result"]),
    (OK, "includes = { words = 3.0 }", []),
    (OK, "includes = { chars = 3 }", ["part of the result"]),
    (FAILED, "outcome = 'failed'\nerror = 'there is no text'", []),
    (FAILED, "outcome = 'failed'\nerror = 'there is'", ["error"]),
    (FAILED, "outcome = 'failed'\nerror_matches = '^there .* text$'", []),
    (TRAPPED, "outcome = 'trap'\nerror_matches = 'unreachable'", []),
    (OK, "error_matches = '.*'", ["error that matches"]),
    (OK, "logs = ['3 words', 'done']", []),
    (OK, "logs = ['done', '3 words']", ["log lines with"]),
    (OK, "logs = ['done', 'done']", ["log lines with"]),
    (OK, "messages = [{ topic = 'counted', payload = { words = 3 } }, { to = 'other' }]", []),
    (OK, "messages = [{ topic = 'counted' }]", ["messages"]),
    (OK, "messages = []", ["messages"]),
    (OK, "host_calls = ['get_time', 'storage_get']", []),
    (OK, "host_calls = ['storage_get']", ["host calls"]),
    (OK, "max_fuel = 1_000", []),
    (OK, "max_fuel = 999", ["fuel, at most"]),
    (TRAPPED, "result = 1\nmax_fuel = 1", ["outcome", "result"]),
]


@pytest.mark.parametrize(("outcome", "expect", "told"), JUDGED)
def test_an_outcome_is_held_against_what_is_expected(outcome: Outcome, expect: str, told: list[str]) -> None:
    expected = Expected.model_validate(tomllib.loads(expect))
    assert [mismatch.what for mismatch in judge(expected, Ended(outcome))] == told


def test_a_mismatch_has_both_sides() -> None:
    (mismatch,) = judge(Expected.model_validate({"includes": {"words": 4}}), Ended(OK))
    assert mismatch.expected == {"words": 4}
    assert mismatch.actual["words"] == 3


def test_a_wrong_outcome_says_what_went_wrong() -> None:
    (mismatch,) = judge(Expected(), Ended(TRAPPED))
    assert mismatch.actual == "trap: wasm trap: unreachable"


CASE: Final = '[[cases]]\nname = "a"\naction = "go"\n'

STEPS: Final = '[[cases]]\nname = "a"\n[[cases.steps]]\naction = "go"\n'

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "no cases": ("plugin = 'a'", "cases"),
    "an empty list": ("cases = []", "cases"),
    "not TOML": ("[[cases", "x.case.toml:1: not TOML"),
    "an unknown key": (f"{CASE}expct = {{ result = 1 }}", "x.case.toml:4"),
    "its nearest": (f"{CASE}expct = {{ result = 1 }}", "expect"),
    "an unknown outcome": (f'{CASE}expect = {{ outcome = "fine" }}', "x.case.toml:4"),
    "a bad expression": (f'{CASE}expect = {{ error_matches = "(" }}', "this is no regular expression"),
    "no action": ('[[cases]]\nname = "a"', "action"),
    "a date": (f"{CASE}data = 2026-01-01", "which JSON does not have"),
    "no fuel": (f"{CASE}expect = {{ max_fuel = 0 }}", "x.case.toml:4"),
    "a key that nothing gives": (
        f"{CASE}given = {{ settngs = {{}} }}",
        "x.case.toml:4: unknown key 'settngs' in [cases.given]",
    ),
    "a capability that is none": (
        f'{CASE}given = {{ deny = ["flying"] }}',
        "x.case.toml:4: 'deny[0]' in [cases.given]",
    ),
    "a time in quotes": (f'{CASE}given = {{ time = "2026-01-01" }}', "no quotes: 2026-01-01T00:00:00Z"),
    "a time without its offset": (f"{CASE}given = {{ time = 2026-01-01T00:00:00 }}", "x.case.toml:4: 'time' in"),
    "a time before all": (f"{CASE}given = {{ time = 1969-12-31T00:00:00Z }}", "between 1970 and 2200"),
    "a time for the file": ("given = { time = 1 }\n" + CASE, "x.case.toml:1: 'time' in [given]"),
    "a date among settings": (f"{CASE}given = {{ settings = {{ time = 2026-01-01 }} }}", "which JSON does not have"),
    "a limit of nothing": (f"{CASE}given = {{ resources = {{ memory_mb = 0 }} }}", "must be at least 1, not 0"),
    "no name of a variable": (f'{CASE}given = {{ environment = {{ "A=" = "b" }} }}', "x.case.toml:4"),
    "an answer to nothing": (f"{CASE}[[cases.given.http]]\nstatus = 200", "missing key 'url' in [[cases.given.http]]"),
    "an answer by a misspelt key": (f"{CASE}[[cases.given.http]]\nurl = '*'\njsn = 1", "did you mean 'json'?"),
    "two bodies": (f"{CASE}[[cases.given.http]]\nurl = '*'\njson = 1\nbody = '1'", "x.case.toml:6: 'json' in"),
    "two bodies for the file": (f"given.http = [{{ url = '*', json = 1, body = '' }}]\n{CASE}", "x.case.toml:1"),
    "an action beside steps": (f"{CASE}[[cases.steps]]\naction = 'go'", "x.case.toml:3: 'action' in [[cases]] has no"),
    "no steps": ('[[cases]]\nname = "a"\nsteps = []', "x.case.toml:3: 'steps' in [[cases]]"),
    "a step that does nothing": ('[[cases]]\nname = "a"\nsteps = [{}]', "missing key 'action' in [[cases.steps]]"),
    "a clock that is not the case's": (
        f"{STEPS}after_seconds = 1",
        "x.case.toml:5: 'after_seconds' in [[cases.steps]] moves",
    ),
    "a clock that is moved too far": (
        f"given.time = 2199-12-31T00:00:00Z\n{STEPS}after_seconds = 8.64e4\n",
        "x.case.toml:6: 'after_seconds' in [[cases.steps]]: a clock ends with the year 2199",
    ),
    "a clock that goes back": (
        f"given.time = 2026-01-01T00:00:00Z\n{STEPS}after_seconds = -1",
        "goes forward, and not by -1 s",
    ),
    "too large": ("#" * 70_000, "too large"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_read_says_what_and_where(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_cases(text.encode(), Path("x.case.toml"))
    assert said in str(caught.value)


def test_what_is_wrong_is_told_once() -> None:
    with pytest.raises(ManifestError) as caught:
        read_cases(f"{STEPS}data = 2026-01-01".encode(), Path("x.case.toml"))
    assert [problem.line for problem in caught.value.problems] == [5]
    with pytest.raises(ManifestError) as caught:
        read_cases(f"{STEPS}expct = 1".encode(), Path("x.case.toml"))
    assert [problem.line for problem in caught.value.problems] == [5]


def test_cases_are_found_in_the_folder_and_right_below_and_all_problems_are_told(tmp_path: Path) -> None:
    def write(name: str, text: Any = CASE) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    for name in ("b.case.toml", "a/c.case.toml", ".hidden/d.case.toml", "a/deep/e.case.toml", "f.toml"):
        write(name)
    assert [cases.path.name for cases in find_cases(tmp_path)] == ["c.case.toml", "b.case.toml"]
    write("g.case.toml", "cases = 1")
    write("h.case.toml", "cases = 2")
    with pytest.raises(ManifestError) as caught:
        find_cases(tmp_path)
    assert [Path(problem.source).name for problem in caught.value.problems] == ["g.case.toml", "h.case.toml"]


def test_a_case_needs_no_data_and_keeps_what_it_has() -> None:
    (case,) = read_cases(CASE.encode(), Path("x")).cases
    assert (case.data, case.expect) == (None, Expected())


BOTH: Final = b"""
[given]
settings = { a = 1, b = { c = 1 } }
deny = ["storage"]
resources = { memory_mb = 5, max_fuel = 5 }
time = 2026-01-01T00:00:00Z
http = [{ url = "file" }]

[[cases]]
name = "own"
action = "go"
[cases.given]
settings = { b = 2 }
deny = ["network"]
resources = { memory_mb = 7 }
time = 2027-01-01T00:00:00Z
http = [{ url = "case" }]
storage = {}

[[cases]]
name = "none of its own"
action = "go"
"""


def test_what_a_case_is_given_goes_over_what_all_are() -> None:
    own, shared = (case.given for case in read_cases(BOTH, Path("x")).cases)
    assert own.settings == {"a": 1, "b": 2}
    assert own.deny == ("network", "storage")
    assert (own.resources.memory_mb, own.resources.max_fuel, own.resources.timeout_seconds) == (7, 5, None)
    assert [answer.url for answer in own.http or ()] == ["case", "file"]
    assert (own.storage, own.environment) == ({}, None)
    assert [given.time and given.time.year for given in (own, shared)] == [2027, 2026]
    assert (shared.settings, shared.storage) == ({"a": 1, "b": {"c": 1}}, None)


TESTING_PAGE: Final = Path(__file__).parents[3] / "plugins" / "TESTING.md"


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TESTING_PAGE.read_text(), re.DOTALL))
def test_the_examples_on_the_page_can_be_read(example: str) -> None:
    assert read_cases(example.encode(), TESTING_PAGE).cases
