"""What can be wrong with a manifest. One root, `ManifestError`; every error is a list of problems, one line each.

`ResolutionError` and what derives from it is about several: plugins that cannot be had together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # these modules raise what is defined here
    from semver import Version

    from .demands import Demand, PluginVersion

#: How many versions, or plugins in a circle, a message lists. Of more it has the first and the last.
MAX_LISTED: Final = 20

#: How many conflicts a message tells besides the first. The rest is counted.
MAX_OTHERS: Final = 4


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


class PolicyError(ManifestError):
    """An operator's policy that cannot be used, with all that is wrong with it."""


class ResolutionError(ManifestError):
    """Versions that cannot be had together: the root of those below, each of which is one conflict.

    `core` are demands that cannot all be met, whatever versions are chosen, and that could be if any one of them were
    dropped (unless there was no time to find out). `others` are the conflicts in which the choice of other versions
    than those named here ends; the message has a line for each.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__([Problem("dependencies", None, "dependencies", sentence)])
        self.sentence = sentence
        self.core: tuple[Demand, ...] = ()
        self.others: tuple[ResolutionError, ...] = ()

    def __str__(self) -> str:
        lines = [self.sentence, *(f"or else {other.sentence}" for other in self.others[:MAX_OTHERS])]
        if len(self.others) > MAX_OTHERS:
            lines.append(f"or else one of {len(self.others) - MAX_OTHERS} more conflicts")
        return "\n".join(lines)


class DependencyMissing(ResolutionError):
    """There is no version at all of what is demanded. `hint` may know the name that was meant."""

    def __init__(self, demand: Demand, hint: str | None = None) -> None:
        self.demand = demand
        self.hint = hint
        super().__init__(f"{demand}, but there is no plugin {demand.name}" + (f"; {hint}" if hint else ""))


class NoVersionMatches(ResolutionError):
    """There are versions of what is demanded, and the requirement admits none of them."""

    def __init__(self, demand: Demand, available: Sequence[Version]) -> None:
        self.demand = demand
        self.available = tuple(available)
        super().__init__(f"{demand}; available: {_listed(self.available)}")


class VersionConflict(ResolutionError):
    """Demands on one plugin that each could be met, but no version meets them all."""

    def __init__(self, demands: Sequence[Demand], available: Sequence[Version]) -> None:
        self.demands = tuple(demands)
        self.available = tuple(available)
        *first, last = map(str, demands)
        super().__init__(f"{', '.join(first)}, but {last}; available: {_listed(self.available)}")


class DependencyCycle(ResolutionError):
    """Plugins each of which depends on the next, and the last on the first."""

    def __init__(self, cycle: Sequence[PluginVersion]) -> None:
        self.cycle = tuple(cycle)
        circle = _listed([*self.cycle, self.cycle[0].name], " → ")
        super().__init__(f"plugins depend on each other in a circle: {circle}")


class ResolutionGivenUp(ResolutionError):
    """Neither versions that go together nor a proof that there are none were found in `max_rounds` steps."""

    def __init__(self, max_rounds: int) -> None:
        self.max_rounds = max_rounds
        super().__init__(
            f"the search for versions that go together was given up after {max_rounds} steps; "
            "narrow the requirements, or remove versions that nobody uses"
        )


def _listed(things: Sequence[object], separator: str = ", ") -> str:
    half = MAX_LISTED // 2
    words = [str(thing) for thing in things]
    if len(words) > MAX_LISTED:
        words[half:-half] = [f"… {len(words) - 2 * half} more …"]
    return separator.join(words)


def shown(value: object, limit: int = 60) -> str:
    """A value as a message shows it: escaped, so that it cannot write to a terminal, and cut to `limit` characters."""
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"
