"""Python in a sandbox, where WASI has the time, random numbers, the environment and a place to print to, and no files.

While the plugin is built there are files: that is when modules are imported. Afterwards Python would look for them, and
not say why there is none; nor find the sources that a traceback shows. To sleep would end the run without a word.
"""

import io
import linecache
import sys
import time
from typing import Any

#: Where Python's own modules, and componentize-py's, come from.
_NOT_THE_PLUGINS = ("/python/", "/world/", "/bundled/")


class _NothingMore:
    """The last place where Python looks for a module."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        reason = f"{name} was not imported when the plugin was built; import it outside of all functions"
        raise ModuleNotFoundError(reason, name=name)


def _sleep(_seconds: object) -> None:
    raise RuntimeError("a plugin cannot sleep")


def begin() -> None:
    """To be called before the plugin is imported, which may keep what it finds."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # for its lines' place among those of the log
    time.sleep = _sleep


def end() -> None:
    """The plugin is built. Keeps its sources."""
    sys.meta_path.append(_NothingMore)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(_NOT_THE_PLUGINS):
            lines = linecache.getlines(path)
            linecache.cache[path] = (0, None, lines, path)  # without a time: it is not compared with the file
