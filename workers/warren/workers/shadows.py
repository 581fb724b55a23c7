"""Shadow runs: requests that the old version has answered, run by the new one as well, for comparison only.

They run beside what is answered, as tasks of their own that begin after it, and are cut into the same slices. No more
of them are under way at once than a few; where there is no room a request is not shadowed, and that is counted. Nothing
that they do is seen outside: what they publish is dropped, what they log is, and a host function that may change
something is not called (see `changes_nothing` of `plugins.host_function`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from warren.bus import Request
from warren.plugins import NotForShadows, Outcome

from .metrics import WorkerMetrics
from .trial import Trial

_log = logging.getLogger(__name__)

#: Shadow runs under way in a worker. Each may hold its plugin's whole memory limit, and takes its turns of the loop.
AT_ONCE: Final = 4


class ShadowRuns:
    """Those of one worker."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, trial: Trial, request: Request, answered: Outcome) -> None:
        """Have the new version run what the old one has answered, unless there is no room."""
        if self._closed:
            return
        if len(self._under_way) >= AT_ONCE:
            self._count(trial, "dropped")
            return
        task = asyncio.get_running_loop().create_task(self._run(trial, request, answered))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, trial: Trial, request: Request, answered: Outcome) -> None:
        timeout_s = None if request.deadline_ms is None else request.deadline_ms / 1_000
        try:
            outcome = await trial.candidate.run(request.body, timeout_s=timeout_s, shadow=True)
            result = trial.shadowed(answered, outcome)
        except NotForShadows as error:
            result = "not_compared"
            trial.fail(str(error))
        except Exception:  # noqa: BLE001 - a defect, and nobody waits for it
            result = "not_compared"
            _log.exception("a shadow run of %s failed, and not by its fault", trial.name)
        self._count(trial, result)

    def _count(self, trial: Trial, result: str) -> None:
        trial.shadow_runs[result] += 1
        self._metrics.shadow_ran(trial.name, result)

    async def close(self) -> None:
        """Begin no more, and drop those under way. Idempotent."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)
