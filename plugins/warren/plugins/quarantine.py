"""Quarantine: a plugin that keeps asking for what it may not have is run no more, until an operator loads it again.

What counts is runs, not refusals: one run that looks for its files in ten places is no attack. What a called plugin is
refused counts for that one. It is this process's own judgement: others come to theirs.

Nothing is on the path of runs that used no power, nor of any once a plugin is closed: its actions are exchanged for
`Closed` ones, which know no request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from warren.manifests import Quarantine

from .actions import Actions
from .errors import GuestFault
from .files import Identity
from .outcome import Outcome


class RefusedRuns:
    """The latest runs of one plugin that were refused a power. `clock` counts seconds."""

    def __init__(self, rule: Quarantine, clock: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._clock = clock
        self._times: deque[float] = deque(maxlen=rule.refused_runs)
        self._last = ""

    def are_too_many_with(self, outcome: Outcome) -> bool:
        """Whether they are, with this run that has ended; it need not have been refused anything."""
        refused = next((event for event in outcome.audit if event.refusal is not None and event.plugin is None), None)
        if refused is None:
            return False
        self._times.append(self._clock())
        self._last = f"{refused.power} {refused.asked!r}: {refused.refusal}"
        return len(self._times) == self._rule.refused_runs and self._times[-1] - self._times[0] <= self._rule.window_s

    def sentence(self, plugin: Identity) -> str:
        """Why the plugin is in quarantine, and how it comes out."""
        runs = "one run was" if self._rule.refused_runs == 1 else f"{self._rule.refused_runs:,} runs were"
        return (
            f"{plugin.name} {plugin.version} is in quarantine: {runs} refused what it may not do within "
            f"{self._rule.window_s:g} s, the last {self._last}; "
            f"`warren reload {plugin.name} {plugin.version}` runs it again"
        )


class Closed:
    """The actions of a plugin in quarantine: there is none that may be asked for. Runs under way end as they would."""

    def __init__(self, actions: Actions, reason: str) -> None:
        self._actions = actions
        self._reason = reason

    def check_request(self, _request: bytes) -> NoReturn:
        """Raises `GuestFault` (`rejected`)."""
        raise GuestFault("rejected", self._reason)

    def check_response(self, action: str, response: bytes) -> None:
        """See `Actions.check_response`."""
        self._actions.check_response(action, response)
