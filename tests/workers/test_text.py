"""Text that others wrote never acts on a terminal, and JSON stays JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.workers.cli.json_data import json_text
from warren.workers.text import age, duration, printable, size

#: Anything but lone surrogates, which no message of Warren's can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(st.text())
def test_printable_text_prints_and_is_one_line(text: str) -> None:
    assert printable(text).isprintable()


def test_what_prints_is_left_as_it_is() -> None:
    assert printable("Füchse, 狐狸 and [bold]🦊[/bold]") == "Füchse, 狐狸 and [bold]🦊[/bold]"


def test_what_acts_on_a_terminal_is_escaped() -> None:
    assert printable("\x1b[31mred\x9b0m\r\n\u202eback") == r"\u001b[31mred\u009b0m\r\n\u202eback"


@given(VALUES)
def test_json_prints_and_says_the_same(value: Any) -> None:
    text = json_text(value)
    assert text.isprintable()
    assert json.loads(text) == value


@given(VALUES)
def test_indented_json_prints_line_by_line_and_says_the_same(value: Any) -> None:
    text = json_text(value, indent=2)
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("microseconds", "said"), [(0, "0 µs"), (999, "999 µs"), (1_500, "1.50 ms"), (30_000_000, "30.00 s")]
)
def test_durations_come_in_the_unit_that_suits_them(microseconds: float, said: str) -> None:
    assert duration(microseconds) == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (2048, "2 KiB"), (64 << 20, "64.0 MiB")])
def test_sizes_come_in_the_unit_that_suits_them(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_199, "1 h"), (90_000, "1 d"), (86_400 * 400, "400 d")],
)
def test_an_age_is_in_whole_ones_of_its_largest_unit(seconds: float, shown: str) -> None:
    assert age(seconds) == shown
