from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins import LogLine
from warren.workers.guest_logs import escaped, log_guest_lines


def test_what_a_guest_logs_is_logged_under_its_name_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="warren.guest"):
        log_guest_lines("a", (LogLine("warn", "careful", 0), LogLine("debug", "unheard", 0)))
    assert caplog.record_tuples == [("warren.guest.a", logging.WARNING, "careful")]


def test_what_acts_on_a_terminal_is_escaped() -> None:
    assert escaped("a\x1b[31m\nb\r") == "a\\x1b[31m\\nb\\r"


@given(st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    assert escaped(text).isprintable()
