"""Every error that can end a command, as a sentence, a hint and an exit code.

Warren's own errors make their own sentences; what to do about some of them is known here. An error of any other kind
was not foreseen: a defect, and said to be one.
"""
# ruff: noqa: PLC0415 - most commands end without an error, and the bus is slow to import

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from typing import Final

import typer

from .exit_codes import ExitCode
from .output import print_error

#: What `pip install warren` leaves out, by the names it is imported under.
WORKER_EXTRA: Final = (
    "jsonschema_rs",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "wasmtime",
    "watchfiles",
)

DEBUG_VARIABLE: Final = "WARREN_DEBUG"


class WrongUsage(Exception):
    """What was asked for cannot be done as it was asked; `hint` says how it can."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command ends that raised an error."""

    code: int
    message: str
    hint: str | None = None


def report(error: Exception) -> int:
    """Say what went wrong, on stderr; the exit code."""
    failure = explain(error)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if failure.message:  # nothing is left to say where Typer has shown the help instead
        print_error(failure.message, failure.hint)
    return failure.code


def explain(error: Exception) -> Failure:
    """What to say of `error`."""
    match error:
        case WrongUsage():
            return Failure(ExitCode.USAGE, str(error), error.hint)
        case typer.TyperException():
            return Failure(error.exit_code, error.format_message(), _where_to_look(error))
        case ModuleNotFoundError() if _is_extra(error.name or ""):
            missing = f"running plugins needs the sandbox, and {error.name} is not installed"
            return Failure(ExitCode.USAGE, missing, "install it with: pip install 'warren[worker]'")
        case OSError(strerror=str(reason)):
            return Failure(ExitCode.FAILED, f"{error.filename}: {reason}" if error.filename else reason)
    return _from_the_bus(error)


def _from_the_bus(error: Exception) -> Failure:
    from warren.bus import BrokerUnreachable, CallTimeout, PublishTimeout

    match error:
        case BrokerUnreachable():
            hint = "--broker or WARREN_BROKER names another; `warren demo` and `warren call --plugins` need none"
            return Failure(ExitCode.UNREACHABLE, str(error), hint)
        case CallTimeout():
            return Failure(ExitCode.TIMED_OUT, str(error), "is a worker serving that plugin? --timeout gives it longer")
        case PublishTimeout():
            return Failure(ExitCode.TIMED_OUT, str(error))
    if type(error).__module__.startswith("warren."):
        return Failure(ExitCode.FAILED, str(error))
    sentence = f"a defect of Warren: {type(error).__name__}: {error}"
    return Failure(ExitCode.DEFECT, sentence, f"{DEBUG_VARIABLE}=1 shows where it happened")


def _where_to_look(error: typer.TyperException) -> str | None:
    context = getattr(error, "ctx", None)
    return None if context is None else f"try: {context.command_path} --help"


def _is_extra(module: str) -> bool:
    return any(module == extra or module.startswith(f"{extra}.") for extra in WORKER_EXTRA)
