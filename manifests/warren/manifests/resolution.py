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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import chain, takewhile
from typing import Final

from .demands import Demand
from .errors import ResolutionError, ResolutionGivenUp
from .explanation import explained
from .manifest import Manifest
from .search import Bond, Candidate, Catalogue, Search, Unsolvable
from .versions import VersionReq

#: Rounds for each of three: what is not optional, what is, and explanations. Fifty ordinary plugins need about a
#: hundred; a hundred with twenty versions each and nothing but conflicts spend them in 3 to 15 s.
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
    resolving = _Resolving(Catalogue(available), max_rounds)
    resolving.meet([Demand(name, requirement) for name, requirement in wanted])
    resolving.meet_optional()
    return resolving.result()


class _Resolving:
    def __init__(self, catalogue: Catalogue, max_rounds: int) -> None:
        self._catalogue = catalogue
        self._max_rounds = max_rounds
        self._explaining = Search(max_rounds)
        self._chosen: dict[str, Candidate] = {}
        self._met: defaultdict[Candidate, list[Bond]] = defaultdict(list)
        self._left_out: list[LeftOut] = []

    def meet(self, wanted: Iterable[Demand]) -> None:
        roots = [self._catalogue.bond(demand) for demand in wanted]
        try:
            self._chosen = self._led_to(roots, Search(self._max_rounds))
        except Unsolvable as unsolvable:
            raise self._explained(unsolvable, roots) from None

    def meet_optional(self) -> None:
        search = Search(self._max_rounds)
        asking = list(self._chosen.values())
        for candidate in asking:  # grows
            for bond in candidate.optional:
                asking.extend(self._meet_if_possible(candidate, bond, search))

    def result(self) -> Resolution:
        after = {name: [bond.name for bond in self._needs(one)] for name, one in self._chosen.items()}
        order = (self._chosen[name].manifest for name in TopologicalSorter(after).static_order())
        return Resolution(tuple(order), tuple(self._left_out))

    def _meet_if_possible(self, candidate: Candidate, bond: Bond, search: Search) -> Iterable[Candidate]:
        """What is chosen in addition for an optional dependency, which is left out otherwise."""
        roots = self._holding([bond])
        self._met[candidate].append(bond)
        try:
            added = self._led_to(roots, search)
        except (Unsolvable, ResolutionGivenUp) as error:
            reason = self._explained(error, roots) if isinstance(error, Unsolvable) else error
            self._met[candidate].remove(bond)
            self._left_out.append(LeftOut(bond.demand, reason))
            return ()
        self._chosen |= added
        return added.values()

    def _needs(self, candidate: Candidate) -> Sequence[Bond]:
        return self._holding((*candidate.required, *self._met.get(candidate, ())))

    def _holding(self, bonds: Iterable[Bond]) -> list[Bond]:
        """`bonds`, and that those which lead to what is chosen already do not change it."""
        bonds = list(bonds)
        return bonds + [self._chosen[bond.name].hold for bond in bonds if bond.name in self._chosen]

    def _led_to(self, roots: Sequence[Bond], search: Search) -> dict[str, Candidate]:
        """The highest versions of all that `roots` lead to and that is not chosen already, in the order of the law."""
        solution = search.solve(roots, self._needs)
        taken: dict[str, Candidate] = {}
        ahead = deque(bond.name for bond in roots)
        while ahead:
            name = ahead.popleft()
            if name not in taken and name not in self._chosen:
                solution = self._highest(name, roots, taken, solution, search)
                taken[name] = solution[name]
                ahead.extend(bond.name for bond in self._needs(taken[name]))
        return taken

    def _highest(
        self,
        name: str,
        roots: Sequence[Bond],
        taken: Mapping[str, Candidate],
        solution: dict[str, Candidate],
        search: Search,
    ) -> dict[str, Candidate]:
        """The solution with `taken` and the highest version of `name` that has one; `solution` is one with `taken`."""
        bonds = [bond for bond in chain(roots, *map(self._needs, taken.values())) if bond.name == name]
        held = [one.hold for one in taken.values()]
        for candidate in takewhile(lambda one: one is not solution[name], self._catalogue.candidates(name)):
            if all(candidate in bond.fits for bond in bonds):
                try:
                    return search.solve([*roots, *held, candidate.hold], self._needs)
                except Unsolvable:
                    continue
        return solution

    def _explained(self, unsolvable: Unsolvable, roots: Sequence[Bond]) -> ResolutionError:
        return explained(unsolvable, self._catalogue, roots, self._needs, self._explaining)
