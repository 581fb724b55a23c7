"""The search for one version of each plugin, by resolvelib: complete, and bounded in its rounds.

A candidate is put to resolvelib with two demands besides its dependencies. One is on its own name, and only it will do:
so what has been chosen stands until the search backtracks over it, where resolvelib would change it in passing and
keep what the former choice had demanded. The other is on the load order, which all share, and which has a place for it
unless that would close a cycle: so a cycle is a conflict like any other.

Rejected: resolvelib's leaps over choices that seem to have no part in a conflict. They lose solutions
(https://github.com/sarugaku/resolvelib/issues/206), and so does its way back from them. The names that took part in the
last conflict are chosen first instead, which finds out as soon that the choices in between do not matter.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep
from resolvelib.resolvers import Criterion, RequirementInformation, Resolution
from semver import Version

from .demands import Demand
from .errors import ResolutionGivenUp
from .manifest import Manifest
from .versions import Comparator, VersionReq

#: Dead ends whose causes are kept. The first ones are the ones to tell; a hostile search has a hundred thousand.
MAX_DEAD_ENDS: Final = 1000


class Catalogue:
    """The versions that exist, and which of them meet a demand."""

    def __init__(self, available: Iterable[Manifest]) -> None:
        self._candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
        self._fitting: dict[tuple[str, VersionReq], Mapping[Candidate, None]] = {}
        for manifest in available:
            self._candidates[manifest.name].append(Candidate(manifest, self))
        for candidates in self._candidates.values():
            candidates.sort(key=lambda one: (one.version, one.version.build or ""), reverse=True)

    def names(self) -> Collection[str]:
        return self._candidates

    def candidates(self, name: str) -> Sequence[Candidate]:
        """From high to low."""
        return self._candidates.get(name, ())

    def versions(self, name: str) -> tuple[Version, ...]:
        """From low to high."""
        return tuple(one.version for one in reversed(self.candidates(name)))

    def bond(self, demand: Demand) -> Bond:
        key = demand.name, demand.requirement
        if key not in self._fitting:
            candidates = self.candidates(demand.name)
            self._fitting[key] = {one: None for one in candidates if demand.requirement.matches(one.version)}
        return Bond(demand, self._fitting[key])


@dataclass(frozen=True, eq=False)
class Candidate:
    """One version that may be chosen."""

    manifest: Manifest
    catalogue: Catalogue

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> Version:
        return self.manifest.version

    @cached_property
    def required(self) -> tuple[Bond, ...]:
        return tuple(self._bonds(optional=False))

    @cached_property
    def optional(self) -> tuple[Bond, ...]:
        return tuple(self._bonds(optional=True))

    def _bonds(self, *, optional: bool) -> Iterator[Bond]:
        for dependency in self.manifest.dependencies:
            if dependency.optional is optional:
                yield self.catalogue.bond(Demand.of(self.manifest, dependency))

    @cached_property
    def hold(self) -> Bond:
        """The demand of who has chosen this version before, and keeps it."""
        version = self.version
        exactly = Comparator("=", (version.major, version.minor, version.patch), version.prerelease)
        return Bond(Demand(self.name, VersionReq((exactly,)), held=True), {self: None})


@dataclass(frozen=True, slots=True, eq=False)
class Bond:
    """A demand with the candidates that meet it, highest first (a dict for its order and its quick membership)."""

    demand: Demand
    fits: Mapping[Candidate, None]

    @property
    def name(self) -> str:
        return self.demand.name


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """What a chosen candidate asks of its own name: that it stay chosen."""

    name: str
    fits: Mapping[Candidate, None]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What a chosen candidate asks of the load order: to come after all that it needs."""

    candidate: Candidate
    bonds: Sequence[Bond]
    after: tuple[str, ...]
    name: str = ""


class WholeOrder:
    """What resolvelib finds under the name of every `Place`; no plugin is called so."""

    name = ""


LOAD_ORDER: Final = WholeOrder()

Requirement: TypeAlias = Bond | Pin | Place
Choice: TypeAlias = Candidate | WholeOrder
Cause: TypeAlias = "RequirementInformation[Requirement, Choice]"
Needs: TypeAlias = Callable[[Candidate], Iterable[Bond]]


class Unsolvable(Exception):
    """No choice of versions will do. Holds what resolvelib knows of it: the causes of each dead end, the first first,
    and all the bonds that were considered.
    """

    def __init__(self, dead_ends: Sequence[Sequence[Cause]], bonds: Iterable[Bond]) -> None:
        super().__init__()
        self.dead_ends = tuple(dead_ends)
        self.bonds = tuple(bonds)


