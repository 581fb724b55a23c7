"""Leaving a request to a worker that has the version it asks for: whether, how often, and how soon.

Workers that share a mailbox need not have the same versions, as while a new one is rolled out. The broker knows nothing
of versions, so a request may come to a worker that cannot serve it: it goes back by way of a retry queue, so that the
worker spends no time on it meanwhile, and comes to another one sooner or later. (Rejected: `requeue`, which comes back
at once, and to the same worker as soon as the others are busy. And a mailbox for each version: a requirement such as
`^1.2` names no version.)

The broker hands out requests in turn, so the others' turns have to be waited for. Of n others one of which has it, a
request misses that one 20 n times in a row less than once in a million.
"""

from __future__ import annotations

from typing import Final

from .roster import Whereabouts

#: How often a request is passed on at most, for each other worker that serves its plugin.
MAX_PASSES: Final = 20

#: How long it rests, the first times and from then on. Twenty times take longer than it takes to hear from everybody.
SOON_MS: Final = 100
LATER_MS: Final = 500
SOON_TIMES: Final = 3


def why_not(passed_on: int, found: Whereabouts, *, complete: bool) -> str | None:
    """Why a request that was passed on so often is rejected instead; None where it is passed on.

    `complete`: where others are that may serve it is known. Before that, it may be with somebody not heard of yet.
    """
    if complete and not found.fitting:
        return "no other worker announces one that does"
    if passed_on >= MAX_PASSES * max(1, found.serving):
        return f"it was passed on {passed_on} times, and came to no worker that has one"
    return None


def rest_ms(passed_on: int) -> int:
    """How long a request rests that was passed on so often before."""
    return SOON_MS if passed_on < SOON_TIMES else LATER_MS
