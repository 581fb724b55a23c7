"""Whether a request is left to another worker: the one function that decides it."""

from __future__ import annotations

import pytest

from warren.workers.passing import MAX_PASSES, rest_ms, why_not
from warren.workers.roster import PERIOD_S, Whereabouts

NOBODY = "no other worker announces one that does"
IN_VAIN = "it was passed on {} times, and came to no worker that has one"


@pytest.mark.parametrize(
    ("passed_on", "serving", "fitting", "complete", "reason"),
    [
        (0, 0, 0, True, NOBODY),
        (0, 5, 0, True, NOBODY),
        (0, 1, 1, True, None),
        (MAX_PASSES - 1, 1, 1, True, None),
        (MAX_PASSES, 1, 1, True, IN_VAIN.format(MAX_PASSES)),
        (MAX_PASSES, 3, 1, True, None),
        (MAX_PASSES * 3, 3, 1, True, IN_VAIN.format(MAX_PASSES * 3)),
        (0, 0, 0, False, None),
        (MAX_PASSES - 1, 0, 0, False, None),
        (MAX_PASSES, 0, 0, False, IN_VAIN.format(MAX_PASSES)),
        (10**30, 9, 9, True, IN_VAIN.format(10**30)),
    ],
)
def test_a_request_is_passed_on_while_somebody_has_or_may_have_it_and_not_for_ever(
    *, passed_on: int, serving: int, fitting: int, complete: bool, reason: str | None
) -> None:
    assert why_not(passed_on, Whereabouts(serving, fitting), complete=complete) == reason


@pytest.mark.parametrize("others", [1, 2, 10, 100])
def test_the_one_that_has_it_is_missed_less_than_once_in_a_million(others: int) -> None:
    passes = next(n for n in range(10**6) if why_not(n, Whereabouts(others, 1), complete=True))
    assert (1 - 1 / (others + 1)) ** passes < 1e-6


def test_a_request_rests_and_for_long_enough_that_everybody_is_heard_of_meanwhile() -> None:
    rests = [rest_ms(passed_on) for passed_on in range(MAX_PASSES)]
    assert min(rests) >= 100
    assert sum(rests) > 1_500 * PERIOD_S
