"""Which pairs have been left alone for long enough to be believed. No I/O: what was seen comes in, and the time.

A whole pair has settled when neither file has changed for `quiet_s`, so that copies that take their time are waited
for. Half a pair may be one that is just being written, renamed or deleted, and has `patience_s`; so has a pair that
could not be loaded at the first go, since a copy may pause; and so has a loaded pair that is gone while others are
arriving, for it may be one of them under another name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .files import PluginFiles, Stamp


@dataclass(slots=True)
class _Look:
    """How a pair looks, and since when, in the event loop's time. `needs_patience`: it could not be loaded."""

    stamp: Stamp
    since: float
    needs_patience: bool = False


class Settling:
    """The pairs that are seen, and since when they look as they do."""

    def __init__(self, *, quiet_s: float, patience_s: float) -> None:
        self._quiet_s = quiet_s
        self._patience_s = patience_s
        self._looks: dict[PluginFiles, _Look] = {}

    def note(self, stamps: Mapping[PluginFiles, Stamp], now: float) -> None:
        """All that is seen now; what is not among it is forgotten."""
        before = self._looks
        self._looks = {
            files: look if (look := before.get(files)) and look.stamp == stamp else _Look(stamp, now)
            for files, stamp in stamps.items()
        }

    def unsettled(self, now: float, loaded: Collection[PluginFiles]) -> dict[PluginFiles, float]:
        """The pairs not to be believed yet, each with the time when it will be if it stays as it is."""
        there = {files: look for files, look in self._looks.items() if look.stamp != (None, None)}
        gone = self._looks.keys() - there.keys()
        times = {
            files: look.since + (self._patience_s if look.needs_patience or None in look.stamp else self._quiet_s)
            for files, look in there.items()
        }
        arriving = any(at > now for files, at in times.items() if files not in loaded)
        needed_s = self._patience_s if arriving else self._quiet_s
        times |= {files: self._looks[files].since + needed_s for files in gone}
        return {files: at for files, at in times.items() if at > now}

    def postpone(self, files: PluginFiles, now: float) -> bool:
        """It could not be loaded. Whether it may yet become whole, and is unsettled until that is past."""
        look = self._looks.get(files)
        if look is None:
            return True  # it is gone already
        look.needs_patience = True
        return look.since + self._patience_s > now
