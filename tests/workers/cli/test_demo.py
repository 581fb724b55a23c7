"""`warren demo`: the sample plugins over documents, on the embedded bus."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workers.cli.commands import warren
from warren.workers.cli.exit_codes import ExitCode

PLUGINS = ("text_processor", "word_stats", "digest")


@pytest.fixture
def burrows(tmp_path: Path) -> Path:
    path = tmp_path / "burrows.txt"
    path.write_text("Rabbits dig burrows. A warren is a system of burrows.\n\nFoxes wait outside the warren.\n")
    return path


def test_by_default_it_reads_warrens_own_documents() -> None:
    shown = warren("demo", "--json")
    assert shown.code == ExitCode.OK
    documents = {found["document"]: found for found in shown.json["documents"]}
    assert set(documents) == {"README.md", "CHANGELOG.md"}
    assert documents["CHANGELOG.md"]["words"] > 100


def test_a_document_comes_through_all_three_plugins(burrows: Path) -> None:
    (found,) = warren("demo", burrows, "--json").json["documents"]
    assert (found["document"], found["words"], found["sentences"], found["error"]) == ("burrows.txt", 15, 3, None)
    assert {"burrows", "warren"} <= set(found["keywords"])
    assert found["digest"].startswith("burrows.txt: 15 words in 3 sentences about ")
    assert found["outcomes"] == dict.fromkeys(PLUGINS, "ok")


def test_its_trace_is_one_tree_with_every_run_and_every_message_between_them(burrows: Path) -> None:
    trace = warren("demo", burrows, "--json").json["documents"][0]["trace"]
    spans = {span["span_id"]: span for span in trace["spans"]}
    (root,) = [span for span in spans.values() if span["parent_id"] not in spans]
    assert root["name"] == "demo burrows.txt"
    assert {f"run {plugin}" for plugin in PLUGINS} <= {span["name"] for span in spans.values()}
    digest = next(span for span in spans.values() if span["name"] == "run digest")
    way = []
    while digest["parent_id"] is not None:
        digest = spans[digest["parent_id"]]
        way.append(digest["name"])
    assert way == [
        "process warren.plugin.digest",
        "send warren.events",
        "run word_stats",
        "process warren.plugin.word_stats",
        "send warren.events",
        "run text_processor",
        "process warren.plugin.text_processor",
        "send warren.requests",
        "demo burrows.txt",
    ]


def test_people_see_a_table_the_digests_and_a_waterfall(burrows: Path) -> None:
    shown = warren("demo", burrows)
    assert shown.code == ExitCode.OK
    assert "Document" in shown.out
    assert "burrows.txt: 15 words in 3 sentences about " in shown.out
    assert "                  run digest " in shown.out
    assert "━" in shown.out
    assert shown.err == ""


def test_two_documents_of_one_name_are_two_documents(burrows: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "burrows.txt"
    other.parent.mkdir()
    other.write_text("Hares have none.")
    found = warren("demo", burrows, other, "--json").json["documents"]
    assert [one["words"] for one in found] == [15, 3]


def test_an_empty_document_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    (found,) = warren("demo", path, "--json").json["documents"]
    assert found["words"] == 0


def test_a_name_that_would_act_on_the_terminal_does_not(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m[red]x[nope].txt"
    path.write_text("One rabbit.")
    shown = warren("demo", path)
    assert shown.code == ExitCode.OK
    assert "\\u001b[31m[red]x[nope].txt" in shown.out
    assert "\x1b" not in shown.out


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.txt")
    path.write_text("One rabbit.")
    (found,) = warren("demo", path, "--json").json["documents"]
    assert found["document"] == "\\udcff.txt"


def test_a_document_that_is_too_long_for_a_request_says_so(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("rabbit " * 200_000)
    shown = warren("demo", path)
    assert shown.code == ExitCode.BAD_OUTCOME
    assert "error: long.txt: text_processor ended with rejected: the message is 1,400,0" in shown.err


def test_text_that_is_not_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Der Hase läuft".encode("latin-1"))
    shown = warren("demo", path)
    assert (shown.code, shown.out) == (ExitCode.USAGE, "")
    assert f"{path} is not UTF-8 text: byte 0xe4 at offset 10" in shown.err


@pytest.mark.parametrize("bad", ["missing.txt", "."])
def test_what_cannot_be_read_is_refused(tmp_path: Path, bad: str) -> None:
    shown = warren("demo", tmp_path / bad)
    assert (shown.code, shown.out) == (ExitCode.USAGE, "")
    assert shown.err.startswith(f"error: cannot read {tmp_path / bad}: ")
