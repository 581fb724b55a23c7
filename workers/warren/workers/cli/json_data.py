"""JSON in and out: data as the command line takes it (`JSON`, `@FILE`, `-`), and what `--json` prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from ..text import printable
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


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON that is `printable` too. What does not print is always within a string, where escapes belong."""
    lines = to_json(value, indent=indent, inf_nan_mode="null").decode().split("\n")
    return "\n".join(map(printable, lines))


def fitted_json(value: Any, width: int, taken: int = 0) -> list[str]:
    """`value` as lines of JSON that are `printable`: whatever fits into `width` characters is on one line.

    Of the first line, `taken` characters belong to something else.
    """
    line = _on_one_line(value)
    if taken + len(line) <= width or not value or not isinstance(value, Mapping | list | tuple):
        return [line]
    if isinstance(value, Mapping):
        opening, closing = "{", "}"
        members = [(f"{_on_one_line(str(name))}: ", member) for name, member in value.items()]
    else:
        opening, closing = "[", "]"
        members = [("", item) for item in value]
    lines = [opening]
    for label, member in members:
        first, *more = fitted_json(member, width - 2, len(label) + len(","))
        lines += [f"  {label}{first}", *(f"  {line}" for line in more)]
        lines[-1] += ","
    return [*lines[:-1], lines[-1].removesuffix(","), closing]


def _on_one_line(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def print_json(value: Any) -> None:
    """One line of JSON on stdout, there at once."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()
