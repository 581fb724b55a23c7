"""What follows from an outcome: the one table, and the one function that reads it.

    outcome                                   result   dead letter   tried again
    ok, failed                                yes      no            never
    trap, out_of_fuel, out_of_memory,
      deadline_exceeded, output_too_large,
      denied                                  yes      yes           where the manifest's [retry] says so
    rejected                                  yes      yes           never
    unavailable                               yes      yes           always

A request that is to be tried again gets no result and no dead letter yet: it goes to a retry queue, and the table
applies to its last attempt. A worker that is killed leaves no word at all; the broker redelivers, and dead-letters
what exceeds its delivery limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from warren.bus import OutcomeKind
from warren.manifests import Retry


class _Retried(Enum):
    NEVER = "never"
    AS_THE_MANIFEST_SAYS = "manifest"
    ALWAYS = "always"


_NO_DEAD_LETTER: Final = frozenset({OutcomeKind.OK, OutcomeKind.FAILED})

_RETRIED: Final = {
    OutcomeKind.OK: _Retried.NEVER,
    OutcomeKind.FAILED: _Retried.NEVER,
    OutcomeKind.TRAP: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.OUT_OF_FUEL: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.OUT_OF_MEMORY: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.DEADLINE_EXCEEDED: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.OUTPUT_TOO_LARGE: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.DENIED: _Retried.AS_THE_MANIFEST_SAYS,
    OutcomeKind.REJECTED: _Retried.NEVER,
    OutcomeKind.UNAVAILABLE: _Retried.ALWAYS,
}

#: Delays that jitter chooses from. Each is a queue of its own on the broker, so there are few.
JITTER_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Disposition:
    """What is to be done with a request that was run: tried again after `retry_delay_ms`, or answered."""

    retry_delay_ms: int | None = None
    dead_letter: bool = False


def dispose(outcome: OutcomeKind, attempt: int, retry: Retry, *, jitter: float = 0.0) -> Disposition:
    """The table above, for the `attempt`-th attempt (1 is the first); `jitter` is a random number in [0, 1)."""
    retried = _RETRIED[outcome]
    again = retried is _Retried.ALWAYS or (retried is _Retried.AS_THE_MANIFEST_SAYS and outcome in retry.on)
    if again and attempt < retry.max_attempts:
        return Disposition(retry_delay_ms=backoff_ms(attempt, retry, jitter))
    return Disposition(dead_letter=outcome not in _NO_DEAD_LETTER)


def backoff_ms(attempt: int, retry: Retry, jitter: float) -> int:
    """The delay after the `attempt`-th attempt: exponential, bounded, spread over `JITTER_STEPS` values."""
    # An exponent this large is far past any bound; a larger one would overflow.
    delay = retry.initial_delay_ms * retry.multiplier ** min(attempt - 1, 64)
    bounded = min(delay, retry.max_delay_ms)
    step = int(jitter * JITTER_STEPS) / JITTER_STEPS
    return max(1, round(bounded * (1 + retry.jitter * step)))
