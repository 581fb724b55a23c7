"""What Python asks of the system, where a plugin has none.

The time, random numbers and the environment are the host's, by WASI; there are no files, which Python is told. What else
WASI has would end the run without a word: so `print` writes into the log here, and to sleep is an exception.

While the plugin is built all is there, and is used: that is when modules are imported, and files can be read.
"""

import io
import linecache
import sys
import time
from typing import Any, TextIO

from . import world
from .world import Level, unicode

#: Where Python's own modules, and componentize-py's, come from.
_NOT_THE_PLUGINS = ("/python/", "/world/", "/bundled/")

_built = False


class _Lines(io.TextIOBase):
    """A stream whose lines go into the log of a run; while the plugin is built, to where it leads."""

    def __init__(self, level: Level, leads_to: TextIO) -> None:
        self._level = level
        self._leads_to = leads_to
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not _built:
            return self._leads_to.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            world.log(self._level, unicode(line))
        return len(text)

    def finish(self) -> None:
        """Write what has no end of line."""
        if self._rest:
            self.write("\n")


class _NothingMore:
    """The last place where Python looks for a module."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if _built:
            reason = f"{name} was not imported when the plugin was built; import it outside of all functions"
            raise ModuleNotFoundError(reason, name=name)


def _sleep(_seconds: float) -> None:
    raise RuntimeError("a plugin cannot sleep")


def begin() -> None:
    """To be called before the plugin is imported, which may keep what it finds."""
    sys.stdout = _Lines(Level.INFO, sys.stdout)
    sys.stderr = _Lines(Level.WARN, sys.stderr)
    sys.meta_path.append(_NothingMore)  # type: ignore[arg-type]
    time.sleep = _sleep


def end() -> None:
    """The plugin is built. Keeps its sources, which tracebacks show."""
    global _built
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(_NOT_THE_PLUGINS):
            lines = linecache.getlines(path)
            linecache.cache[path] = (0, None, lines, path)  # without a time: it is not compared with the file
    _built = True


def flush() -> None:
    """Write what was printed without an end of line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Lines):
            stream.finish()
