"""The exit codes of `warren`, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BAD_OUTCOME = 3
    UNREACHABLE = 4
    TIMED_OUT = 5
    DEFECT = 70
    INTERRUPTED = 130


MEANINGS: Final[Mapping[ExitCode, str]] = MappingProxyType(
    {
        ExitCode.OK: "done, and well",
        ExitCode.FAILED: "the plugin answered that it failed, or a check found something",
        ExitCode.USAGE: "wrong usage, or nothing there to work with",
        ExitCode.BAD_OUTCOME: "the request ended otherwise: trap, rejected, …; a recording was cut short",
        ExitCode.UNREACHABLE: "the broker cannot be reached",
        ExitCode.TIMED_OUT: "waited in vain",
        ExitCode.DEFECT: "a defect of Warren",
        ExitCode.INTERRUPTED: "interrupted; a worker, by being told twice to stop",
    }
)
