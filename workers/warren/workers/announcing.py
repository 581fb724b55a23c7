"""A worker's voice on the control exchange: that it is there, with what, and in the end that it is gone.

It announces itself when it begins to serve, every few seconds, when its plugins or its state change, and as it leaves.
Nobody waits for any of it: while the broker is away announcements expire, and the next one tells it all again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from warren.bus import Announcement, BusError, Names, PublishRefused, Transport, announcement_message

from .roster import PERIOD_S
from .seldom import Seldom

_log = logging.getLogger(__name__)

#: The least part of the period after which the next announcement comes, so that workers started together spread out.
LEAST: Final = 0.8

#: Changes that come together, as when a folder is loaded, are announced together.
GATHER_S: Final = 0.1

#: After announcements that the broker refused the pause is doubled as often at most: each costs the channel that
#: everything is published on.
DOUBLINGS: Final = 4

#: How long a goodbye may take, where the broker is away.
GOODBYE_S: Final = 1.0


class Announcer:
    """Announces what `describe` gives, from `start` to `stop`."""

    def __init__(
        self,
        transport: Transport,
        names: Names,
        describe: Callable[[], Announcement],
        *,
        seldom: Seldom,
        period_s: float = PERIOD_S,
    ) -> None:
        self._transport = transport
        self._names = names
        self._describe = describe
        self._seldom = seldom
        self._period_s = period_s
        self._next: asyncio.TimerHandle | None = None
        self._gathering = False
        self._refused = 0

    def start(self) -> None:
        self._announce()

    def soon(self) -> None:
        """Something has changed."""
        if self._next is not None and not self._gathering:
            self._gathering = True
            self._again_in(GATHER_S)

    def stop(self) -> None:
        """Announce a last time; `describe` tells that it is gone. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._post(GOODBYE_S)

    def _again_in(self, delay_s: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(delay_s, self._announce)

    def _announce(self) -> None:
        self._gathering = False
        self._again_in(self._period_s * random.uniform(LEAST, 1.0))  # noqa: S311 - not a secret
        self._post(self._period_s)

    def _post(self, limit_s: float) -> None:
        try:
            message = announcement_message(self._names, self._describe(), valid_s=self._period_s)
            self._transport.post(message, timeout_s=limit_s).add_done_callback(self._posted)
        except (BusError, ValueError) as error:
            self._failed(error)

    def _posted(self, confirmed: asyncio.Future[None]) -> None:
        if confirmed.cancelled():
            return
        error = confirmed.exception()
        if error is None:
            self._refused = 0
        else:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        more = self._seldom.may_say(("announcement", type(error)))
        if more is not None:
            _log.warning("this worker could not announce itself, and others may not know it: %s%s", error, more)
        if isinstance(error, PublishRefused) and self._next is not None:
            self._refused = min(self._refused + 1, DOUBLINGS)
            self._again_in(self._period_s * 2**self._refused)
