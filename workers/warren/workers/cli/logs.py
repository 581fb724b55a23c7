"""Log lines, on stderr: for people, in colours where it is a terminal, or one JSON object each."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from ..text import printable
from .json_data import json_text
from .output import stderr

_STYLES: Final = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}

#: Libraries that say much below a warning; and two that log each error they raise, and each attempt to connect.
#: When the broker goes away and when it is back, `warren.bus` says in a line.
#: What httpcore says are the headers of plugins' requests, which may be secret.
#: What is loaded for a case, or why it is not, is told with the case.
_QUIET: Final = {
    "asyncio": "WARNING",
    "urllib3": "WARNING",
    "watchfiles": "WARNING",
    "httpcore": "WARNING",
    "warren.plugins.testing": "ERROR",
    "aio_pika": "CRITICAL",
    "aiormq": "CRITICAL",
}


def configure_logging(level: str, *, as_json: bool = False) -> None:
    """Send log lines from `level` on (a name in lower case) to stderr, and to nowhere else."""
    logging.basicConfig(level=level.upper(), handlers=[_JsonLines() if as_json else _Lines(stderr())], force=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)


class _Lines(logging.Handler):
    """Rejected: rich's own handler, which breaks lines at 80 characters where the output is a file."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        time = datetime.fromtimestamp(record.created).astimezone()
        line = Text.assemble(
            (f"{time:%Y-%m-%d %H:%M:%S}.{record.msecs:03.0f} ", "dim"),
            (f"{record.levelname:<8}", _STYLES.get(record.levelname, "")),
            (f"{record.name}: ", "dim"),
            "\n    ".join([*map(printable, record.getMessage().split("\n")), *_traceback(record)]),
        )
        self._console.print(line, soft_wrap=True)


class _JsonLines(logging.StreamHandler):  # type: ignore[type-arg]
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        audit = getattr(record, "audit", None)
        if record.name == "warren.audit" and audit is not None:
            line["audit"] = audit
        trace = _traceback(record)
        return json_text(line | {"traceback": trace} if trace else line)


def _traceback(record: logging.LogRecord) -> list[str]:
    if record.exc_info is None:
        return []
    return [printable(line) for line in logging.Formatter().formatException(record.exc_info).split("\n")]
