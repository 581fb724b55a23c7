"""A trace as a waterfall: its spans as a tree, each with a bar where it lies in time, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from warren.bus import Span, Trace

from ..text import duration, printable

_COLOURS: Final = {"producer": "cyan", "consumer": "blue", "internal": "green", "client": "magenta"}

NARROWEST_BAR: Final = 12

#: Of a span's error; the whole sentence is in the result.
LONGEST_ERROR: Final = 30


def waterfall(trace: Trace) -> Table:
    """One row for each span, in the order of the tree; all bars are to one scale, first start to last end."""
    start_ns = min((span.start_ns for span in trace.spans), default=0)
    total_ns = max((span.start_ns + span.duration_ns for span in trace.spans), default=0) - start_ns
    table = Table(box=None, expand=True, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, ratio=1, min_width=NARROWEST_BAR)
    table.add_column(no_wrap=True, justify="right", min_width=9)
    for depth, span in trace.walk():
        bar = Bar((span.start_ns - start_ns) / (total_ns or 1), span.duration_ns / (total_ns or 1), _style(span))
        table.add_row(_name(depth, span), bar, duration(span.duration_ns / 1_000))
    if trace.dropped:
        table.add_row(Text(f"and {trace.dropped} more spans, for which there was no room", "dim"))
    return table


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar over a stretch of time; `start` and `length` are shares of the whole. However short, one cell shows."""

    start: float
    length: float
    style: str

    def cells(self, width: int) -> tuple[int, int]:
        """Where the bar begins and ends in a line of `width` cells."""
        begin = min(int(self.start * width), width - 1)
        end = round((self.start + self.length) * width)
        return begin, min(max(end, begin + 1), width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        begin, end = self.cells(options.max_width)
        mark = "=" if options.ascii_only else "━"
        yield Segment(" " * begin)
        yield Segment(mark * (end - begin), Style.parse(self.style))
        yield Segment(" " * (options.max_width - end))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(NARROWEST_BAR, options.max_width)


def _name(depth: int, span: Span) -> Text:
    name = Text("  " * depth + printable(span.name), "red" if span.error else "")
    if span.error:
        error = Text(f"  {printable(span.error)}", "dim red")
        error.truncate(LONGEST_ERROR, overflow="ellipsis")
        name.append(error)
    return name


def _style(span: Span) -> str:
    return "red" if span.error else _COLOURS[span.kind]
