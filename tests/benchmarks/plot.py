"""The plot: a bar for each worker's throughput, and beside it one for the processor time that it takes.

Written by hand, since it is two columns of rectangles. It has no background, and its colours follow the reader's light
or dark mode, so that it can stand in a README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

from tests.benchmarks.lineup import WARREN
from tests.benchmarks.report import Measured, shown_figure

WIDTH: Final = 840
ROW: Final = 34
TOP: Final = 64
FOOT: Final = 30
NAMES: Final = 130

#: The longest bar; its figure stands behind it.
BAR: Final = 265
BAR_HEIGHT: Final = 18

STYLE: Final = """
  text { font: 14px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }
  .heading { font-weight: 600; }
  .quiet { font-size: 12px; fill: #59636e; }
  .name { text-anchor: end; }
  .ours { font-weight: 600; }
  rect { fill: #afb8c1; }
  rect.ours { fill: #bf5b16; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    rect { fill: #59636e; }
    rect.ours { fill: #f0883e; }
  }
"""


@dataclass(frozen=True, slots=True)
class Column:
    """Bars of one figure, from `left` on."""

    left: int
    heading: str
    note: str
    figure: Literal["requests_per_s", "cpu_s_per_1000"]

    def value(self, worker: Measured) -> float:
        return worker.figures()[self.figure] or 0.0


THROUGHPUT: Final = Column(NAMES + 12, "Requests per second", "more is better", "requests_per_s")
CPU: Final = Column(NAMES + BAR + 102, "Worker CPU seconds per 1,000 requests", "less is better", "cpu_s_per_1000")


def svg(workers: Sequence[Measured], foot: str) -> str:
    """The plot as SVG; the fastest worker on top, `foot` under it."""
    ordered = sorted(workers, key=THROUGHPUT.value, reverse=True)
    height = TOP + ROW * len(ordered) + FOOT
    rows = [_text(NAMES, _middle(row), each.name, f"name {_kind(each)}") for row, each in enumerate(ordered)]
    columns = [line for column in (THROUGHPUT, CPU) for line in _column(column, ordered)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            "<title>Throughput and processor time of Warren and of other workers</title>",
            f"<style>{STYLE}</style>",
            *rows,
            *columns,
            _text(12, height - 10, foot, "quiet"),
            "</svg>\n",
        )
    )


def _column(column: Column, workers: Sequence[Measured]) -> list[str]:
    longest = max(map(column.value, workers)) or 1
    lines = [_text(column.left, 24, column.heading, "heading"), _text(column.left, 44, column.note, "quiet")]
    for row, worker in enumerate(workers):
        value = column.value(worker)
        width = max(1.0, BAR * value / longest)
        lines.append(
            f'<rect x="{column.left}" y="{TOP + ROW * row + (ROW - BAR_HEIGHT) / 2:g}" width="{width:.1f}" '
            f'height="{BAR_HEIGHT}" rx="3" class="{_kind(worker)}"/>'
        )
        lines.append(_text(column.left + width + 8, _middle(row), shown_figure(value), _kind(worker)))
    return lines


def _kind(worker: Measured) -> str:
    return "ours" if worker.name == WARREN else "theirs"


def _middle(row: int) -> float:
    """The base line of a row's text."""
    return TOP + ROW * row + ROW / 2 + 5


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind}">{escape(text)}</text>'
