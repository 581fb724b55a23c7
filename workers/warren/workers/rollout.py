"""What becomes of a new version that runs beside an old one: from counts to a decision. Pure.

    state         passed      failed        order: promote   order: roll back
    canary        promoted    rolled back   promoted         rolled back
    shadow        -           rolled back   promoted         rolled back
    promoted      -           -             -                rolled back
    rolled back   -           -             promoted         -

A window of counts begins with the rollout. What is seen in it is judged after each run:

    what is seen                                                            then
    certain: failures or fuel beyond the limit, `min_requests` of the new   failed, at once
    `window_s` gone by, `min_requests` of both, within both limits          passed; a new window where that is not for
                                                                            the counts to say (a shadow, "order")
    anything else                                                           the window goes on

A window that ends with too few requests goes on until there are enough, and so does one that is neither within the
limits nor certainly beyond: time alone decides nothing. Certain means: by the score interval of Wilson for a share, by
Newcombe's for the difference of two (Statistics in Medicine 17, 1998, p. 873: method 10), and by the delta method for
the ratio of two means. The first two hold for few requests, and for none: a side without traffic may be anything, so
nothing is certain against it.

Rejected: comparing the two shares as they are. Of 50 runs one more or less is 2 points, and a good version would be
rolled back by a single unlucky caller. Rejected too: a test that may stop at any time (SPRT and its like), which a
tired operator cannot redo with a pocket calculator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from warren.manifests import Rollout


class State(StrEnum):
    """Where a rollout is."""

    CANARY = "canary"
    SHADOW = "shadow"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Step(StrEnum):
    """What moves a rollout: the counts' verdict, or an order."""

    PASSED = "passed"
    FAILED = "failed"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


#: The table above. What is not in it changes nothing.
NEXT: Final[Mapping[State, Mapping[Step, State]]] = {
    State.CANARY: {
        Step.PASSED: State.PROMOTED,
        Step.FAILED: State.ROLLED_BACK,
        Step.PROMOTE: State.PROMOTED,
        Step.ROLL_BACK: State.ROLLED_BACK,
    },
    State.SHADOW: {
        Step.FAILED: State.ROLLED_BACK,
        Step.PROMOTE: State.PROMOTED,
        Step.ROLL_BACK: State.ROLLED_BACK,
    },
    State.PROMOTED: {Step.ROLL_BACK: State.ROLLED_BACK},
    State.ROLLED_BACK: {Step.PROMOTE: State.PROMOTED},
}

#: In these both versions run.
RUNNING: Final = frozenset({State.CANARY, State.SHADOW})

#: Standard deviations that a bound lies away from what was seen. It is looked at after every run, which multiplies the
#: chances of an error: 3 (0.1 % on one side, each time) leaves few, where the usual 1.64 (5 %) would leave many.
DEVIATIONS: Final = 3.0

#: The guest's fault, always.
FAULTS: Final = frozenset({"trap", "out_of_fuel", "out_of_memory", "deadline_exceeded", "output_too_large", "denied"})

#: Answers that refuse, and requests that the plugin's own schemas do. Failures where the policy counts them as such.
REFUSALS: Final = frozenset({"failed", "rejected"})

#: The host's fault, which says nothing of a version.
IGNORED: Final = frozenset({"unavailable"})


