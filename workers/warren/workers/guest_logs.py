"""What guests log goes to Python's logging, as `warren.guest.<plugin>`: one line each, with nothing that acts on a
terminal or makes a line look like somebody else's."""

from __future__ import annotations

import logging
from typing import Final

from warren.plugins import LogLine

from .text import printable

_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def log_guest_lines(plugin: str, lines: tuple[LogLine, ...]) -> None:
    """Log what one run logged, and the runs that it called."""
    if not lines:
        return
    logger = logging.getLogger(f"warren.guest.{plugin}")
    for line in lines:
        level = _LEVELS[line.level]
        speaker = logger if line.plugin is None else logging.getLogger(f"warren.guest.{line.plugin}")
        if speaker.isEnabledFor(level):
            speaker.log(level, "%s", printable(line.text))
