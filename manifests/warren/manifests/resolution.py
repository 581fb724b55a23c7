"""Which versions of which plugins go together: one of each name, in the order in which they are to be loaded.

The law of preference, which any implementation could be checked against:

1.  Names are taken breadth first: what is wanted in the order given, then what those versions need, in the order of
    their manifests, and so on. Each name in turn takes the highest version with which, what was taken before standing,
    all that is not optional can still be met, with no cycle.
2.  Then optional dependencies are tried in the same order. One that can be met, everything chosen so far standing, is;
    names that it adds are chosen by the same law, and their own optional dependencies are tried after all others. One
    that cannot is left out, with the reason; so an optional dependency never changes a version, nor fails a resolution.

Rejected: leaving the preference to the order in which the search happens to find solutions. The search answers only
whether there is one; so its heuristics can change, and no version with it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import chain
from typing import Final

from .demands import Demand
from .errors import ResolutionError, ResolutionGivenUp
from .explanation import explained
from .manifest import Manifest
from .search import Bond, Candidate, Catalogue, Search, Unsolvable
from .versions import VersionReq

#: Rounds for each of three: what is not optional, what is, and explanations. Fifty ordinary plugins need about fifty; a
#: hundred with twenty versions each and nothing but conflicts spend them in seconds.
MAX_ROUNDS: Final = 5000


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An optional dependency that is not met, and why."""

    demand: Demand
    reason: ResolutionError


@dataclass(frozen=True, slots=True)
class Resolution:
    """One version of each plugin, each after all that it needs; and the optional dependencies that it goes without."""

    order: tuple[Manifest, ...]
    left_out: tuple[LeftOut, ...] = ()


def resolve(
    wanted: Iterable[tuple[str, VersionReq]], available: Iterable[Manifest], *, max_rounds: int = MAX_ROUNDS
) -> Resolution:
    """The highest versions of `wanted`, and of all that they need, out of `available`; by the law above.

    Raises `ResolutionError`: `DependencyMissing`, `NoVersionMatches`, `VersionConflict` or `DependencyCycle` when there
    is no solution, `ResolutionGivenUp` when none was found in `max_rounds`. The order of `available` does not matter.
    """
    resolving = _Resolving(
        Catalogue(available), [Demand(name, requirement) for name, requirement in wanted], max_rounds
    )
    resolving.meet_required()
    resolving.meet_optional()
    return resolving.result()


class _Resolving:
    def __init__(self, catalogue: Catalogue, wanted: Iterable[Demand], max_rounds: int) -> None:
        self._catalogue = catalogue
        self._wanted = [catalogue.bond(demand) for demand in wanted]
        self._max_rounds = max_rounds
        self._explaining = Search(max_rounds)
        self._chosen: dict[str, Candidate] = {}
        self._met: defaultdict[Candidate, list[Bond]] = defaultdict(list)
        self._left_out: list[LeftOut] = []

    def meet_required(self) -> None:
        names = [bond.name for bond in self._wanted]
        try:
            self._chosen = self._with(names, Search(self._max_rounds))
        except Unsolvable as unsolvable:
            raise self._explained(unsolvable) from None

    def meet_optional(self) -> None:
        search = Search(self._max_rounds)
        trying = list(self._chosen.values())
        for candidate in trying:  # grows
            for bond in candidate.optional:
                if more := self._with_optional(candidate, bond, search):
                    trying += list(more.values())[len(self._chosen) :]
                    self._chosen = more

    def result(self) -> Resolution:
        after = {name: [bond.name for bond in self._needs(one)] for name, one in self._chosen.items()}
        order = (self._chosen[name].manifest for name in TopologicalSorter(after).static_order())
        return Resolution(tuple(order), tuple(self._left_out))

    def _needs(self, candidate: Candidate) -> Sequence[Bond]:
        return (*candidate.required, *self._met.get(candidate, ()))

    def _roots(self, chosen: dict[str, Candidate]) -> list[Bond]:
        return [*self._wanted, *(one.hold for one in chosen.values())]

    def _with_optional(self, candidate: Candidate, bond: Bond, search: Search) -> dict[str, Candidate] | None:
        """What is chosen if the optional dependency `bond` is met; None when it is left out."""
        self._met[candidate].append(bond)
        try:
            return self._with([bond.name], search)
        except Unsolvable as unsolvable:
            reason = self._explained(unsolvable)
        except ResolutionGivenUp as given_up:
            reason = given_up
        self._met[candidate].remove(bond)
        self._left_out.append(LeftOut(bond.demand, reason))
        return None

    def _with(self, names: Iterable[str], search: Search) -> dict[str, Candidate]:
        """What is chosen, and the highest versions of `names` and of all that they need, breadth first."""
        chosen = dict(self._chosen)
        solution = search.solve(self._roots(chosen), self._needs)
        ahead = deque(names)
        while ahead:
            if (name := ahead.popleft()) not in chosen:
                solution = self._highest(name, chosen, solution, search)
                chosen[name] = solution[name]
                ahead.extend(bond.name for bond in self._needs(chosen[name]))
        return chosen

    def _highest(
        self, name: str, chosen: dict[str, Candidate], solution: dict[str, Candidate], search: Search
    ) -> dict[str, Candidate]:
        """A solution with `chosen` and the highest version of `name` that has one; `solution` is any with `chosen`."""
        for candidate in self._catalogue.candidates(name):
            if candidate is solution[name]:
                break
            if self._fits(candidate, chosen):
                try:
                    return search.solve([*self._roots(chosen), candidate.hold], self._needs)
                except Unsolvable:
                    continue
        return solution

    def _fits(self, candidate: Candidate, chosen: dict[str, Candidate]) -> bool:
        bonds = chain(self._wanted, *map(self._needs, chosen.values()))
        return all(candidate in bond.fits for bond in bonds if bond.name == candidate.name)

    def _explained(self, unsolvable: Unsolvable) -> ResolutionError:
        return explained(unsolvable, self._catalogue, self._roots(self._chosen), self._needs, self._explaining)
