"""Beginning a coroutine at once, in the turn of the event loop in which its message came.

Most runs end within their first slice of fuel. As tasks, each would cost a task, and wait for the next turn: here what
ends at once has cost nothing besides, and only what has to wait becomes a task. (asyncio has eager tasks since Python
3.12. Those make the task first.)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
    """Run `work` until it first waits: its result, if it came to its end, else what is left of it, to be awaited.

    Raises what it does. Until it first waits `asyncio.current_task` is not its own: it must not use `asyncio.timeout`.
    """
    try:
        awaited = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return _finish(work, awaited)


async def _finish(work: Coroutine[Any, Any, T], awaited: Any) -> T:
    return await _rest(work, awaited)


@coroutine
def _rest(work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - it is for the work
                awaited = work.throw(error)
            else:
                awaited = work.send(sent)
    except StopIteration as end:
        result: T = end.value
        return result
