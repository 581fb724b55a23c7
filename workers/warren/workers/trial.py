"""A new version beside an old one, in this process: what has been counted of both, and where that has led.

Counted are the requests that either could have served, each at its first attempt: of those that were drawn for one side
the kind of their callers says nothing. As a shadow the new version runs what the old one has just answered, and both
count when that has ended.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from pydantic_core import from_json

from warren.bus import Request
from warren.manifests import Rollout
from warren.plugins import Outcome, Plugin

from .differences import differences
from .rollout import RUNNING, State, Step, Tally, judge
from .text import printable

_log = logging.getLogger(__name__)

#: Between two lines of the log about answers of a shadow that differ.
TELL_AGAIN_S: Final = 60.0

#: Of longer answers only whether they differ is told: finding where would take the event loop too long.
MAX_COMPARED_BYTES: Final = 128 << 10


class Shadows(Protocol):
    """Runs requests a second time, where there is room for it."""

    def begin(self, trial: Trial, request: Request, answered: Outcome) -> None: ...


class Trial:
    """One rollout, from its start. `decide` is told when the counts have come to something.

    `over` is set from outside when one of the two versions has gone; what still comes to an end then changes nothing.
    """

    def __init__(
        self,
        candidate: Plugin,
        base: Plugin,
        policy: Rollout,
        *,
        shadows: Shadows,
        decide: Callable[[Trial, Step, str], None],
        clock: Callable[[], float],
    ) -> None:
        self.candidate = candidate
        self.base = base
        self.policy = policy
        self.state = State.SHADOW if policy.shadow else State.CANARY
        self.reason = ""
        self.since = time.time()
        self.over = False
        #: It has passed, and waits for an order.
        self.ready = False
        self.shadow_runs = Counter[str]()
        self._shadows = shadows
        self._decide = decide
        self._clock = clock
        self._told_at = -math.inf
        self._untold = 0
        self.begin_window()

    def begin_window(self) -> None:
        """Count from nothing."""
        self.new, self.old = Tally(), Tally()
        self._began = self._clock()

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING and not self.over

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    def ran(self, plugin: Plugin, request: Request, outcome: Outcome) -> None:
        """A request that was drawn has been run by `plugin`."""
        if not self.is_running or request.attempt > 1:
            return
        if plugin.version == self.candidate.version:
            self.new.add(outcome.kind, outcome.fuel)
            self._judge()
        elif plugin.version != self.base.version:
            return
        elif self.state is State.CANARY:
            self.old.add(outcome.kind, outcome.fuel)
            self._judge()
        elif outcome.kind != "unavailable":
            self._shadows.begin(self, request, outcome)

    def shadowed(self, answered: Outcome, outcome: Outcome) -> str:
        """What the old version has `answered`, the new one has run as well: `agreed`, `differed`, `not_compared`."""
        if outcome.kind == "unavailable":
            return "not_compared"
        differing = compare(answered, outcome)
        if differing:
            self._tell(differing)
        if self.is_running:
            self.old.add(answered.kind, answered.fuel)
            self.new.add(outcome.kind, outcome.fuel)
            self._judge()
        return "differed" if differing else "agreed"

    def fail(self, reason: str) -> None:
        """It cannot go on."""
        if self.is_running:
            self._decide(self, Step.FAILED, reason)

    def _judge(self) -> None:
        verdict = judge(self.policy, self.new, self.old, self.base.version, self.elapsed_s)
        self.reason = verdict.reason
        if verdict.says == "failed":
            self._decide(self, Step.FAILED, verdict.reason)
        elif verdict.says == "passed" and (self.state is State.SHADOW or self.policy.promote == "order"):
            if not self.ready:
                _log.info("%s %s is sound, and waits for an order: %s", self.name, self.candidate.version, self.reason)
            self.ready = True
            self.begin_window()
        elif verdict.says == "passed":
            self._decide(self, Step.PASSED, verdict.reason)

    def _tell(self, differing: tuple[str, ...]) -> None:
        """At once, and then once a minute."""
        if self._clock() - self._told_at < TELL_AGAIN_S:
            self._untold += 1
            return
        more = f" ({self._untold:,} other requests before it)" if self._untold else ""
        self._told_at, self._untold = self._clock(), 0
        what = f"{self.name} {self.candidate.version} answers otherwise than {self.base.version}"
        _log.warning("%s: %s%s", what, "; ".join(differing), more)


def compare(old: Outcome, new: Outcome) -> tuple[str, ...]:
    """Where two runs of one request differ for whoever sees what they did: the outcome, the answer, what it sent."""
    if old.kind != new.kind:
        because = "" if new.error is None else f" ({printable(new.error[:200])})"
        return (f"outcome: {old.kind}, now {new.kind}{because}",)
    if (old.response, old.messages, old.topic_changes) == (new.response, new.messages, new.topic_changes):
        return ()
    was, now = _seen(old), _seen(new)
    if len(old.response) + len(new.response) <= MAX_COMPARED_BYTES:
        return differences(was, now)
    return () if was == now else (f"answer: {len(old.response):,} bytes, now {len(new.response):,} that say otherwise",)


def _seen(outcome: Outcome) -> dict[str, Any]:
    answer = from_json(outcome.response) if outcome.response else {}
    sent = [{"to": one.to, "topic": one.topic, "payload": from_json(one.payload)} for one in outcome.messages]
    seen = answer | {"messages": sent}
    return seen | {"topics": {one.topic: one.subscribed for one in outcome.topic_changes}}
