"""The waterfall: the tree as indentation, time as bars to one scale."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from warren.bus import Span, Trace, TraceContext
from warren.workers.cli.waterfall import Bar, waterfall

ROOT = TraceContext.new()

#: One unit of the traces here: a microsecond.
US = 1_000


def span(name: str, parent: TraceContext | None, start_us: int, length_us: int, error: str | None = None) -> Span:
    context = ROOT if parent is None else ROOT.child()
    parent_id = None if parent is None else parent.span_id
    return Span(name, context, parent_id, "internal", 10**18 + start_us * US, length_us * US, {}, error)


def drawn(*spans: Span, width: int = 60, dropped: int = 0, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, color_system=None)
    console.print(waterfall(Trace(ROOT.trace_id, spans, dropped)))
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def test_the_tree_is_indented_and_bars_lie_where_their_spans_do_in_time() -> None:
    first, second = span("first", ROOT, 0, 500), span("second", ROOT, 500, 500)
    root, early, late = drawn(span("root", None, 0, 1000), second, first)
    assert root.startswith("root ")
    assert early.startswith("  first ")
    assert late.startswith("  second ")
    assert root.count("━") == pytest.approx(2 * early.count("━"), abs=1)
    assert early.index("━") == root.index("━")
    assert late.index("━") == pytest.approx(root.index("━") + early.count("━"), abs=1)
    assert late.rindex("━") == root.rindex("━")


def test_every_line_says_how_long_its_span_took() -> None:
    root, child = drawn(span("root", None, 0, 1500), span("child", ROOT, 0, 20))
    assert root.endswith(" 1.50 ms")
    assert child.endswith(" 20 µs")


def test_a_span_that_failed_says_why_without_acting_on_the_terminal() -> None:
    (line,) = drawn(span("root", None, 0, 10, error="\x1b[2Jno memory"), width=80)
    assert r"\u001b[2Jno memory" in line
    assert "\x1b" not in line


def test_names_are_not_read_as_markup() -> None:
    (line,) = drawn(span("[red]root[/nope]", None, 0, 10))
    assert line.startswith("[red]root[/nope]")


def test_spans_that_were_dropped_are_counted() -> None:
    assert "and 3 more spans" in drawn(span("root", None, 0, 10), dropped=3, width=100)[-1]


def test_a_trace_without_length_or_without_spans_is_drawn_too() -> None:
    assert "━" in drawn(span("root", None, 0, 0))[0]
    assert drawn() in ([], [""])


def test_a_terminal_without_unicode_gets_plain_bars() -> None:
    (line,) = drawn(span("root", None, 0, 2_000_000), encoding="ascii")
    assert "====" in line


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 300))
def test_a_bar_stays_within_its_line_and_always_shows(start: float, length: float, width: int) -> None:
    begin, end = Bar(start, length * (1 - start), "").cells(width)
    assert 0 <= begin < end <= width
