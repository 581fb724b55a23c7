"""The data of a request or an event as the command line takes it: `JSON`, `@file` or `-` for stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from .failures import WrongUsage


def read_data(argument: str | None) -> Any:
    """The value that `argument` stands for; None without one. Raises `WrongUsage`."""
    if argument is None:
        return None
    try:
        return from_json(_source(argument), allow_inf_nan=False)
    except ValueError as error:
        hint = """in a shell, quote it: '{"text": "…"}', or '"…"' for a text; @FILE reads a file, and - stdin"""
        raise WrongUsage(f"the data is not JSON: {error}", hint) from error


def _source(argument: str) -> bytes:
    if argument == "-":
        return sys.stdin.buffer.read()
    if not argument.startswith("@"):
        return argument.encode(errors="surrogateescape")
    try:
        return Path(argument[1:]).read_bytes()
    except OSError as error:
        raise WrongUsage(f"cannot read {argument[1:]}: {error.strerror}") from error
