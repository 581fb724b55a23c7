"""Why there is no solution: the least set of demands that cannot all be met, and the conflicts among them.

The dead end that a search is in when it gives up may be one that other versions would have avoided, and so may be the
first. So demands are dropped, one after the other, for as long as the rest has no solution either (a minimal
unsatisfiable core, by deletion). All that is left is to blame, and the dead ends of a search in it are those to tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from semver import Version

from .demands import Demand, PluginVersion
from .errors import (
    DependencyCycle,
    DependencyMissing,
    NoVersionMatches,
    ResolutionError,
    ResolutionGivenUp,
    VersionConflict,
)
from .findings import nearest
from .search import Bond, Catalogue, Cause, Needs, Place, Search, Unsolvable, cycle_through_last

#: Among more names none is suggested for one that is missing: that takes some 30 µs a name, each time.
MAX_NAMES: Final = 200


def explained(
    unsolvable: Unsolvable, catalogue: Catalogue, roots: Sequence[Bond], needs: Needs, search: Search
) -> ResolutionError:
    """The conflict to tell, with the demands that make it inevitable and the conflicts that other versions end in.

    `roots` and `needs` are what had no solution. When `search` has no rounds left, the core stays as small as it got.
    """
    least = _least(unsolvable, roots, needs, search)
    conflicts = {str(error): error for error in _conflicts(least, catalogue)}
    first, *others = conflicts.values() or [_all_together(least.bonds)]
    first.core = tuple(bond.demand for bond in least.bonds)
    first.others = tuple(others)
    return first


def _least(unsolvable: Unsolvable, roots: Sequence[Bond], needs: Needs, search: Search) -> Unsolvable:
    least = unsolvable
    try:
        for dropped in _droppable(unsolvable):
            counted = set(least.bonds) - dropped
            if len(counted) < len(least.bonds):
                least = _still_unsolvable(counted, roots, needs, search) or least
    except ResolutionGivenUp:
        pass
    return least


def _still_unsolvable(counted: set[Bond], roots: Sequence[Bond], needs: Needs, search: Search) -> Unsolvable | None:
    try:
        search.solve(_counting(roots, counted), lambda candidate: _counting(needs(candidate), counted))
    except Unsolvable as smaller:
        return smaller
    return None


def _counting(bonds: Iterable[Bond], counted: set[Bond]) -> list[Bond]:
    """Those that count. What holds a version is of no account where nothing else demands the name."""
    kept = [bond for bond in bonds if bond in counted]
    demanded = {bond.name for bond in kept if not bond.demand.held}
    return [bond for bond in kept if bond.name in demanded]


def _droppable(unsolvable: Unsolvable) -> Iterator[set[Bond]]:
    """What to try and do without: many at once first; what was merely chosen before what is demanded."""
    bonds = unsolvable.bonds
    involved = _involved(unsolvable)
    yield {bond for bond in bonds if bond.name not in involved}
    held = [bond for bond in bonds if bond.demand.held]
    yield set(held)
    yield from ({bond} for bond in held)
    demanding = dict.fromkeys(bond.demand.by.name for bond in bonds if bond.demand.by)
    for name in demanding:
        yield {bond for bond in bonds if bond.demand.by and bond.demand.by.name == name}
    yield from ({bond} for bond in bonds if not bond.demand.held)


def _involved(unsolvable: Unsolvable) -> set[str]:
    """The names that a dead end has to do with, and those that led there."""
    involved = {info.requirement.name for causes in unsolvable.dead_ends for info in causes}
    involved |= {info.parent.name for causes in unsolvable.dead_ends for info in causes if info.parent}
    leading = {(bond.demand.by.name, bond.name) for bond in unsolvable.bonds if bond.demand.by}
    while more := {by for by, name in leading if name in involved} - involved:
        involved |= more
    return involved


def _conflicts(unsolvable: Unsolvable, catalogue: Catalogue) -> Iterator[ResolutionError]:
    for causes in unsolvable.dead_ends:
        if places := [info.requirement for info in causes if isinstance(info.requirement, Place)]:
            yield DependencyCycle([PluginVersion.of(one.manifest) for one in cycle_through_last(places)])
        elif bonds := _irreconcilable(causes):
            yield _conflict(bonds, catalogue)


def _irreconcilable(causes: Iterable[Cause]) -> list[Bond]:
    """The fewest of these demands on one name that nothing meets; none where the conflict is with a mere choice."""
    bonds = [info.requirement for info in causes if isinstance(info.requirement, Bond)]
    if _some_fit(bonds):
        return []
    for bond in tuple(bonds):
        rest = [one for one in bonds if one is not bond]
        if rest and not _some_fit(rest):
            bonds = rest
    return bonds


def _some_fit(bonds: Sequence[Bond]) -> bool:
    return any(all(one in bond.fits for bond in bonds) for one in bonds[0].fits)


def _conflict(bonds: Sequence[Bond], catalogue: Catalogue) -> ResolutionError:
    demand = bonds[0].demand
    available = catalogue.versions(demand.name)
    if len(bonds) > 1:
        return VersionConflict([bond.demand for bond in bonds], available)
    return unmet(demand, available, catalogue.names())


def unmet(demand: Demand, available: Sequence[Version], names: Collection[str]) -> ResolutionError:
    """Why one demand cannot be met by itself: of all the `names` there are, its own has the versions `available`."""
    if available:
        return NoVersionMatches(demand, available)
    return DependencyMissing(demand, nearest(demand.name, names) if len(names) <= MAX_NAMES else None)


def _all_together(bonds: Iterable[Bond]) -> ResolutionError:
    """For a core in which every dead end was with a mere choice. None such has been found, nor ruled out."""
    return ResolutionError(f"these cannot all be met: {'; '.join(str(bond.demand) for bond in bonds)}")
