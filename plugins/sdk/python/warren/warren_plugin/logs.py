"""The standard library's logging, of which every line goes to the host."""

import logging
from typing import Any

from . import world
from .world import unicode


class HostHandler(logging.Handler):
    """Writes a record into the log of this run. The host knows the plugin, the time and the request."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(record.levelno, self.format(record))


class PluginLogger(logging.Logger):
    """A logger as any other, but that makes no record of a plain line: that would cost as much as a small request."""

    def _log(self, level: int, msg: object, args: Any, *others: Any, **more: Any) -> None:
        try:
            if not (others or more):
                _write(level, str(msg) % args if args else str(msg))
                return
        except Exception:  # noqa: BLE001, S110 - such as a mapping, or arguments that do not fit: logging knows what to do
            pass
        super()._log(level, msg, args, *others, **more)


def _write(number: int, line: str) -> None:
    world.host.log(_level(number), unicode(line))


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"


#: The plugin's own. `logging.getLogger` gives others, whose lines go the same way from WARNING on, as is usual.
log: logging.Logger = PluginLogger("plugin")
log.addHandler(HostHandler())


def begin() -> None:
    """Have the host keep all that is logged, whoever logs."""
    logging.getLogger().addHandler(HostHandler())
