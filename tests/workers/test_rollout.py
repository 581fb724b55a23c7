"""What is decided of a new version beside an old one: the tables, row by row, and the laws behind them."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests import Rollout
from warren.plugins.outcome import RunKind
from warren.workers.rollout import (
    FAULTS,
    IGNORED,
    NEXT,
    REFUSALS,
    RUNNING,
    State,
    Step,
    Tally,
    fuel_ratio_at_least,
    in_words,
    judge,
    rise_at_least,
    score_interval,
)

ROOT: Final = Path(__file__).parents[2]
CASES: Final = tomllib.loads((Path(__file__).parent / "data" / "rollout.toml").read_text())["case"]
POLICY: Final = Rollout()

COUNTS = st.integers(0, 400)


def tally(outcomes: dict[str, int], fuel: list[int] | None = None) -> Tally:
    counted = Tally()
    of_each = itertools.cycle(fuel or [100])
    for kind, times in outcomes.items():
        for _ in range(times):
            counted.add(kind, next(of_each) if kind == "ok" else 10**9)
    return counted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_counts_lead_to_a_decision_and_a_sentence(case: dict[str, Any]) -> None:
    policy = Rollout.model_validate(case.get("policy", {}))
    new, old = (tally(case.get(side, {}), case.get(f"{side}_fuel")) for side in ("new", "old"))
    verdict = judge(policy, new, old, "1.4.2", case.get("elapsed_s", 0.0))
    assert (verdict.says, case.get("reason", "") in verdict.reason) == (case["says"], True), verdict.reason


def test_every_outcome_is_judged_or_ignored() -> None:
    kinds = set(RunKind.__args__)  # type: ignore[attr-defined]
    assert FAULTS | REFUSALS | IGNORED | {"ok"} == kinds
    assert len(FAULTS) + len(REFUSALS) + len(IGNORED) + 1 == len(kinds)


def test_orders_and_counts_lead_where_the_table_says_and_nowhere_else() -> None:
    assert NEXT.keys() == set(State)
    assert all(Step.FAILED in NEXT[state] for state in RUNNING)
    for state, steps in NEXT.items():
        assert state not in steps.values()
        for step, then in steps.items():
            good = {Step.PASSED: True, Step.FAILED: False, Step.PROMOTE: True, Step.ROLL_BACK: False}[step]
            assert then is (State.PROMOTED if good else State.ROLLED_BACK)
    assert Step.PASSED not in NEXT[State.SHADOW], "nobody has been served by a shadow yet"
    assert Step.ROLL_BACK in NEXT[State.PROMOTED], "one may think better of it"


@given(COUNTS, COUNTS)
def test_the_interval_of_a_share_holds_it(failures: int, others: int) -> None:
    requests = failures + others
    low, high = score_interval(failures, requests)
    share = failures / requests if requests else 0.5
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_is_certain_is_less_than_what_was_seen(bad: int, good: int, old_bad: int, old_good: int) -> None:
    new, old = tally({"trap": bad, "ok": good}), tally({"trap": old_bad, "ok": old_good})
    certain = rise_at_least(POLICY, new, old)
    if new.requests and old.requests:
        assert certain <= bad / new.requests - old_bad / old.requests + 1e-9
    else:
        assert certain <= 0


@given(st.integers(50, 300), st.integers(50, 300), st.integers(0, 10))
def test_more_of_the_same_makes_certain(good: int, bad: int, times: int) -> None:
    old = tally({"ok": 1000})
    few, many = (tally({"ok": good * n, "trap": bad * n}) for n in (1, 1 + times))
    assert rise_at_least(POLICY, few, old) <= rise_at_least(POLICY, many, old) + 1e-9


@given(st.lists(st.integers(1, 10**15), max_size=30), st.lists(st.integers(1, 10**15), max_size=30))
def test_the_certain_ratio_of_fuel_is_a_number_and_not_above_the_one_seen(new: list[int], old: list[int]) -> None:
    sides = [tally({"ok": len(fuel)}, fuel) for fuel in (new, old)]
    ratio = fuel_ratio_at_least(*sides)
    assert math.isfinite(ratio)
    if new and old:
        assert ratio <= (sum(new) / len(new)) / (sum(old) / len(old)) * (1 + 1e-9)


def test_a_policy_is_told_in_a_line() -> None:
    assert in_words(Rollout()) == (
        "10 % of requests, by message_id; promoted after 300 s and 50 requests of each with at most 5 points more "
        "failures and 2 times the fuel"
    )
    assert in_words(Rollout(sticky="x-user", promote="order")).startswith(
        "10 % of requests, by header x-user; promoted by"
    )
    assert in_words(Rollout(shadow=True)).startswith(
        "10 % of requests run by it as well, by message_id; promoted by order"
    )


def test_the_readmes_table_has_the_defaults() -> None:
    (table,) = re.findall(r"```toml\n(\[rollout\].*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (written,) = tomllib.loads(table).values()
    assert written == Rollout().model_dump()
