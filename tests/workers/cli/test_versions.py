"""`warren check` on several versions of a plugin: who may break whose callers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests import write_plugin
from tests.workers.cli.commands import EXAMPLES, Ended, warren
from warren.workers.cli.exit_codes import ExitCode


def version(folder: Path, number: str, max_length: int, name: str = "hello") -> Path:
    """A version of a plugin that takes texts of so many characters."""
    action = f'[actions.greet.request]\ntype = "string"\nmaxLength = {max_length}\n'
    return write_plugin(folder, name, manifest_extra=action, version=number, stem=f"{name}-{number}")


def sentences(ended: Ended) -> list[str]:
    """What was said after the name of the file."""
    return [line.partition(".toml: ")[2] for line in ended.out.splitlines() if not line.startswith("ok ")]


def test_a_version_that_breaks_the_callers_of_the_one_before_it_is_refused(tmp_path: Path) -> None:
    version(tmp_path, "1.0.0", 1000)
    path = version(tmp_path, "1.1.0", 100)
    checked = warren("check", tmp_path)
    assert checked.code == ExitCode.FAILED
    sound, refused = checked.out.splitlines()
    assert sound == f"ok hello 1.0.0 core {tmp_path}/hello-1.0.0.wasm"
    assert refused == (
        f"{path.with_suffix('.toml')}: 1.1.0 breaks callers of 1.0.0: action 'greet': request: "
        "maxLength fell from 1000 to 100; raise the version to 2.0.0, or undo it"
    )


def test_how_a_version_would_be_rolled_out_is_told(tmp_path: Path) -> None:
    write_plugin(tmp_path, "hello")
    write_plugin(tmp_path, "hello", None, "[rollout]\nshadow = true\n", version="2.0.0", stem="hello-2")
    ended = warren("check", tmp_path)
    assert ended.code == ExitCode.OK
    assert ended.out.count("rollout: 10 % of requests run by it as well, by message_id; promoted by order") == 1
    rollouts = [plugin["rollout"] for plugin in warren("check", tmp_path, "--json").json["plugins"]]
    assert [rollout and rollout["shadow"] for rollout in sorted(rollouts, key=bool)] == [None, True]


def test_what_breaks_is_there_as_data(tmp_path: Path) -> None:
    version(tmp_path, "1.0.0", 1000)
    version(tmp_path, "1.1.0", 100)
    old, new = warren("check", tmp_path, "--json").json["plugins"]
    assert (old["ok"], old["breaking"]) == (True, [])
    assert (new["name"], new["version"], new["ok"]) == ("hello", "1.1.0", False)
    assert new["breaking"] == [
        {"old": "1.0.0", "action": "greet", "side": "request", "path": "", "reason": "maxLength fell from 1000 to 100"}
    ]
    assert [problem["key"] for problem in new["problems"]] == ["actions.greet.request"]


def test_two_of_one_name_and_version_are_refused_as_a_worker_would_refuse_the_second(tmp_path: Path) -> None:
    first = version(tmp_path / "a", "1.0.0", 10)
    second = version(tmp_path / "b", "1.0.0", 10)
    version(tmp_path / "b", "1.0.0", 10, name="other")
    checked = warren("check", tmp_path)
    assert checked.code == ExitCode.FAILED
    assert [line for line in checked.out.splitlines() if not line.startswith("ok ")] == [
        f"{second.with_suffix('.toml')}: hello 1.0.0 is {first} already; raise the version, or take one of them away"
    ]


def test_a_folder_that_is_named_in_two_ways_is_one(tmp_path: Path) -> None:
    path = version(tmp_path / "a", "1.0.0", 10)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    checked = warren("check", path, tmp_path / "b", tmp_path / "a" / ".." / "a")
    assert (checked.code, len(checked.out.splitlines())) == (ExitCode.OK, 1)


@pytest.mark.parametrize(("old", "new"), [("1.9.0", "2.0.0"), ("0.2.9", "0.3.0"), ("0.0.1", "0.0.2")])
def test_a_version_may_break_callers_once_it_says_so(tmp_path: Path, old: str, new: str) -> None:
    version(tmp_path, old, 1000)
    version(tmp_path, new, 100)
    assert warren("check", tmp_path).code == ExitCode.OK


def test_each_version_is_compared_with_the_next_lower_one_by_number(tmp_path: Path) -> None:
    for number, max_length in (("1.10.0", 30), ("1.9.0", 20), ("1.2.0", 10), ("2.0.0", 5)):
        version(tmp_path, number, max_length)
    version(tmp_path, "1.0.0", 1000, name="other")
    assert warren("check", tmp_path).code == ExitCode.OK


def test_a_version_that_is_not_sound_is_stepped_over(tmp_path: Path) -> None:
    version(tmp_path, "1.0.0", 1000)
    version(tmp_path, "1.1.0", 1000).write_bytes(b"no module")
    version(tmp_path, "1.2.0", 100)
    assert "1.2.0 breaks callers of 1.0.0" in warren("check", tmp_path).out


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_new_version_is_compared_with_the_one_in_use(tmp_path: Path, as_folder: bool) -> None:  # noqa: FBT001
    in_use = version(tmp_path / "old", "1.0.0", 1000)
    new = version(tmp_path / "new", "1.1.0", 100)
    checked = warren("check", new, "--against", in_use.parent if as_folder else in_use)
    assert checked.code == ExitCode.FAILED
    (sentence,) = sentences(checked)
    assert sentence.startswith("1.1.0 breaks callers of 1.0.0: ")


def test_of_several_versions_in_use_it_is_the_one_that_is_replaced_or_comes_before(tmp_path: Path) -> None:
    for number, max_length in (("1.0.0", 10), ("1.1.0", 100), ("2.0.0", 1000)):
        version(tmp_path / "old", number, max_length)
    for number, old in (("1.1.0", "1.1.0"), ("1.2.0", "1.1.0"), ("2.0.1", "2.0.0"), ("0.9.0", "1.0.0")):
        checked = warren("check", version(tmp_path / number, number, 5), "--against", tmp_path / "old")
        assert [sentence[: len(f"{number} breaks callers of {old}:")] for sentence in sentences(checked)] == [
            f"{number} breaks callers of {old}:"
        ]


def test_a_version_that_breaks_nobody_passes_against_the_one_in_use(tmp_path: Path) -> None:
    in_use = version(tmp_path / "old", "1.0.0", 100)
    checked = warren("check", version(tmp_path / "new", "1.0.1", 1000), "--against", in_use)
    assert (checked.code, checked.out.split()[:3]) == (ExitCode.OK, ["ok", "hello", "1.0.1"])


def test_one_break_is_told_once_however_it_is_found(tmp_path: Path) -> None:
    in_use = version(tmp_path, "1.0.0", 1000)
    version(tmp_path, "1.1.0", 100)
    assert len(sentences(warren("check", tmp_path, "--against", in_use))) == 1


def test_a_plugin_that_is_not_in_use_yet_is_sound_and_said_to_be_compared_with_nothing(tmp_path: Path) -> None:
    new = version(tmp_path, "1.0.0", 10)
    checked = warren("check", new, "--against", EXAMPLES)
    assert checked.code == ExitCode.OK
    assert checked.out.splitlines()[1] == f"   note: there is no hello in {EXAMPLES} to compare it with"


def test_what_cannot_be_read_of_the_version_in_use_is_no_proof(tmp_path: Path) -> None:
    new = version(tmp_path / "new", "1.0.0", 10)
    (tmp_path / "old").mkdir()
    empty = warren("check", new, "--against", tmp_path / "old")
    assert (empty.code, "there is no plugin here" in empty.out) == (ExitCode.FAILED, True)
    version(tmp_path / "old", "1.0.0", 10).with_suffix(".toml").write_text("name = 5")
    unread = warren("check", new, "--against", tmp_path / "old")
    assert (unread.code, "must be a string" in unread.out) == (ExitCode.FAILED, True)


def test_the_words_of_a_schema_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    schema = '[actions.go.request]\ntype = "object"\n'
    write_plugin(tmp_path, "loud", manifest_extra=schema, stem="1")
    loud = '[actions.go.request.properties."\\u001b[31m\\n"]\npattern = "\\u001b[31m"\n'
    write_plugin(tmp_path, "loud", manifest_extra=f"{schema}{loud}", version="1.1.0", stem="2")
    checked = warren("check", tmp_path)
    assert checked.code == ExitCode.FAILED
    assert "\x1b" not in checked.out
    assert len(checked.out.splitlines()) == 2
