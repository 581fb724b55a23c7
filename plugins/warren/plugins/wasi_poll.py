"""`poll_oneoff`, by which a guest sleeps: a suspension like that of a host call, so that the loop goes on meanwhile.

wasmtime's own sleeps in the thread, through fuel and deadline alike (5 s against a deadline of 50 ms, measured).
Descriptors are always ready here: all that stdin has is there, what is written is logged at once, and files never wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from .guest import Guest
from .wasi_abi import ABSOLUTE_TIME, EVENT, HANGUP, STDIN, SUBSCRIPTION, U32, Clock, Errno, EventType
from .wasi_process import Process
from .world import Clock as ClockName
from .world import Timer

#: Events that one call may wait for. A runtime waits for a timer and its open descriptors, of which there are three.
MAX_SUBSCRIPTIONS: Final = 16

#: The clocks there are. CPU time is not among them: fuel is what a guest's work is measured by.
CLOCKS: Final[Mapping[int, ClockName]] = {Clock.REALTIME: "realtime", Clock.MONOTONIC: "monotonic"}

_NS_PER_S: Final = 1_000_000_000


class Poll:
    """One `poll_oneoff` under way: each subscription as the event it becomes, and when."""

    def __init__(
        self, guest: Guest, events: list[tuple[Timer | None, bytes]], events_at: int, count_at: int, result: Any
    ) -> None:
        self._guest = guest
        self._events = events
        self._world = guest.host.process.world
        self._due_ns = self._world.begin_sleep([timer for timer, _ in events])
        self._events_at = events_at
        self._count_at = count_at
        self._result = result

    def step(self) -> bool:
        """True once the guest may go on; it then finds the events in its memory."""
        woken_by = self._world.woken_by(self._due_ns)
        if woken_by is None:
            return False
        guest = self._guest
        due = [self._events[place][1] for place in woken_by]
        guest.write(self._events_at, b"".join(due))
        guest.write(self._count_at, U32.pack(len(due)))
        self._result.of.i32 = Errno.SUCCESS
        guest.host_call = None
        return True

    async def wait(self, timeout_s: float) -> None:
        """Wait until the first event is due, and no longer than `timeout_s`."""
        # Compared as integers first: a guest can ask for more nanoseconds than a float holds exactly.
        remaining_ns = max(0, min(self._due_ns) - time.monotonic_ns())
        await asyncio.sleep(min(timeout_s, remaining_ns / _NS_PER_S))

    def drop(self) -> None:
        """Nothing is held: a sleep that nobody waits for does not exist."""


def begin_poll(guest: Guest, process: Process, arguments: tuple[int, ...], result: Any) -> Poll | Errno:
    """What `poll_oneoff` with these arguments waits for, or what it answers at once."""
    subscriptions_at, events_at, count, count_at = arguments
    if not 1 <= count <= MAX_SUBSCRIPTIONS:
        return Errno.INVAL
    guest.charge(count * SUBSCRIPTION.size)
    guest.check_range(events_at, count * EVENT.size)
    guest.check_range(count_at, U32.size)
    table = guest.read(subscriptions_at, count * SUBSCRIPTION.size)
    events = [_event(process, fields) for fields in SUBSCRIPTION.iter_unpack(table)]
    return Poll(guest, events, events_at, count_at, result)


def _event(process: Process, subscription: tuple[int, ...]) -> tuple[Timer | None, bytes]:
    """What a subscription waits for, and the event that it then is; for nothing when it is a wrong one."""
    user_data, kind, number, timeout_ns, _precision, flags = subscription
    timer, errno, at_hand, nothing_more = None, Errno.SUCCESS, 0, 0
    if kind == EventType.CLOCK:
        clock = CLOCKS.get(number)
        if clock is None:
            errno = Errno.INVAL
        else:
            timer = Timer(clock, timeout_ns, bool(flags & ABSOLUTE_TIME))
    elif kind == EventType.FD_READ:
        is_stdin = number == STDIN and process.is_open(STDIN)
        errno = Errno.SUCCESS if is_stdin or process.is_file(number) else Errno.BADF
        at_hand = process.unread_bytes if is_stdin else 0
        nothing_more = HANGUP if is_stdin and not at_hand else 0
    elif kind == EventType.FD_WRITE:
        errno = Errno.SUCCESS if process.is_output(number) or process.is_file(number) else Errno.BADF
    else:
        errno = Errno.INVAL
    return timer, EVENT.pack(user_data, errno, kind, at_hand, nothing_more)
