"""A profile as a flame graph: an SVG that needs nothing but a browser.

Each rectangle is a call, below what it called, and as wide as the fuel that both used; hovering over one tells its name
and its fuel. Calls that would be narrower than a tenth of a pixel are left out, so that a file has a bounded length:
what stands side by side fits the width, and the depth is the profile's. Names are the guest's, and are escaped. There
is no script in it: a picture of a hostile guest must not do anything, wherever it is put.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

from .fuel_profile import Call, FuelProfile, walk

WIDTH: Final = 1200
_ROW: Final = 18
_MARGIN: Final = 10
_HEADING: Final = 40

#: In pixels: what is narrower is not drawn, and what is narrower than that has no name in it.
_LEAST_WIDTH: Final = 0.1
_LEAST_NAMED: Final = 30.0
_CHARACTER: Final = 6.8

_STYLE: Final = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1b1b1b}"
    "rect{stroke:#fff;stroke-width:.5}g:hover>rect{stroke:#1b1b1b;stroke-width:1}"
)


@dataclass(frozen=True, slots=True)
class _Box:
    name: str
    call: Call
    total: int
    x: float
    width: float


def flame_graph(profile: FuelProfile, title: str) -> Iterator[str]:
    """The SVG, in lines. `title` stands above the picture."""
    totals = _totals(profile.root)
    boxes = list(_boxes(profile, totals))
    depth = max(box.call.depth for box in boxes)
    height = _HEADING + (depth + 1) * _ROW + _MARGIN
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(_text(title))}>'
    yield f"<style>{_STYLE}</style>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    yield f'<text x="{_MARGIN}" y="24">{escape(_text(title))}</text>'
    for box in boxes:
        yield from _drawn(box, height, max(1, profile.fuel))
    yield "</svg>"


def _totals(root: Call) -> dict[int, int]:
    """The fuel of each call with all that it called, by its identity."""
    totals: dict[int, int] = {}
    for call in reversed([call for _, call in walk(root)]):  # callees stand behind their callers
        totals[id(call)] = call.fuel + sum(totals[id(inner)] for inner in call.calls.values())
    return totals


def _boxes(profile: FuelProfile, totals: dict[int, int]) -> Iterator[_Box]:
    scale = (WIDTH - 2 * _MARGIN) / max(1, totals[id(profile.root)])
    waiting = [(profile.root, float(_MARGIN))]
    while waiting:
        call, x = waiting.pop()
        total = totals[id(call)]
        if call is not profile.root and total * scale < _LEAST_WIDTH:
            continue
        name = "all" if call is profile.root else profile.names[call.function]
        yield _Box(name, call, total, x, total * scale)
        for inner in call.calls.values():
            waiting.append((inner, x))
            x += totals[id(inner)] * scale


def _drawn(box: _Box, height: int, fuel: int) -> Iterator[str]:
    y = height - _MARGIN - (box.call.depth + 1) * _ROW
    own = "" if box.call.fuel == box.total else f", {box.call.fuel:,} of it its own"
    times = f", called {box.call.times:,} times" if box.call.times > 1 else ""
    told = f"{_text(box.name)}: {box.total:,} fuel, {box.total / fuel:.1%}{own}{times}"
    yield f"<g><title>{escape(told)}</title>"
    yield f'<rect x="{box.x:.2f}" y="{y}" width="{box.width:.2f}" height="{_ROW - 1}" fill="{_colour(box.name)}"/>'
    if box.width >= _LEAST_NAMED:
        room = int((box.width - 6) / _CHARACTER)
        name = _text(box.name)
        shown = name if len(name) <= room else name[: max(1, room - 1)] + "…"
        yield f'<text x="{box.x + 3:.2f}" y="{y + 13}">{escape(shown)}</text>'
    yield "</g>"


def _colour(name: str) -> str:
    """The same for the same name, in the colours of fire."""
    bits = crc32(name.encode(errors="replace"))
    return f"hsl({bits % 50},{70 + bits // 50 % 20}%,{62 + bits // 1000 % 12}%)"


def _text(text: str) -> str:
    """Without what XML cannot hold, even escaped."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
