"""Text for a terminal. What comes from plugins, manifests and messages is shown, and never acts: `printable` leaves no
character that could move the cursor, colour the screen or make one line look like two."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json


def printable(text: str) -> str:
    """`text` with every character that does not print written as JSON's escape for it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON that is `printable` too. What does not print is always within a string, where escapes belong."""
    lines = to_json(value, indent=indent, inf_nan_mode="null").decode().split("\n")
    return "\n".join(map(printable, lines))


def duration(microseconds: float) -> str:
    """A duration in the unit that suits it."""
    if microseconds < 1_000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1_000:.2f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


def size(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    if count < 1 << 10:
        return f"{count} B"
    return f"{count / (1 << 10):.0f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"