class Tally:
    """What became of one side's requests in a window. Fuel is of the runs that ended `ok`: others stop anywhere."""

    __slots__ = ("_faults", "_fuel", "_fuel_squared", "_refusals", "outcomes", "requests")

    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.requests = self._faults = self._refusals = 0
        self._fuel = self._fuel_squared = 0

    def add(self, outcome: str, fuel: int) -> None:
        if outcome in IGNORED:
            return
        self.requests += 1
        self.outcomes[outcome] += 1
        if outcome == "ok":
            self._fuel += fuel
            self._fuel_squared += fuel * fuel
        elif outcome in FAULTS:
            self._faults += 1
        else:
            self._refusals += 1

    def failures(self, policy: Rollout) -> int:
        return self._faults + self._refusals if policy.count_refusals else self._faults

    def share(self, policy: Rollout) -> float:
        """That of the failures; 0 of nothing."""
        return self.failures(policy) / self.requests if self.requests else 0.0

    @property
    def mean_fuel(self) -> float | None:
        """Of the runs that ended `ok`; None where none did."""
        runs = self.outcomes["ok"]
        return self._fuel / runs if runs else None

    def fuel_error(self) -> float:
        """The standard error of the mean fuel, as a share of it; infinite where that cannot be told."""
        runs, mean = self.outcomes["ok"], self.mean_fuel
        if runs < 2 or not mean:
            return math.inf
        variance = max(0.0, (self._fuel_squared - self._fuel * self._fuel / runs) / (runs - 1))
        return math.sqrt(variance / runs) / mean


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the counts of a window say, and why, in words. `go_on` is followed by what is still waited for."""

    says: Literal["go_on", "passed", "failed"]
    reason: str


def judge(policy: Rollout, new: Tally, old: Tally, old_version: str, elapsed_s: float) -> Verdict:
    """The second table above. `elapsed_s` is how long the window has lasted.

    It costs 3 µs while all is well, since nothing is certain that was not even seen.
    """
    if new.requests >= policy.min_requests and (worse := _worse(policy, new, old, old_version)):
        return Verdict("failed", worse)
    if missing := _missing(policy, new, old, old_version, elapsed_s):
        return Verdict("go_on", missing)
    return Verdict("passed", _comparison(policy, new, old, old_version))


def _worse(policy: Rollout, new: Tally, old: Tally, old_version: str) -> str | None:
    """What has certainly become worse than it may."""
    limit = policy.max_failure_rise_points
    if _fails_more(policy, new, old) and rise_at_least(policy, new, old) * 100 > limit:
        comparison = _comparison(policy, new, old, old_version)
        return f"{comparison}; at most {limit:g} points more are allowed"
    measured = min(new.outcomes["ok"], old.outcomes["ok"])
    certain = _uses_more(policy, new, old) and fuel_ratio_at_least(new, old) > policy.max_fuel_ratio
    if certain and measured >= policy.min_requests:
        return f"{_fuel(new, old, old_version)}; at most {policy.max_fuel_ratio:g} times as much is allowed"
    return None


def _missing(policy: Rollout, new: Tally, old: Tally, old_version: str, elapsed_s: float) -> str | None:
    """What keeps it from passing."""
    for who, tally in (("it", new), (old_version, old)):
        if tally.requests < policy.min_requests:
            return f"{who} has had {tally.requests:,} of {policy.min_requests:,} requests"
    if elapsed_s < policy.window_s:
        return f"{math.floor(elapsed_s)} of {policy.window_s:g} s have gone by"
    if _fails_more(policy, new, old):
        return f"{_comparison(policy, new, old, old_version)}, which may be chance yet"
    if _uses_more(policy, new, old):
        return f"{_fuel(new, old, old_version)}, which may be chance yet"
    return None


def _fails_more(policy: Rollout, new: Tally, old: Tally) -> bool:
    """Whether it was seen to, beyond the limit."""
    return (new.share(policy) - old.share(policy)) * 100 > policy.max_failure_rise_points


def _uses_more(policy: Rollout, new: Tally, old: Tally) -> bool:
    new_fuel, old_fuel = new.mean_fuel, old.mean_fuel
    return bool(new_fuel and old_fuel and new_fuel > policy.max_fuel_ratio * old_fuel)


def rise_at_least(policy: Rollout, new: Tally, old: Tally) -> float:
    """By how much the share of failures has risen at the least, in [-1, 1]: the lower end of Newcombe's interval."""
    new_low, _ = score_interval(new.failures(policy), new.requests)
    _, old_high = score_interval(old.failures(policy), old.requests)
    if not old.requests:
        return new_low - old_high
    new_share, old_share = new.share(policy), old.share(policy)
    return new_share - old_share - math.hypot(new_share - new_low, old_high - old_share)


def score_interval(failures: int, requests: int) -> tuple[float, float]:
    """Wilson's, for a share: (0, 1) of nothing."""
    if not requests:
        return 0.0, 1.0
    share, squared = failures / requests, DEVIATIONS * DEVIATIONS
    center = share + squared / (2 * requests)
    reach = DEVIATIONS * math.sqrt((share * (1 - share) + squared / (4 * requests)) / requests)
    scale = 1 + squared / requests
    return max(0.0, (center - reach) / scale), min(1.0, (center + reach) / scale)


def fuel_ratio_at_least(new: Tally, old: Tally) -> float:
    """How many times the fuel of the old one the new one uses, at the least; 0 where that cannot be told."""
    error = math.hypot(new.fuel_error(), old.fuel_error())
    if math.isinf(error) or not new.mean_fuel or not old.mean_fuel:
        return 0.0
    return new.mean_fuel / old.mean_fuel * math.exp(-DEVIATIONS * error)


def in_words(policy: Rollout) -> str:
    """What a policy asks for, in a line."""
    by = policy.sticky if policy.sticky in {"message_id", "correlation_id"} else f"header {policy.sticky}"
    limits = (
        f"{policy.window_s:g} s and {policy.min_requests:,} requests of each with at most "
        f"{policy.max_failure_rise_points:g} points more failures and {policy.max_fuel_ratio:g} times the fuel"
    )
    if policy.shadow:
        return f"{policy.percent:g} % of requests run by it as well, by {by}; promoted by order, sound after {limits}"
    promoted = "promoted after" if policy.promote == "auto" else "promoted by order, sound after"
    return f"{policy.percent:g} % of requests, by {by}; {promoted} {limits}"


def _comparison(policy: Rollout, new: Tally, old: Tally, old_version: str) -> str:
    return (
        f"{new.share(policy) * 100:.1f} % of {new.requests:,} runs failed{_kinds(policy, new)} "
        f"against {old.share(policy) * 100:.1f} % of {old.requests:,} of {old_version}"
    )


def _kinds(policy: Rollout, tally: Tally) -> str:
    """The outcomes that are failures, the most frequent first."""
    kinds = [kind for kind, _ in tally.outcomes.most_common() if kind in FAULTS or kind in REFUSALS]
    named = [kind for kind in kinds if policy.count_refusals or kind in FAULTS]
    return f" ({', '.join(named[:3])})" if named else ""


def _fuel(new: Tally, old: Tally, old_version: str) -> str:
    new_fuel, old_fuel = new.mean_fuel or 0.0, old.mean_fuel or 0.0
    return (
        f"{new.outcomes['ok']:,} runs used {new_fuel:,.0f} fuel each, {new_fuel / old_fuel:.1f} times "
        f"what {old.outcomes['ok']:,} of {old_version} did"
    )
