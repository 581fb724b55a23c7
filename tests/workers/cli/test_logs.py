"""Log lines: one each for people, one JSON object each for machines, and nothing in them acts."""

from __future__ import annotations

import json
import logging

import pytest

from warren.workers.cli.logs import configure_logging

log = logging.getLogger("warren.guest.hare")


def dig() -> None:
    raise ValueError("no burrow")


def test_a_line_has_time_level_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    log.info("dug %d burrows", 3)
    log.debug("unheard")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.endswith("INFO    warren.guest.hare: dug 3 burrows\n")
    assert written.err.count("\n") == 1


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    log.info("x" * 1000)
    assert capsys.readouterr().err.count("\n") == 1


def test_no_message_makes_a_line_that_looks_like_another(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    log.info("quiet\n2030-01-01 ERROR warren: forged\x1b[2J [red]")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("quiet")
    assert second == "    2030-01-01 ERROR warren: forged\\u001b[2J [red]"


def test_machines_get_one_object_a_line_with_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", as_json=True)
    try:
        dig()
    except ValueError:
        log.exception("failed")
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"]) == ("error", "warren.guest.hare", "failed")
    assert "ValueError: no burrow" in line["traceback"]


def test_people_get_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    try:
        dig()
    except ValueError:
        log.exception("failed")
    assert "\n    ValueError: no burrow" in capsys.readouterr().err
