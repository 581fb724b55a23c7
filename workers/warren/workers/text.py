"""Text for a terminal. What comes from plugins, manifests and messages is shown, and never acts: `printable` leaves no
character that could move the cursor, colour the screen or make one line look like two."""

from __future__ import annotations

import json
from typing import Final

_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def printable(text: str) -> str:
    """`text` with every character that does not print written as JSON's escape for it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


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


def age(seconds: float) -> str:
    """A while, in whole ones of the largest unit that it fills."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds) // 1:.0f} s"