class Search:
    """Any number of searches that have `max_rounds` rounds between them. A round chooses, or gives up, one version."""

    def __init__(self, max_rounds: int) -> None:
        self._max_rounds = max_rounds
        self._rounds_left = max_rounds

    def solve(self, roots: Iterable[Bond], needs: Needs) -> dict[str, Candidate]:
        """A version of all that is demanded by `roots`, and by what those versions need, with no cycle among them.

        Raises `Unsolvable`, or `ResolutionGivenUp` when no rounds are left.
        """
        observer = _Observer()
        try:
            state = _Backtracking(_Provider(needs), observer).resolve(roots, self._rounds_left)
        except ResolutionImpossible as impossible:
            raise Unsolvable(observer.dead_ends or [tuple(impossible.causes)], observer.bonds) from None
        except ResolutionTooDeep:
            raise ResolutionGivenUp(self._max_rounds) from None
        finally:
            self._rounds_left -= observer.rounds
        return {name: chosen for name, chosen in state.mapping.items() if isinstance(chosen, Candidate)}


class _Backtracking(Resolution[Requirement, Choice, str]):
    """resolvelib's resolution without its leaps, for which it has no other switch."""

    def __init__(self, provider: _Provider, reporter: _Observer) -> None:
        super().__init__(provider, reporter)
        self._optimistic_backjumping_ratio = 0.0


class _Provider(AbstractProvider[Requirement, Choice, str]):
    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    def identify(self, requirement_or_candidate: Requirement | Choice) -> str:
        return requirement_or_candidate.name

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[str],
        resolutions: Mapping[str, Choice],  # noqa: ARG002
        candidates: Mapping[str, Iterator[Choice]],  # noqa: ARG002
        information: Mapping[str, Iterator[Cause]],  # noqa: ARG002
        backtrack_causes: Sequence[Cause],
    ) -> Iterable[str]:
        """One alone: what took part in the last conflict, and else what was demanded first."""
        involved = {info.requirement.name for info in backtrack_causes}
        involved.update(info.parent.name for info in backtrack_causes if info.parent)
        names = list(identifiers)
        return [next((name for name in names if name in involved), names[0])]

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Requirement]],
        incompatibilities: Mapping[str, Iterator[Choice]],
    ) -> Sequence[Choice]:
        demanded = list(requirements[identifier])
        excluded = set(incompatibilities[identifier])
        if places := [one for one in demanded if isinstance(one, Place)]:
            return () if LOAD_ORDER in excluded or cycle_through_last(places) else (LOAD_ORDER,)
        allowing = [one.fits for one in demanded if not isinstance(one, Place)]
        shortest = min(allowing, key=len)
        return [one for one in shortest if one not in excluded and all(one in fits for fits in allowing)]

    def is_satisfied_by(self, requirement: Requirement, candidate: Choice) -> bool:
        return isinstance(requirement, Place) or candidate in requirement.fits

    def get_dependencies(self, candidate: Choice) -> Iterable[Requirement]:
        if isinstance(candidate, WholeOrder):
            return ()
        bonds = tuple(self._needs(candidate))
        return (
            Place(candidate, bonds, tuple(bond.name for bond in bonds)),
            Pin(candidate.name, {candidate: None}),
            *bonds,
        )


class _Observer(BaseReporter[Requirement, Choice, str]):
    def __init__(self) -> None:
        self.rounds = 0
        self.dead_ends: list[Sequence[Cause]] = []
        self.bonds: dict[Bond, None] = {}

    def starting_round(self, index: int) -> None:
        self.rounds = index + 1

    def adding_requirement(self, requirement: Requirement, parent: Choice | None) -> None:  # noqa: ARG002
        if isinstance(requirement, Bond):
            self.bonds[requirement] = None
        elif isinstance(requirement, Place):
            self.bonds.update(dict.fromkeys(requirement.bonds))

    def rejecting_candidate(self, criterion: Criterion[Requirement, Choice], candidate: Choice) -> None:  # noqa: ARG002
        if len(self.dead_ends) < MAX_DEAD_ENDS:
            self.dead_ends.append(tuple(criterion.information))


def cycle_through_last(places: Sequence[Place]) -> tuple[Candidate, ...]:
    """The shortest cycle that the last of `places` closes, each before the one it needs; empty if it closes none.

    It begins with the candidate that comes first in `places`.
    """
    by_name = {place.candidate.name: place for place in places}
    last = places[-1].candidate.name
    needed_by: dict[str, str] = {}
    ahead = deque([last])
    while ahead and last not in needed_by:
        name = ahead.popleft()
        for needed in by_name[name].after:
            if needed in by_name and needed not in needed_by:
                needed_by[needed] = name
                ahead.append(needed)
    if last not in needed_by:
        return ()
    cycle = [needed_by[last]]
    while cycle[-1] != last:
        cycle.append(needed_by[cycle[-1]])
    first = next(name for name in by_name if name in cycle)
    at = cycle.index(first) + 1
    return tuple(by_name[name].candidate for name in reversed(cycle[at:] + cycle[:at]))
