"""What the broker wrote down about its clients' misbehaviour."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.broker import PrivateNode


class BrokerLog:
    """The node's log, from the moment that it was opened."""

    def __init__(self, paths: list[Path]) -> None:
        self._begin = {path: path.stat().st_size for path in paths}

    @classmethod
    async def of(cls, node: PrivateNode) -> BrokerLog:
        locations = await node.ctl("eval", "rabbit:log_locations().")
        return cls([path for path in map(Path, re.findall(r'"([^"]+)"', locations)) if path.is_file()])

    def count(self, words: str) -> int:
        """How often it has said that since."""
        return sum(path.read_bytes()[begin:].count(words.encode()) for path, begin in self._begin.items())

    async def until(self, words: str, *, timeout_s: float = 20.0) -> None:
        """Return once it has said that; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.count(words):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)
