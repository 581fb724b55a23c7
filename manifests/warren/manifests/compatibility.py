"""What a new version of a plugin breaks for the callers of an old one, and whether its version says so.

Who calls an action keeps to what its `request` schema accepted, and relies on what its `response` schema promised. So a
request may only become wider, and a response only narrower; actions may be added, and not taken away. What breaks that
is allowed where the first number of the version that is not zero has risen: Cargo's rule, as for requirements, since
`^1.2` admits whatever may answer those who asked for 1.2.

A change counts as breaking as well when no proof is found that it is not; see `subsumption` for what can be shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .json_schema import Budget
from .manifest import Action, Manifest
from .subsumption import Differs, Excluded, Gap, Missing, Unproven, gaps
from .versions import next_incompatible

Side = Literal["request", "response"]

#: Characters of a value that a sentence quotes, and values of a list.
MAX_SHOWN: Final = 60
MAX_LISTED: Final = 8

_UNPROVEN: Final[Mapping[Side, str]] = {
    "request": "cannot be shown to accept all that the old one did",
    "response": "cannot be shown to give nothing but what the old one did",
}


@dataclass(frozen=True, slots=True)
class BreakingChange:
    """One thing that breaks callers. `action` None: all of them; `side` None: the action itself.

    `path` is where in the data it lies: `.name` is a member, `.*` any that is not named, `[]` every item; the data
    itself is the empty path.
    """

    action: str | None
    side: Side | None
    path: str
    reason: str

    def __str__(self) -> str:
        action = None if self.action is None else f"action {self.action!r}"
        return ": ".join(filter(None, (action, self.side, self.path, self.reason)))


def breaking_changes(old: Manifest, new: Manifest) -> tuple[BreakingChange, ...]:
    """All that may break who calls `old` and is answered by `new`, in the order of the old one's actions.

    It takes about a second at most, whatever the schemas are; past that the rest counts as breaking, and says so.
    """
    return tuple(_changes(old, new))


def unannounced_changes(old: Manifest, new: Manifest) -> tuple[BreakingChange, ...]:
    """The breaking changes, unless the version of `new` has risen so that it may break the callers of `old`.

    For whoever puts `new` in the place of `old`, and refuses to when anything is given back.
    """
    if new.version.finalize_version() >= next_incompatible(old.version):
        return ()
    return breaking_changes(old, new)


def _changes(old: Manifest, new: Manifest) -> Iterator[BreakingChange]:
    if new.actions and not old.actions:
        yield BreakingChange(None, None, "", "actions are declared now, and all others rejected; before, none was")
    budget = Budget()
    for name, action in old.actions.items():
        if (successor := new.actions.get(name)) is None:
            yield BreakingChange(name, None, "", "is gone")
        else:
            yield from _action_changes(name, action, successor, budget)


def _action_changes(name: str, old: Action, new: Action, budget: Budget) -> Iterator[BreakingChange]:
    if old.request is None and new.request is not None:
        yield BreakingChange(name, "request", "", "has a schema now; before, anything was accepted")
    elif new.request is not None:
        yield from _described(name, "request", gaps(old.request, new.request, budget))
    if new.response is None and old.response is not None:
        yield BreakingChange(name, "response", "", "has no schema any more; now, anything may come")
    elif old.response is not None:
        yield from _described(name, "response", gaps(new.response, old.response, budget))


def _described(name: str, side: Side, found: tuple[Gap, ...]) -> Iterator[BreakingChange]:
    for gap in found:
        yield BreakingChange(name, side, "".join(gap.path), _reason(gap, side))


def _reason(gap: Gap, side: Side) -> str:
    """The gap in words: of a request the new schema is the wide one, of a response the old one."""
    is_request = side == "request"
    match gap:
        case Missing(name=member):
            return f"{member!r} is required now" if is_request else f"{member!r} is no longer required"
        case Excluded():
            what, count = _excluded(gap)
            verb = f"{'is' if count == 1 else 'are'} no longer accepted" if is_request else "may come now"
            return f"{what} {verb}".lstrip()
        case Differs():
            return _difference(gap, is_request=is_request) + ("" if gap.certain else f": {_UNPROVEN[side]}")
        case Unproven():
            return f"{gap.subject}: {_UNPROVEN[side]}"


def _excluded(gap: Excluded) -> tuple[str, int]:
    things = gap.types or gap.values
    if not things:
        return "", 1
    listed = ", ".join(map(_cut, things[:MAX_LISTED])) + (", …" if len(things) > MAX_LISTED else "")
    return f"{'type' if gap.types else 'value'}{'s' if len(things) > 1 else ''} {listed}", len(things)


def _difference(gap: Differs, *, is_request: bool) -> str:
    old, new = (gap.narrow, gap.wide) if is_request else (gap.wide, gap.narrow)
    if old is None:
        return f"{gap.keyword} {_cut(str(new))} is new"
    if new is None:
        return f"{gap.keyword} {_cut(old)} is gone"
    if gap.bounds is None:
        return f"{gap.keyword} changed from {_cut(old)} to {_cut(new)}"
    wide, narrow = gap.bounds
    return f"{gap.keyword} {'rose' if (wide > narrow) == is_request else 'fell'} from {old} to {new}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
