"""Which versions go together: cases, and what is bounded."""

from __future__ import annotations

import random
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.shorthand import plugins, shown, wanted
from warren.manifests import (
    DependencyCycle,
    DependencyMissing,
    Manifest,
    ManifestError,
    NoVersionMatches,
    ResolutionError,
    ResolutionGivenUp,
    VersionConflict,
    VersionReq,
    resolve,
)

CASES = tomllib.loads((Path(__file__).parent / "data" / "resolutions.toml").read_text())["case"]
SOLVED = [case for case in CASES if "order" in case]
REFUSED = [case for case in CASES if "error" in case]

EVERY = VersionReq()


def refused(asked: list[str], lines: list[str]) -> ResolutionError:
    with pytest.raises(ResolutionError) as error:
        resolve(map(wanted, asked), plugins(lines))
    return error.value


def verdict(asked: list[str], lines: list[str]) -> list[str]:
    """The load order, or what is said instead."""
    try:
        return shown(resolve(map(wanted, asked), plugins(lines)).order)
    except ResolutionError as error:
        return str(error).split("\n")


@pytest.mark.parametrize("case", SOLVED, ids=lambda case: case["name"])
def test_versions_that_go_together_are_found_and_put_in_order(case: dict[str, Any]) -> None:
    found = resolve(map(wanted, case["wanted"]), plugins(case["plugins"]))
    assert shown(found.order) == case["order"]
    assert [str(one.reason) for one in found.left_out] == case.get("left_out", [])


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_cannot_be_had_is_explained(case: dict[str, Any]) -> None:
    error = refused(case["wanted"], case["plugins"])
    assert type(error).__name__ == case["error"]
    assert str(error).split("\n") == case["says"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_order_in_which_plugins_are_found_changes_nothing(case: dict[str, Any]) -> None:
    lines = list(case["plugins"])
    for seed in range(5):
        random.Random(seed).shuffle(lines)  # noqa: S311
        assert verdict(case["wanted"], lines) == case.get("order", case.get("says"))


def test_an_error_has_the_data_of_its_sentence() -> None:
    missing = refused(["a *"], ["a 1.0.0: b ^1"])
    assert isinstance(missing, DependencyMissing)
    assert (str(missing.demand.by), missing.demand.name, str(missing.demand.requirement)) == ("a 1.0.0", "b", "^1")
    unmatched = refused(["a *"], ["a 1.0.0: b ^2", "b 1.0.0"])
    assert isinstance(unmatched, NoVersionMatches)
    assert [str(version) for version in unmatched.available] == ["1.0.0"]
    conflict = refused(["a *", "b ^1"], ["a 1.0.0: b ^2", "b 1.0.0", "b 2.0.0"])
    assert isinstance(conflict, VersionConflict)
    assert [str(demand) for demand in conflict.demands] == ["b ^1 is wanted", "a 1.0.0 needs b ^2"]
    cycle = refused(["a *"], ["a 1.0.0: b *", "b 1.0.0: a *"])
    assert isinstance(cycle, DependencyCycle)
    assert [str(one) for one in cycle.cycle] == ["a 1.0.0", "b 1.0.0"]
    for error in (missing, unmatched, conflict, cycle):
        assert isinstance(error, ManifestError)
        assert [problem.message for problem in error.problems] == [error.sentence]


def test_the_core_tells_how_it_came_to_the_conflict_and_nothing_else() -> None:
    error = refused(["r *", "s *"], ["r 1.0.0: a *; s *", "s 1.0.0", "a 1.0.0: b ^1", "b 1.0.0: c ^2", "c 1.0.0"])
    assert [str(demand) for demand in error.core] == [
        "r * is wanted",
        "r 1.0.0 needs a *",
        "a 1.0.0 needs b ^1",
        "b 1.0.0 needs c ^2",
    ]


def test_long_lists_are_cut() -> None:
    many = [f"a {number}.0.0" for number in range(1, 101)]
    assert str(refused(["a ^200"], many)).endswith(
        "9.0.0, 10.0.0, … 80 more …, 91.0.0, 92.0.0, 93.0.0, 94.0.0, 95.0.0, 96.0.0, 97.0.0, 98.0.0, 99.0.0, 100.0.0"
    )
    lines = str(refused(["a *"], [f"{one}: gone_{at} *" for at, one in enumerate(many)])).split("\n")
    assert lines[0] == "a 100.0.0 needs gone_99 *, but there is no plugin gone_99"
    assert lines[4:] == [
        "or else a 96.0.0 needs gone_95 *, but there is no plugin gone_95",
        "or else one of 95 more conflicts",
    ]


def test_of_versions_that_differ_in_build_metadata_one_is_chosen_whatever_the_order() -> None:
    lines = ["a 1.0.0+linux", "a 1.0.0+build", "a 0.9.0"]
    for order in (lines, lines[::-1]):
        assert shown(resolve([("a", EVERY)], plugins(order)).order) == ["a 1.0.0+linux"]


def stack_depth() -> int:
    return len(traceback.extract_stack())


def test_a_chain_longer_than_the_interpreters_stack_is_resolved() -> None:
    lines = [f"p{at} 1.0.0: p{at + 1} *" for at in range(400)]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(stack_depth() + 150)
    try:
        found = resolve([("p0", EVERY)], plugins([*lines, "p400 1.0.0"]))
    finally:
        sys.setrecursionlimit(limit)
    assert shown(found.order)[0] == "p400 1.0.0"
    assert len(found.order) == 401


def test_many_optional_dependencies_cost_no_more_than_what_they_lead_to() -> None:
    names = [f"q{at}" for at in range(200)]
    first = "a 1.0.0: " + "; ".join(f"{name}? *" for name in names)
    found = resolve([("a", EVERY)], plugins([first, *(f"{name} 1.0.0" for name in names)]), max_rounds=650)
    assert len(found.order) == 201


def test_a_conflict_of_the_first_choice_with_the_last_does_not_take_every_combination_of_those_between() -> None:
    """There are 3^20, each of which plain backtracking would try."""
    first = "r 1.0.0: " + "; ".join(f"q{at} *" for at in range(20))
    between = [f"q{at} {major}.0.0" for at in range(1, 19) for major in (1, 2, 3)]
    ends = ["q0 1.0.0", "q0 2.0.0: x ^1", "q0 3.0.0: x ^1", "q19 1.0.0: x ^2", "x 1.0.0", "x 2.0.0"]
    found = resolve([("r", EVERY)], plugins([first, *between, *ends]), max_rounds=500)
    assert "q0 1.0.0" in shown(found.order)


def crowd(seed: int, needs: int) -> list[Manifest]:
    """A hundred plugins with twenty versions each, which need of each other what they can hardly have all at once."""
    draw = random.Random(seed)  # noqa: S311

    def line(at: int, major: int) -> str:
        after = range(at + 1, 100)
        others = sorted(draw.sample(after, min(needs, len(after))))
        ranges = (draw.choice(["^{}", "<{}", ">={}"]).format(draw.randint(1, 20)) for _ in others)
        return f"p{at} {major}.0.0: " + "; ".join(
            f"p{other} {text}" for other, text in zip(others, ranges, strict=True)
        )

    return plugins(line(at, major) for at in range(100) for major in range(1, 21))


def test_a_search_without_end_is_given_up() -> None:
    with pytest.raises(ResolutionGivenUp, match="was given up after 1000 steps; narrow the requirements") as given_up:
        resolve([("p0", EVERY)], crowd(seed=0, needs=3), max_rounds=1000)
    assert given_up.value.max_rounds == 1000


def test_a_conflict_in_a_crowd_is_told_though_its_core_may_not_be_the_least() -> None:
    with pytest.raises(VersionConflict) as error:
        resolve([("p0", EVERY)], crowd(seed=0, needs=30), max_rounds=1000)
    conflict = error.value
    assert len(conflict.available) == 20
    assert not any(
        all(demand.requirement.matches(version) for demand in conflict.demands) for version in conflict.available
    )
