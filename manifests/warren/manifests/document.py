"""From bytes to a TOML document with its line numbers; everything that keeps bytes from being one is said here."""

from __future__ import annotations

import codecs
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

from .errors import ManifestError, Problem
from .lines import Lines, Path

#: The largest manifest that is read. The longest that people write by hand are a tenth of this.
MAX_MANIFEST_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """What a manifest's bytes say, as plain dicts and lists, and where they say it."""

    source: str
    tables: dict[str, Any]
    lines: Lines


def read_document(data: bytes, source: str) -> Document:
    """Raises `ManifestError` for bytes that are not a TOML document of reasonable size and depth."""
    if len(data) > MAX_MANIFEST_BYTES:
        message = f"too large: {len(data)} bytes, and at most {MAX_MANIFEST_BYTES} are read"
        raise ManifestError([Problem(source, None, "", message)])
    text = _decoded(data, source).replace("\r\n", "\n")
    lines = Lines(text, source)
    try:
        return Document(source, tomllib.loads(text), lines)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError([_syntax_problem(error, text, source)]) from None


def values_without_json(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Each value below `path` that has no JSON form, and why. What a manifest says is handed to guests as JSON."""
    match value:
        case dict():
            for key, item in value.items():
                yield from values_without_json(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from values_without_json(item, (*path, index))
        case float() if not math.isfinite(value):
            yield path, f"is {value}, which is not a finite number"
        case int() if not -(2**63) <= value < 2**63:
            yield path, "is an integer of more than 64 bits"
        case datetime() | date() | time():
            yield path, "is a TOML date or time, which JSON does not have; write it as a string"
        case _:
            pass


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        hint = "it looks like UTF-16; save it as UTF-8" if utf16 else None
        message = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise ManifestError([Problem(source, line, "", message, hint)]) from None


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str, source: str) -> Problem:
    """`tomllib` has its position in the message alone, before Python 3.14."""
    reason, _, position = str(error).rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", position)
    if found is None:
        return Problem(source, text.count("\n") + 1, "", f"not TOML: {reason} at the end of the document")
    return Problem(source, int(found[1]), "", f"not TOML: {reason} at column {found[2]}")
