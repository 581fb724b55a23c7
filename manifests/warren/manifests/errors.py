"""What can be wrong with a manifest. One root, `ManifestError`; every error is a list of problems, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `key` is its path in the manifest, `line` counts from 1, `hint` says what to do."""

    source: str
    line: int | None
    key: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.message}; {self.hint}" if self.hint else f"{place}: {self.message}"


class ManifestError(Exception):
    """The root: a manifest that cannot be used, with all that is wrong with it. Its author's fault."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class InvalidValue(ManifestError, ValueError):
    """A text that is not what it should be (`kind`: a version, a version requirement, a topic pattern)."""

    def __init__(self, kind: str, value: str, reason: str) -> None:
        self.kind = kind
        self.value = value
        self.reason = reason
        super().__init__([Problem(kind, None, "", str(self))])

    def __str__(self) -> str:
        return f"{shown(self.value)} is not a {self.kind}: {self.reason}"


class GrantRefused(ManifestError):
    """A sound manifest that cannot do without what this installation does not give: the operator's decision."""

    def __init__(self, plugin: str, reasons: Sequence[str]) -> None:
        self.plugin = plugin
        self.reasons = tuple(reasons)
        super().__init__([Problem(plugin, None, "", reason) for reason in reasons])

    def __str__(self) -> str:
        return f"{self.plugin} is not admitted: {'; '.join(self.reasons)}"


def shown(value: object, limit: int = 60) -> str:
    """A value as a message shows it: escaped, so that it cannot write to a terminal, and cut to `limit` characters."""
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"
