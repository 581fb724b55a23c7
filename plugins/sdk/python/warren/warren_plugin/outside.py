"""No host: lines go to stderr, and there are no host functions. What is here has the names that WIT gives."""

import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Level(Enum):
    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


@dataclass
class HostError:
    code: str
    message: str


class Err(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


def log(level: Level, message: str) -> None:
    sys.stderr.write(f"{level.name.lower()} {message}\n")


def call(function: str, arguments: str) -> str:  # noqa: ARG001 - as WIT has it
    raise Err(HostError("unavailable", f"there is no host here to call {function} of"))
