"""The standard library's logging, of which every line goes to the host."""

import logging
from types import SimpleNamespace

from . import world
from .world import Level, unicode


class HostHandler(logging.Handler):
    """Writes a record into the log of this run. The host knows the plugin, the time and the request."""

    def emit(self, record: logging.LogRecord) -> None:
        world.log(_level(record.levelno), unicode(self.format(record)))


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return Level.ERROR
    if number >= logging.WARNING:
        return Level.WARN
    return Level.INFO if number >= logging.INFO else Level.DEBUG


#: The plugin's own. `logging.getLogger` gives others, whose lines go the same way from WARNING on, as is usual.
log = logging.getLogger("plugin")


def begin() -> None:
    """Have the host keep all that is logged."""
    logging.getLogger().addHandler(HostHandler())
    log.setLevel(logging.DEBUG)
    # A record would ask for the time, the thread and the caller's place, each of which costs and none of which is told.
    vars(logging).update(
        _srcfile=None, logThreads=False, logProcesses=False, logMultiprocessing=False, logAsyncioTasks=False,
        time=SimpleNamespace(**vars(logging.time) | {"time_ns": lambda: 0}),
    )
