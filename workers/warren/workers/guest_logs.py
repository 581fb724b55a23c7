"""What guests log goes to Python's logging, as `warren.guest.<plugin>`: one line each, with nothing that acts on a
terminal or makes a line look like somebody else's.

Beside the caps of each run there is one on all runs of a plugin in a worker, a token bucket: a plugin that logs with
every request fills no disk, and drowns no other. That lines are dropped is said when it begins, and how many once it
has ended; only lines of a level that somebody hears are counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from warren.plugins import LogLine

from .text import printable

#: Of one plugin, over time; and at once, after a pause: what two runs may log at most.
LINES_PER_S: Final = 100
BURST_LINES: Final = 2_000

_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class GuestLogs:
    """The log lines of all plugins of one worker. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._speakers: dict[str, _Speaker] = {}

    def log(self, plugin: str, lines: tuple[LogLine, ...]) -> None:
        """Log what one run logged, and the runs that it called."""
        now_s = self._clock()
        for line in lines:
            name = line.plugin or plugin
            speaker = self._speakers.get(name)
            if speaker is None:
                speaker = self._speakers[name] = _Speaker(name, now_s)
            speaker.say(line, now_s)

    def close(self) -> None:
        """Say of what was dropped lately how much it was. Idempotent."""
        for speaker in self._speakers.values():
            speaker.tell_dropped()


class _Speaker:
    """One plugin: its logger, and the lines that it may log just now."""

    def __init__(self, plugin: str, now_s: float) -> None:
        self._logger = logging.getLogger(f"warren.guest.{plugin}")
        self._left = float(BURST_LINES)
        self._at_s = now_s
        self._dropped = 0

    def say(self, line: LogLine, now_s: float) -> None:
        level = _LEVELS[line.level]
        if not self._logger.isEnabledFor(level):
            return
        self._left = min(BURST_LINES, self._left + (now_s - self._at_s) * LINES_PER_S)
        self._at_s = now_s
        if self._left < 1:
            if not self._dropped:
                self._logger.warning("more than %d lines a second: lines are dropped from here on", LINES_PER_S)
            self._dropped += 1
            return
        self.tell_dropped()
        self._left -= 1
        self._logger.log(level, "%s", printable(line.text))

    def tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._logger.warning("%d lines were dropped: more than %d a second", dropped, LINES_PER_S)
