"""Load order and dependants, with several versions side by side."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manifests.shorthand import plugins, shown
from warren.manifests import Manifest, PluginDependency, dependants, load_order

DATA = tomllib.loads((Path(__file__).parent / "data" / "loading.toml").read_text())


@pytest.mark.parametrize("case", DATA["load_order"], ids=lambda case: case["name"])
def test_all_that_can_be_loaded_is_and_after_what_it_needs(case: dict[str, Any]) -> None:
    lines = list(case["plugins"])
    for seed in range(5):
        found = load_order(plugins(lines))
        assert shown(found.order) == case["order"]
        reasons = {f"{one.manifest.name} {one.manifest.version}": str(one.reason) for one in found.refused}
        assert reasons == case.get("refused", {})
        random.Random(seed).shuffle(lines)  # noqa: S311


def test_a_refusal_has_the_demand_that_is_not_met_and_the_one_that_is_to_blame() -> None:
    (refused, to_blame) = load_order(plugins(["a 1.0.0: b *; d? *", "b 1.0.0: c ^2", "c 1.0.0"])).refused
    assert str(refused.demand) == "a 1.0.0 needs b *"
    assert [str(demand) for demand in refused.reason.core] == ["b 1.0.0 needs c ^2"]
    assert refused.reason is to_blame.reason


def test_a_thousand_plugins_that_all_depend_on_each_other_are_put_in_order() -> None:
    """By their optional dependencies; one by one this would take minutes."""
    lines = (
        f"p{at} {major}.0.0: " + "; ".join(f"p{(at * 7 + step * 13) % 100}? *" for step in range(1, 15))
        for at in range(100)
        for major in range(1, 11)
    )
    assert len(load_order(plugins(lines)).order) == 1000


@pytest.mark.parametrize("case", DATA["dependants"], ids=lambda case: case["name"])
def test_those_that_cannot_do_without_are_found_and_go_first(case: dict[str, Any]) -> None:
    found = dependants(plugins(case["leaving"]), plugins(case["loaded"]))
    assert shown(found) == case["first"]


NAMES = "abcd"
REQUIREMENTS = ["*", "^1", "^2", "<2", ">=3"]
needs = st.sampled_from([f"{name}{mark} {text}" for name in NAMES for mark in ["", "?"] for text in REQUIREMENTS])
listed = st.lists(needs, max_size=2, unique_by=lambda need: need[0]).map("; ".join)
worlds = st.dictionaries(st.sampled_from([f"{name} {major}.0.0" for name in NAMES for major in (1, 2, 3)]), listed).map(
    lambda world: plugins(f"{head}: {tail}" for head, tail in world.items())
)


def options(dependency: PluginDependency, world: list[Manifest]) -> list[Manifest]:
    return [one for one in world if one.name == dependency.name and dependency.version_req.matches(one.version)]


def required(manifest: Manifest) -> list[PluginDependency]:
    return [one for one in manifest.dependencies if not one.optional]


def leads_to(manifest: Manifest, world: list[Manifest]) -> list[Manifest]:
    """All that `manifest` depends on by any of its dependencies and any version, directly or not."""
    found = [manifest]
    for one in found:
        found.extend(option for need in one.dependencies for option in options(need, world) if option not in found)
    return [other for one in found for need in one.dependencies for other in options(need, world)]


@settings(max_examples=500, deadline=None, derandomize=True)
@given(worlds)
def test_nothing_is_refused_that_could_be_loaded_and_nothing_comes_before_what_it_waits_for(
    world: list[Manifest],
) -> None:
    found = load_order(world)
    loaded: list[Manifest] = []
    for manifest in found.order:
        assert all(options(need, loaded) for need in required(manifest))
        loaded.append(manifest)
        for need in manifest.dependencies:
            late = [one for one in options(need, list(found.order)) if one not in loaded]
            assert all(manifest in leads_to(one, list(found.order)) for one in late)
    assert sorted(shown([*loaded, *(one.manifest for one in found.refused)])) == sorted(shown(world))
    for one in found.refused:
        assert not all(options(need, loaded) for need in required(one.manifest))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(worlds, st.data())
def test_unloading_breaks_nobody_on_the_way_and_takes_no_one_along_without_need(
    found: list[Manifest], data: st.DataObject
) -> None:
    world = list(load_order(found).order)
    leaving = data.draw(st.lists(st.sampled_from(world), max_size=2, unique_by=id)) if world else []
    first = dependants(leaving, world)
    there = list(world)
    for manifest in (*first, *leaving):
        assert not [one for one in there if one not in leaving and lacks(one, there)]
        there.remove(manifest)
    assert not [one for one in there if lacks(one, there)]
    needless = [*there, *first]
    while lacking := [one for one in needless if lacks(one, needless)]:
        needless = [one for one in needless if one not in lacking]
    assert needless == there


def lacks(manifest: Manifest, there: list[Manifest]) -> bool:
    return not all(options(need, there) for need in required(manifest))
