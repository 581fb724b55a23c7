"""Globs over paths below one directory: what `[permissions] read_files` and `write_files` mean.

A path is a tuple of names, in its canonical form: no `.`, no `..`, no link in it. Case counts. In a name `*` stands for
any characters (a leading dot is none of its own), `?` for one, `[ab]` for one of these; `**` stands for any number of
names, and for none. A glob that ends in `/` means that directory with all there is below it.

Three questions are asked of a path: does a glob match it, may one match something below it, and does one match
everything below it. So a glob is read as an automaton whose states are the places in it: after some names of a path,
they say all three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Final

Path = tuple[str, ...]

_ANY: Final = "**"

#: Paths whose states are remembered, since paths are walked name by name; beyond it all are forgotten.
_REMEMBERED: Final = 256


class Globs:
    """Several globs; a path has to match one of them. Asking costs some 0.1 µs for each part of a glob."""

    __slots__ = ("_globs", "_known", "parts")

    def __init__(self, globs: Iterable[str]) -> None:
        """They are as `permissions.relative_glob` gives them."""
        self._globs = tuple(_Glob(each) for each in globs)
        self._known: dict[Path, tuple[int, ...]] = {}
        #: Of all globs.
        self.parts = sum(len(glob.parts) for glob in self._globs)

    def match(self, path: Path) -> bool:
        return any(states & glob.end for glob, states in self._after(path))

    def lead_below(self, path: Path) -> bool:
        """Whether something below `path` may match."""
        return any(states & ~glob.end for glob, states in self._after(path))

    def cover(self, path: Path) -> bool:
        """Whether everything below `path` matches."""
        return any(states & glob.rest for glob, states in self._after(path))

    def _after(self, path: Path) -> Iterable[tuple[_Glob, int]]:
        return zip(self._globs, self._states(path), strict=True)

    def _states(self, path: Path) -> tuple[int, ...]:
        known = self._known.get(path)
        if known is None:
            if path:
                before = zip(self._globs, self._states(path[:-1]), strict=True)
                known = tuple(glob.step(states, path[-1]) for glob, states in before)
            else:
                known = tuple(glob.start for glob in self._globs)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[path] = known
        return known


class _Glob:
    """States are bits: bit N is set when the first N parts have matched."""

    __slots__ = ("end", "parts", "rest", "start")

    def __init__(self, text: str) -> None:
        names = (text + _ANY if text.endswith("/") else text).split("/")
        self.parts: Sequence[re.Pattern[str] | None] = [
            None if name == _ANY else re.compile(translate(name)) for name in names
        ]
        self.end = 1 << len(names)
        #: The states in which whatever follows matches.
        self.rest = self.end >> 1 if names[-1] == _ANY else 0
        self.start = self._skipping(1)

    def _skipping(self, states: int) -> int:
        """With those that are reached by letting a `**` stand for nothing."""
        for index, part in enumerate(self.parts):
            if part is None and states & 1 << index:
                states |= 2 << index
        return states

    def step(self, states: int, name: str) -> int:
        reached = 0
        for index, part in enumerate(self.parts):
            if states & 1 << index:
                if part is None:
                    reached |= 1 << index
                elif part.match(name):
                    reached |= 2 << index
        return self._skipping(reached)
