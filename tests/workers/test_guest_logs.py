from __future__ import annotations

import logging

import pytest

from warren.plugins import LogLine
from warren.workers.guest_logs import log_guest_lines


def test_what_a_guest_logs_is_logged_under_its_name_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="warren.guest"):
        log_guest_lines("a", (LogLine("warn", "careful\x1b[2J", 0), LogLine("debug", "unheard", 0)))
    assert caplog.record_tuples == [("warren.guest.a", logging.WARNING, "careful\\u001b[2J")]
