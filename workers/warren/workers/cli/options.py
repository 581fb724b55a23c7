"""Options that several commands have, each with the environment variable that sets it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

SCHEMES: Final = ("amqp://", "amqps://")

DEFAULT_PREFIX: Final = "warren"
AUDIT_SINKS: Final = ("logs", "exchange")
DEFAULT_TIMEOUT_S: Final = 30.0


class LogLevel(StrEnum):
    """From which level on log lines are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _checked_broker(url: str | None) -> str | None:
    if url is not None and not url.startswith(SCHEMES):
        raise typer.BadParameter(f"the URL of a broker begins with {' or '.join(SCHEMES)}")
    return url


def _checked_sinks(text: str) -> str:
    if unknown := [name for name in names_in(text) if name not in AUDIT_SINKS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(AUDIT_SINKS)}; '' is for none of them")
    return text


def names_in(text: str) -> tuple[str, ...]:
    """What stands between its commas."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _checked_fleet(url: str | None) -> str | None:
    if url is not None and url.startswith("memory:"):
        raise typer.BadParameter("on memory:// there is no fleet: it is a bus within one process")
    return _checked_broker(url)


def _checked_prefix(prefix: str) -> str:
    from warren.bus import Names  # noqa: PLC0415 - see `app`: the bus takes a while to import

    try:
        Names(prefix)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return prefix


Broker = Annotated[
    str | None,
    typer.Option(envvar="WARREN_BROKER", metavar="URL", callback=_checked_broker, help="The broker: amqp://host, say."),
]
NeededBroker = Annotated[
    str,
    typer.Option(envvar="WARREN_BROKER", metavar="URL", callback=_checked_broker, help="The broker: amqp://host, say."),
]
FleetBroker = Annotated[
    str,
    typer.Option(envvar="WARREN_BROKER", metavar="URL", callback=_checked_fleet, help="The broker: amqp://host, say."),
]
Plugins = Annotated[
    Path,
    typer.Option(
        envvar="WARREN_PLUGINS", metavar="DIR", exists=True, file_okay=False, help="The folder the plugins are in."
    ),
]
_POLICY: Final = typer.Option(
    "--policy",
    envvar="WARREN_POLICY",
    metavar="FILE",
    exists=True,
    dir_okay=False,
    help="What plugins may be granted, in TOML. Without one: computing, and the topics that they name.",
)
PolicyFile = Annotated[Path | None, _POLICY]
NeededPolicy = Annotated[Path, _POLICY]
Secrets = Annotated[
    list[Path] | None,
    typer.Option(
        envvar="WARREN_SECRETS",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A folder whose files plugins' settings may name ('file:…'); give it again for another.",
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        envvar="WARREN_PREFIX",
        metavar="NAME",
        callback=_checked_prefix,
        help="What the names of all queues and exchanges begin with.",
    ),
]
Timeout = Annotated[
    float, typer.Option(envvar="WARREN_TIMEOUT", metavar="S", min=0.001, help="Seconds to connect and wait at most.")
]
AnswerTimeout = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0.001, help="Seconds to wait for workers to answer, at most.")
]
Log = Annotated[
    LogLevel, typer.Option("--log-level", envvar="WARREN_LOG_LEVEL", help="From which level on log lines are shown.")
]
Data = Annotated[
    str | None, typer.Argument(metavar="DATA|@FILE|-", help="JSON, a file of it, or stdin. Null, if there is none.")
]
HostFunctions = Annotated[
    str,
    typer.Option(
        "--host-functions",
        envvar="WARREN_HOST_FUNCTIONS",
        metavar="NAME,...",
        help="Let plugins call these of installed distributions; warren plugins functions lists them.",
    ),
]
AuditSinks = Annotated[
    str,
    typer.Option(
        "--audit",
        envvar="WARREN_AUDIT",
        metavar="SINK,...",
        callback=_checked_sinks,
        help="Where it goes what plugins used of their powers, and were refused: logs, exchange.",
    ),
]
Project = Annotated[
    Path, typer.Argument(metavar="[DIR]", exists=True, file_okay=False, help="The project's folder.", show_default=".")
]
BuildTarget = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="The folder of plugins to put module and manifest into.",
        show_default="DIR/build",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
