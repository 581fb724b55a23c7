"""The resolver against brute force, on thousands of small problems."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
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

NAMES = "abcdef"
VERSIONS = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"]
REQUIREMENTS = ["*", "*", "*", "^1", "^2", "=1.0.0", ">=1.1", "<2", ">=2.0.0-rc.1", "<2.0.0-rc.2, >1"]

Problem = tuple[list[str], list[str]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """What is wanted, and what there is. Names mostly need names after them; `z` does not exist."""
    available: list[str] = []
    for at, name in enumerate(NAMES):
        others = st.sampled_from(NAMES[at + 1 :] * 4 + NAMES + "z")
        needs = st.builds("{}{} {}".format, others, st.sampled_from(["", "", "", "?"]), st.sampled_from(REQUIREMENTS))
        for version in draw(st.lists(st.sampled_from(VERSIONS), unique=True, min_size=1, max_size=3)):
            listed = draw(st.lists(needs, max_size=3, unique_by=lambda need: need[0]))
            available.append(f"{name} {version}: {'; '.join(listed)}")
    roots = st.builds("{} {}".format, st.sampled_from(NAMES[:3]), st.sampled_from(REQUIREMENTS))
    return draw(st.lists(roots, min_size=1, max_size=2)), available


def resolved(wanted: list[Demand], available: list[Manifest]) -> Resolution | ResolutionError:
    try:
        return resolve([(demand.name, demand.requirement) for demand in wanted], available)
    except ResolutionError as error:
        return error


@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_the_resolver_finds_what_the_law_says_and_explains_what_cannot_be(
    problem: Problem,
) -> None:
    wanted, available = [Demand(*wanting(text)) for text in problem[0]], plugins(problem[1])
    expected, found = best(wanted, available), resolved(wanted, available)
    if isinstance(found, ResolutionError):
        assert expected is None
        assert all(demand in wanted or is_stated(demand, available) for demand in found.core)
        assert_explains(found, available)
        return
    assert expected is not None
    chosen, left_out = expected
    assert {one.name: one for one in found.order} == chosen
    assert [one.demand for one in found.left_out] == left_out
    assert_topological(found)
    for one in found.left_out:
        assert_explains(one.reason, available)


def is_stated(demand: Demand, available: list[Manifest]) -> bool:
    return any(demand in demands_of(one) for one in available)


def assert_topological(found: Resolution) -> None:
    places = {one.name: place for place, one in enumerate(found.order)}
    left_out = [one.demand for one in found.left_out]
    for one in found.order:
        for demand in (*demands_of(one), *demands_of(one, optional=True)):
            assert demand in left_out or places[demand.name] < places[one.name]


def assert_explains(error: ResolutionError, available: list[Manifest]) -> None:
    """Its core has no solution and not a demand too many; each conflict told is one, between demands of the core."""
    assert not solvable(error.core, available)
    for dropped in error.core:
        assert solvable([demand for demand in error.core if demand is not dropped], available)
    for told in (error, *error.others):
        demands = conflicting(told, error.core)
        assert demands
        assert set(demands) <= set(error.core)
        if not isinstance(told, DependencyCycle):
            versions = [one.version for one in available if one.name == demands[0].name]
            assert not any(all(demand.requirement.matches(version) for demand in demands) for version in versions)


def solvable(core: list[Demand] | tuple[Demand, ...], available: list[Manifest]) -> bool:
    """Whether there would be a solution if nothing were demanded but this."""

    def needs(manifest: Manifest) -> list[Demand]:
        return [demand for demand in core if demand.by == PluginVersion(manifest.name, manifest.version)]

    return any(True for _ in solutions([demand for demand in core if demand.by is None], needs, available))


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
