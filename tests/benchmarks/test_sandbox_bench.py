"""The benchmark of the sandbox runs to its end, with Extism or without; what so short a run measures means nothing."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from rich.console import Console

from tests.benchmarks.sandbox import Scale, measure
from tests.benchmarks.sandbox_costs import Turns
from tests.benchmarks.sandbox_report import Compared

TINY = Scale(Turns(2, 2), Turns(2, 1), suspended=5, memory_checkpoints=(5, 10), fairness_rounds=1)


@pytest.fixture(scope="module")
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def report(printed: io.StringIO) -> Any:
    """One run, as a program reads it."""
    return json.loads(json.dumps(asyncio.run(measure(TINY, Console(file=printed, width=110)))))


def test_a_tiny_run_measures_and_prints_every_section(report: Any, printed: io.StringIO) -> None:
    assert len(report["sections"]) == 7
    for section in report["sections"]:
        assert section["title"] in printed.getvalue()
        assert all(row["figures"] for row in section["rows"])


def test_rows_of_what_is_not_installed_are_left_out_and_said_to_be(report: Any) -> None:
    is_installed = report["machine"]["extism"] is not None
    for section in report["sections"][1:3]:
        assert ("Extism, fresh" in {row["name"] for row in section["rows"]}) == is_installed
        assert bool(section["notes"]) != is_installed


def test_a_requirement_is_met_up_to_its_limit_as_shown() -> None:
    assert Compared(2.0, 2.0).cells() == ("2.00x", "≤ 2.00x", "met")
    assert Compared(1.604, 1.6).cells() == ("1.60x", "≤ 1.60x", "met")
    assert Compared(1.02, 1.0, " s").cells() == ("1.02 s", "≤ 1.00 s", "not met")
    assert Compared(7.0).cells() == ("7.00x", "", "")
