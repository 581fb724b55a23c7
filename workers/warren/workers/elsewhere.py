"""Calls of plugins that are not loaded in this worker: requests over the bus, whose results the callers wait for.

They are requests like any other: whoever serves the plugin takes them, and what it publishes is not held back for the
caller. A caller that ends meanwhile waits no more; its request expires when its time is over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final, get_args

from pydantic_core import to_json

from warren.bus import BusError, CallTimeout, Client, Names, OutcomeKind, Result, Transport
from warren.plugins import Outcome, PluginCall, RunKind

from .spans import RunPlace

_KINDS: Final[Mapping[OutcomeKind, RunKind]] = {OutcomeKind(kind): kind for kind in get_args(RunKind)}


class BusCalls:
    """`warren.plugins.Elsewhere` over `transport`, which stays its owner's. It listens for replies once it has to."""

    def __init__(self, transport: Transport, names: Names) -> None:
        self._transport = transport
        self._names = names
        self._listening: asyncio.Task[Client] | None = None
        self._opened = AsyncExitStack()

    async def close(self) -> None:
        """Listen no more. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])
        await self._opened.aclose()

    async def call(self, call: PluginCall) -> Outcome:
        """See `warren.plugins.Elsewhere`."""
        try:
            return _outcome(await self._call(call))
        except CallTimeout as timeout:
            return Outcome("deadline_exceeded", error=str(timeout))
        except ValueError as invalid:
            return Outcome("rejected", error=str(invalid))
        except BusError as error:
            return Outcome("unavailable", error=str(error))

    async def _call(self, call: PluginCall) -> Result:
        place = call.trail if isinstance(call.trail, RunPlace) else None
        client = await self._open()
        result = await client.call(
            call.plugin,
            call.action,
            call.data,
            timeout_s=call.timeout_s,
            version=str(call.requirement),
            deadline_ms=max(1, math.floor(call.timeout_s * 1_000)),
            hops=call.depth,
            trace=None if place is None else place.call,
        )
        if place is not None:
            place.trace = result.trace
        return result

    async def _open(self) -> Client:
        """Raises `BusError`; the next call tries again then."""
        listening = self._listening
        if listening is None or (listening.done() and (listening.cancelled() or listening.exception())):
            client = Client(transport=self._transport, prefix=self._names.prefix)
            listening = self._listening = asyncio.create_task(self._opened.enter_async_context(client))
        return await asyncio.shield(listening)  # a caller that ends meanwhile leaves it to the others


def _outcome(result: Result) -> Outcome:
    """Raises `MalformedMessage` for an answer that is none."""
    kind = _KINDS[result.outcome]
    answer = {"success": result.success, "result": result.result, "error": result.error}
    has_answered = kind in ("ok", "failed")
    return Outcome(
        kind,
        to_json(answer) if has_answered else b"",
        None if has_answered else result.error,  # its own words, else; they are in the answer
        fuel=result.fuel,
        memory_bytes=result.memory_bytes,
        duration_us=result.duration_us,
    )
