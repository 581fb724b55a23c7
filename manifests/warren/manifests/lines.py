"""Where each key of a TOML document stands, found by walking its text once, before `tomllib` parses it.

`tomllib` says what a document holds and not where. This walk reads keys and steps over values; it checks no grammar and
stops at the first thing it cannot read, which `tomllib` then reports, having come no further. Since it runs first, it
also refuses what would cost `tomllib` its stack or seconds of time: keys nested too deep and endless numbers.

Rejected: a TOML library that keeps positions (slower, and a second opinion on the grammar), and a search by parsing
ever longer prefixes (blind within multi-line values; the tests use it to check this).
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import Final

from .errors import ManifestError, Problem

#: The way from the root to a value: keys, and indexes of array items.
Path = tuple[str | int, ...]

#: Far more than a JSON Schema that a person writes needs; `tomllib` is quadratic in the length of a dotted key.
MAX_DEPTH: Final = 64

#: A 64-bit integer has 20 digits; Python raises a bare ValueError at 4,301.
MAX_NUMBER: Final = 128

_BLANK = re.compile(r"[ \t]*+")
_GAP = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'""")
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+""""{0,2}'
    r"|'''(?:[^']++|'(?!''))*+''''{0,2}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'",
    re.DOTALL,
)
_BARE_VALUE = re.compile(r"[^,\]}#\n]++")


class Lines:
    """The line of every key, table and array item of one document."""

    def __init__(self, text: str, source: str) -> None:
        """Raises `ManifestError` for what `tomllib` had better not see."""
        self._lines: dict[Path, int] = {}
        walk = _Walk(text, source, self._lines)
        with suppress(_Unreadable):
            walk.document()

    def of(self, path: Path) -> int | None:
        """The line of `path`, or of the innermost table around it that is written down; None is the root."""
        return next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), None)


class _Unreadable(Exception):
    """This is not TOML; `tomllib` says why."""


class _Walk:
    def __init__(self, text: str, source: str, lines: dict[Path, int]) -> None:
        self._text = text
        self._source = source
        self._lines = lines
        self._at = 0
        self._line = 1
        self._counted = 0
        self._tables: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._next(_GAP):
            if self._take("[["):
                table = self._array_item(self._place((), self._dotted_key()))
                self._expect("]]")
            elif self._take("["):
                table = self._place((), self._dotted_key())
                self._lines[table] = self._here()
                self._expect("]")
            else:
                self._pair(table)

    def _pair(self, table: Path) -> None:
        path = self._place(table, self._dotted_key())
        self._expect("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        self._next(_BLANK)
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            self._inline_table(path)
        elif self._text.startswith(('"', "'"), self._at):
            self._match(_STRING)
        elif len(number := self._match(_BARE_VALUE).rstrip()) > MAX_NUMBER and number[0] in "+-0123456789":
            raise self._refused(path, f"a number is longer than {MAX_NUMBER} characters")

    def _array(self, path: Path) -> None:
        index = 0
        while self._next(_GAP) and not self._take("]"):
            item = (*path, index)
            self._record(item)
            self._value(item)
            self._next(_GAP)
            self._take(",")
            index += 1

    def _inline_table(self, path: Path) -> None:
        while self._next(_GAP) and not self._take("}"):
            self._pair(path)
            self._next(_GAP)
            self._take(",")

    def _dotted_key(self) -> list[str]:
        """At most one part too many, so that `_record` refuses it."""
        parts: list[str] = []
        while len(parts) <= MAX_DEPTH:
            self._next(_BLANK)
            part = self._match(_KEY)
            parts.append(_unquoted(part) if part[0] in "\"'" else part)
            self._next(_BLANK)
            if not self._take("."):
                break
        return parts

    def _place(self, table: Path, key: list[str]) -> Path:
        """The path of `key` within `table`, each step on it recorded; a step into an array means its newest table."""
        path = table
        for step in key:
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
            path = (*path, step)
            self._record(path)
        return path

    def _array_item(self, array: Path) -> Path:
        index = self._tables.get(array, 0)
        self._tables[array] = index + 1
        item = (*array, index)
        self._record(item)
        return item

    def _record(self, path: Path) -> None:
        self._lines.setdefault(path, self._here())
        if len(path) > MAX_DEPTH:
            raise self._refused(path, f"keys and values are nested more than {MAX_DEPTH} deep")

    def _refused(self, path: Path, message: str) -> ManifestError:
        return ManifestError([Problem(self._source, self._here(), ".".join(map(str, path[:4])), message)])

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _next(self, skipped: re.Pattern[str]) -> bool:
        """Step over what `skipped` matches; is there anything after it?"""
        self._match(skipped)
        return self._at < len(self._text)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise _Unreadable
        self._at = found.end()
        return found[0]

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _expect(self, token: str) -> None:
        self._next(_BLANK)
        if not self._take(token):
            raise _Unreadable


def _unquoted(part: str) -> str:
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except tomllib.TOMLDecodeError:
        raise _Unreadable from None
