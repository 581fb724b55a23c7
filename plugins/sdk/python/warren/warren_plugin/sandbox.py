"""What Python asks the system for, where there is none.

The component's WASI ends the run without a word, whatever is called. So here `print` writes into the log, the time is
the host's, and all else is an exception that says what is not there. While the plugin is built everything is there: that
is when modules are imported and files can be read.

Rejected: to have the host provide WASI. It is a hundred functions for what plugins have the host's own functions for.
"""

import _strptime  # noqa: F401 - which datetime imports only when it needs it
import _io
import builtins
import datetime
import errno
import functools
import io
import linecache
import os
import posix
import random
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, TextIO

from . import world
from .host import host_call
from .world import Level, unicode

_FILE_FUNCTIONS = (
    "access chmod chdir link listdir lstat mkdir open readlink remove rename replace rmdir scandir stat statvfs symlink "
    "truncate unlink utime"
)

_built = False


class _Lines(io.TextIOBase):
    """A stream whose lines go into the log of a run, and before there are runs to where it did."""

    def __init__(self, level: Level, before: TextIO) -> None:
        self._level = level
        self._before = before
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not _built:
            return self._before.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            world.log(self._level, unicode(line))
        return len(text)

    def finish(self) -> None:
        """Write what has no end of line."""
        if self._rest:
            self.write("\n")


class _NothingMore:
    """The last place to look for a module."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if _built:
            reason = f"{name} was not imported when the plugin was built; import it outside of all functions"
            raise ModuleNotFoundError(reason, name=name)


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> "_Datetime":
        return cls.now(datetime.UTC).replace(tzinfo=None)


def _now_ms(*_: Any) -> int:
    return host_call("get_time")["unix_ms"]


def _of_now(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A function of `time` that is given the time where the argument at that place is left out."""
    default = time.localtime if function.__name__ in ("strftime", "asctime") else time.time

    def given(*arguments: Any) -> Any:
        return function(*arguments, *([default()] if len(arguments) == place else []))

    return given


def _no_files(path: Any = None, *_: Any, **__: Any) -> Any:
    reason = "a plugin has no files when it runs; what it needs can be read outside of all functions"
    raise FileNotFoundError(errno.ENOENT, reason, path)


def _no_random(*_: Any, **__: Any) -> Any:
    reason = "a plugin has no random numbers; what a request needs has to come with it (random.Random(seed) is there)"
    raise RuntimeError(reason)


def _no_sleep(_: float) -> None:
    raise RuntimeError("a plugin cannot sleep")


def _replace(module: ModuleType, names: str, function: Callable[..., Any]) -> None:
    """Have the function called in place of these, once the plugin is built."""
    for name in names.split():
        if (before := getattr(module, name, None)) is not None:
            setattr(module, name, _either(before, function))


def _either(before: Callable[..., Any], after: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def function(*arguments: Any, **named: Any) -> Any:
        return (after if _built else before)(*arguments, **named)

    return function


def _without_columns(init: Callable[..., None]) -> Callable[..., None]:
    """To underline a part of a line, a traceback would parse it, and C would open the file for what is wrong in it."""

    @functools.wraps(init)
    def read(self: traceback.TracebackException, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        for frame in self.stack:
            frame.colno = None

    return read


def begin() -> None:
    """Replace what is not there. To be called before the plugin is imported, which may take a function by its name."""
    sys.stdout = _Lines(Level.INFO, sys.stdout)
    sys.stderr = _Lines(Level.WARN, sys.stderr)
    sys.meta_path.append(_NothingMore)  # type: ignore[arg-type]
    datetime.datetime = _Datetime  # type: ignore[misc]
    _replace(time, "time monotonic perf_counter", lambda: _now_ms() / 1e3)
    _replace(time, "time_ns monotonic_ns perf_counter_ns", lambda: _now_ms() * 1_000_000)
    for name, place in (("gmtime", 0), ("localtime", 0), ("ctime", 0), ("strftime", 1), ("asctime", 0)):
        _replace(time, name, _of_now(getattr(time, name), place))
    _replace(time, "sleep", _no_sleep)
    for module in (os, posix):
        _replace(module, _FILE_FUNCTIONS, _no_files)
        _replace(module, "urandom", _no_random)
    _replace(random, "_urandom", _no_random)
    for module in (builtins, io, _io):
        _replace(module, "open open_code", _no_files)
    of_instance = [name for name in random.__all__ if hasattr(getattr(random, name), "__self__")]
    _replace(random, " ".join(of_instance), _no_random)
    traceback.TracebackException.__init__ = _without_columns(traceback.TracebackException.__init__)


def end() -> None:
    """The plugin is built: keep its sources for tracebacks, and call nothing more of the system."""
    global _built
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(("/python/", "/world/", "/bundled/")):
            lines = linecache.getlines(path)
            linecache.cache[path] = (0, None, lines, path)  # without a time, it is not compared with the file
    _built = True


def flush() -> None:
    """Write what was printed without an end of line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Lines):
            stream.finish()
