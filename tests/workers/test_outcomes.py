from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import OutcomeKind
from warren.manifests import Retry
from warren.plugins.outcome import RunKind
from warren.workers.outcomes import JITTER_STEPS, Disposition, backoff_ms, dispose

CASES = json.loads(Path(__file__).with_name("data").joinpath("outcomes.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['outcome']} {case.get('attempt', 1)}")
def test_what_follows_from_an_outcome_is_in_the_table(case: dict[str, Any]) -> None:
    retry = Retry.model_validate_json(json.dumps(case.get("retry", {})))
    assert dispose(OutcomeKind(case["outcome"]), case.get("attempt", 1), retry) == Disposition(**case["then"])


def test_the_table_has_a_case_for_every_outcome() -> None:
    assert {case["outcome"] for case in CASES} == set(OutcomeKind)


def test_a_run_ends_in_nothing_that_a_result_could_not_say() -> None:
    assert set(get_args(RunKind)) == set(OutcomeKind)


@given(
    attempt=st.integers(1, 1000),
    jitter=st.floats(0, 1, exclude_max=True),
    share=st.floats(0, 1),
    initial_ms=st.integers(1, 60_000),
    multiplier=st.floats(1, 100),
)
def test_delays_stay_within_their_bounds(
    attempt: int, jitter: float, share: float, initial_ms: int, multiplier: float
) -> None:
    retry = Retry(initial_delay_ms=initial_ms, max_delay_ms=60_000, multiplier=multiplier, jitter=share)
    delay_ms = backoff_ms(attempt, retry, jitter)
    assert initial_ms <= delay_ms <= 60_000 * (1 + share)


@given(attempt=st.integers(1, 20), jitters=st.lists(st.floats(0, 1, exclude_max=True), max_size=50))
def test_jitter_chooses_from_few_delays_since_each_is_a_queue(attempt: int, jitters: list[float]) -> None:
    assert len({backoff_ms(attempt, Retry(jitter=1.0), jitter) for jitter in jitters}) <= JITTER_STEPS
