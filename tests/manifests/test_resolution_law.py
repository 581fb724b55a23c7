"""The resolver against brute force, on thousands of small problems."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.manifests.brute_force import best, demands_of, solutions
from tests.manifests.shorthand import plugins
from tests.manifests.shorthand import wanted as wanting
from warren.manifests import (
    Demand,
    DependencyCycle,
    DependencyMissing,
    Manifest,
    NoVersionMatches,
    PluginVersion,
    Resolution,
    ResolutionError,
    VersionConflict,
    resolve,
)

NAMES = "abcde"
VERSIONS = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"]
REQUIREMENTS = ["*", "*", "*", "^1", "^1", "^2", "=1.0.0", ">=1.1", "<2", "<2", ">=2.0.0-rc.1", "<2.0.0-rc.2, >1"]


def needs_of(name: str) -> st.SearchStrategy[list[str]]:
    """Mostly of names after it, so that not everything is a cycle, and mostly not optional; `z` does not exist."""
    others = [*NAMES[NAMES.index(name) + 1 :] * 4, *NAMES, "z"]
    one = st.sampled_from(
        [f"{other}{mark} {text}" for other in others for mark in ["", "", "?"] for text in REQUIREMENTS]
    )
    return st.lists(one, max_size=3, unique_by=lambda need: need[0])


def versions_of(name: str) -> st.SearchStrategy[list[str]]:
    versions = st.dictionaries(st.sampled_from(VERSIONS), needs_of(name), min_size=1, max_size=3)
    return versions.map(lambda found: [f"{name} {version}: {'; '.join(needs)}" for version, needs in found.items()])


available_plugins = st.tuples(*map(versions_of, NAMES)).map(lambda found: [line for lines in found for line in lines])
roots = st.sampled_from([f"{name} {text}" for name in "abc" for text in ["*", "*", *REQUIREMENTS]])


def resolved(wanted: list[Demand], available: list[Manifest]) -> Resolution | ResolutionError:
    try:
        return resolve([(demand.name, demand.requirement) for demand in wanted], available)
    except ResolutionError as error:
        return error


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(st.lists(roots, min_size=1, max_size=3, unique_by=lambda root: root[0]), available_plugins)
@example(  # the search lowers `a` before it turns to `f`
    ["f *", "b *", "a *"],
    ["a 1.0.0: f ^1", "a 3.0.0", "b 1.0.0", "b 3.0.0: a <3", "e 3.0.0: f ^3", "f 1.0.0", "f 2.0.0: e *"],
)
def test_the_resolver_finds_what_the_law_says_and_explains_what_cannot_be(asked: list[str], lines: list[str]) -> None:
    wanted, available = [Demand(*wanting(text)) for text in asked], plugins(lines)
    expected, found = best(wanted, available), resolved(wanted, available)
    if isinstance(found, ResolutionError):
        assert expected is None
        assert_explains(found, wanted, available)
        return
    assert expected is not None
    chosen, left_out = expected
    assert {one.name: one for one in found.order} == chosen
    assert [one.demand for one in found.left_out] == left_out
    assert_topological(found)
    for one in found.left_out:
        assert_explains(one.reason, [one.demand], available)


def assert_topological(found: Resolution) -> None:
    places = {one.name: place for place, one in enumerate(found.order)}
    left_out = [one.demand for one in found.left_out]
    for one in found.order:
        for demand in (*demands_of(one), *demands_of(one, optional=True)):
            assert demand in left_out or places[demand.name] < places[one.name]


def assert_explains(error: ResolutionError, roots: list[Demand], available: list[Manifest]) -> None:
    """The core has no solution and not a demand too many; each conflict told is one, between demands of the core."""
    stated = [demand for one in available for demand in (*demands_of(one), *demands_of(one, optional=True))]
    assert all(demand.held or demand in roots or demand in stated for demand in error.core)
    assert not solvable(error.core, roots, available)
    for dropped in error.core:
        assert solvable([demand for demand in error.core if demand is not dropped], roots, available)
    for told in (error, *error.others):
        demands = conflicting(told, error.core)
        assert demands
        assert set(demands) <= set(error.core)
        if not isinstance(told, DependencyCycle):
            versions = [one.version for one in available if one.name == demands[0].name]
            assert not any(all(demand.requirement.matches(version) for demand in demands) for version in versions)


def solvable(core: Sequence[Demand], roots: list[Demand], available: list[Manifest]) -> bool:
    """Whether there would be a solution if nothing were demanded but `core`, and nothing chosen but what it holds."""
    held = {demand.name: demand.requirement for demand in core if demand.held}
    choice = [one for one in available if one.name not in held or held[one.name].matches(one.version)]

    def needs(manifest: Manifest) -> list[Demand]:
        return [demand for demand in core if demand.by == PluginVersion(manifest.name, manifest.version)]

    return any(True for _ in solutions([demand for demand in core if demand in roots], needs, choice))


def conflicting(error: ResolutionError, core: tuple[Demand, ...]) -> list[Demand]:
    match error:
        case DependencyMissing(demand=demand) | NoVersionMatches(demand=demand):
            return [demand]
        case VersionConflict(demands=demands):
            return list(demands)
        case DependencyCycle(cycle=cycle):
            links = pairwise([*cycle, cycle[0]])
            return [next(one for one in core if one.by == by and one.name == needed.name) for by, needed in links]
        case _:
            raise AssertionError(f"not a conflict: {error!r}")
