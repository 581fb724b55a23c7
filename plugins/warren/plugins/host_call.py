"""What a guest is suspended in while a host function has not answered yet: a `Suspension` each (see `guest`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import bindings

if TYPE_CHECKING:
    from .guest import Guest


class AnswerAwaited:
    """A host call whose answer is awaited; `take` puts that to where the guest will find it."""

    def __init__(self, guest: Guest, answer: Coroutine[Any, Any, bytes], take: Callable[[bytes], None]) -> None:
        self._guest = guest
        self._task = asyncio.ensure_future(answer)
        self._take = take

    def step(self) -> bool:
        """True once the guest may go on."""
        if not self._task.done():
            return False
        self._take(self._task.result())
        self._guest.host_call = None
        return True

    async def wait(self, timeout_s: float) -> None:
        """Wait for the host function."""
        await asyncio.wait((self._task,), timeout=timeout_s)

    def drop(self) -> None:
        """Cancel the host function."""
        _give_up(self._task)


class HostCallInFlight:
    """One host call: from its answer being awaited to the answer lying in the guest's memory.

    wasmtime asks `step` each time the guest is polled. A step that fails never becomes ready: it leaves its fault on
    the guest, whose run then ends; a callback has no way to raise.
    """

    def __init__(self, guest: Guest, answer: bytes | Coroutine[Any, Any, bytes], result: Any) -> None:
        self._guest = guest
        self._result = result
        self._answer = answer if isinstance(answer, bytes) else None
        self._task = None if isinstance(answer, bytes) else asyncio.ensure_future(answer)
        self._allocation = 0

    def step(self) -> bool:
        """Advance; True once the guest may go on."""
        if self._answer is None:
            if self._task is None or not self._task.done():
                return False
            self._answer = self._task.result()
        guest = self._guest
        if not self._allocation:
            self._allocation = guest.begin_allocate(len(self._answer))
        if not bindings.future_poll(self._allocation):
            return False
        bindings.future_delete(self._allocation)
        self._allocation = 0
        pointer = guest.end_allocate()
        guest.write(pointer, self._answer)
        self._result.of.i64 = pointer << 32 | len(self._answer)
        guest.host_call = None
        return True

    async def wait(self, timeout_s: float) -> None:
        """Wait for the host function, or give the event loop a turn while the guest allocates."""
        if self._task is None or self._task.done():
            await asyncio.sleep(0)
        else:
            await asyncio.wait((self._task,), timeout=timeout_s)

    def drop(self) -> None:
        """Unwind the guest's `allocate`, when it is in the middle of it, and cancel the host function."""
        if self._allocation:
            bindings.future_delete(self._allocation)
            self._allocation = 0
        if self._task is not None:
            _give_up(self._task)


def _give_up(task: asyncio.Future[bytes]) -> None:
    if not task.cancel() and not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not complain of it
