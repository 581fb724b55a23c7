"""What guests log, as it is logged here: it acts on nothing, looks like nobody else's, and is not too much."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from tests.guests import data, wat, write_plugin
from tests.workers.cli.commands import warren
from warren.plugins import LogLine
from warren.workers.cli.logs import _JsonLines, _Lines
from warren.workers.guest_logs import BURST_LINES, LINES_PER_S, GuestLogs

#: A guest's line that would clear the screen, colour it, ring, begin another line, and turn the text around.
HOSTILE = "\x1b[2J\x1b[31mred\x07\r\n2026-01-01 ERROR warren: all is lost\u202etxt\u2066\u2028\x9b1m\x00"
ESCAPED = r"\u001b[2J\u001b[31mred\u0007\r\n2026-01-01 ERROR warren: all is lost\u202etxt\u2066\u2028\u009b1m\u0000"


class Clock:
    """Seconds that pass when they are told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines(count: int, plugin: str | None = None) -> tuple[LogLine, ...]:
    return tuple(LogLine("info", f"line {n}", 0, plugin) for n in range(count))


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="warren.guest")
    return caplog


def test_what_a_guest_logs_is_logged_under_its_name_at_its_level(heard: pytest.LogCaptureFixture) -> None:
    said = (LogLine("warn", "careful", 0), LogLine("debug", "unheard", 0), LogLine("info", "called", 0, "b"))
    GuestLogs().log("a", said)
    assert heard.record_tuples == [
        ("warren.guest.a", logging.WARNING, "careful"),
        ("warren.guest.b", logging.INFO, "called"),
    ]


def test_a_line_with_escape_codes_newlines_and_bidirectional_marks_is_one_line_of_plain_text(
    heard: pytest.LogCaptureFixture,
) -> None:
    GuestLogs().log("a", (LogLine("info", HOSTILE, 0),))
    assert heard.messages == [ESCAPED]


def test_on_a_terminal_it_is_plain_text_and_in_json_one_object(heard: pytest.LogCaptureFixture) -> None:
    GuestLogs().log("a", (LogLine("error", HOSTILE + "[red]markup[/red]", 0),))
    [record] = heard.records
    shown, as_json = io.StringIO(), io.StringIO()
    _Lines(Console(file=shown, width=40)).emit(record)
    assert shown.getvalue().endswith(f"warren.guest.a: {ESCAPED}[red]markup[/red]\n")
    assert shown.getvalue().count("\n") == 1
    _JsonLines(as_json).emit(record)
    [line] = as_json.getvalue().splitlines()
    assert json.loads(line)["message"] == f"{ESCAPED}[red]markup[/red]"
    assert line.isprintable()


def test_a_log_with_escape_codes_reaches_no_terminal_by_the_command_line(tmp_path: Path) -> None:
    raw = HOSTILE.encode()
    guest = wat(f"(call $say (i32.const 1024) (i32.const {len(raw)})) (call $answer)", more=data(1024, raw))
    write_plugin(tmp_path, "noisy", guest)
    plain = warren("call", "noisy", "go", "--plugins", tmp_path, "--log-level", "info")
    assert ESCAPED in plain.err.replace("\n", "")
    assert not {"\x1b", "\x07", "\r", "\u202e", "\u2066", "\u2028", "\x9b", "\x00"} & set(plain.err)
    in_json = warren("call", "noisy", "go", "--plugins", tmp_path, "--log-level", "info", "--json")
    said = [json.loads(line) for line in in_json.err.splitlines()]
    assert [line["message"] for line in said if line["logger"] == "warren.guest.noisy"] == [ESCAPED]


def test_more_than_a_plugin_may_log_is_dropped_and_counted(heard: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    logs = GuestLogs(clock)
    logs.log("a", lines(BURST_LINES + 30))
    assert heard.messages[BURST_LINES:] == [f"more than {LINES_PER_S} lines a second: lines are dropped from here on"]
    assert heard.records[-1].levelno == logging.WARNING
    logs.log("a", lines(12))
    heard.clear()
    clock.now_s += 2.5 / LINES_PER_S
    logs.log("a", lines(3))
    assert heard.messages == [
        f"42 lines were dropped: more than {LINES_PER_S} a second",
        "line 0",
        "line 1",
        f"more than {LINES_PER_S} lines a second: lines are dropped from here on",
    ]
    heard.clear()
    for _ in range(2):
        logs.close()
    assert heard.messages == [f"1 lines were dropped: more than {LINES_PER_S} a second"]


def test_a_plugin_that_logs_too_much_takes_nothing_from_another(heard: pytest.LogCaptureFixture) -> None:
    logs = GuestLogs(Clock())
    logs.log("a", lines(BURST_LINES + 1))
    logs.log("c", lines(BURST_LINES, plugin="b"))
    heard.clear()
    logs.log("a", (*lines(1), *lines(1, plugin="c")))
    assert heard.record_tuples == [("warren.guest.c", logging.INFO, "line 0")]


def test_after_a_pause_a_plugin_may_log_as_much_at_once_as_at_first_and_no_more(
    heard: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    logs = GuestLogs(clock)
    logs.log("a", lines(BURST_LINES))
    clock.now_s += 10 * BURST_LINES / LINES_PER_S
    heard.clear()
    logs.log("a", lines(BURST_LINES + 1))
    assert len(heard.messages) == BURST_LINES + 1
    assert "dropped from here on" in heard.messages[-1]


def test_lines_that_nobody_hears_count_for_nothing(heard: pytest.LogCaptureFixture) -> None:
    logs = GuestLogs(Clock())
    logs.log("a", tuple(LogLine("trace", "unheard", 0) for _ in range(BURST_LINES)))
    logs.log("a", lines(BURST_LINES))
    assert len(heard.messages) == BURST_LINES
    assert "dropped" not in heard.text
