"""A process that races others for one storage: `python -m tests.plugins.storage.racer URL PLUGIN count|fill N`.

`count` adds 1 to the number under the key `n`, N times, by compare-and-set. `fill` writes N entries of its own, of
`FILL_BYTES` each, under a quota of `FILL_QUOTA`, and prints how many it was let. Both begin when their input ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from warren.plugins.storage import ENTRY_BYTES, NOTHING, QuotaExceeded, Storage, open_storage

ROOT: Final = Path(__file__).parents[3]

KEY_BYTES: Final = 20
FILL_BYTES: Final = KEY_BYTES + 100 + ENTRY_BYTES

#: Room for 150 entries, and nearly for one more.
FILL_QUOTA: Final = FILL_BYTES * 151 - 1

LIMIT_S: Final = 30.0


async def count(storage: Storage, plugin: str, times: int) -> int:
    for _ in range(times):
        while True:
            before = await storage.get(plugin, b"n", timeout_s=LIMIT_S)
            after = b"%d" % (int(before or b"0") + 1)
            written = await storage.write(
                plugin, b"n", after, expected=before or NOTHING, quota_bytes=1_000, timeout_s=LIMIT_S
            )
            if written.done:
                break
    return times


async def fill(storage: Storage, plugin: str, times: int) -> int:
    done = 0
    for number in range(times):
        key = b"%d-%d" % (os.getpid(), number)
        try:
            await storage.write(
                plugin, key.rjust(KEY_BYTES, b"."), b"1" * 100, quota_bytes=FILL_QUOTA, timeout_s=LIMIT_S
            )
            done += 1
        except QuotaExceeded:
            continue
    return done


async def race(url: str, plugin: str, what: str, times: int) -> int:
    storage = await open_storage(url)
    print("ready", flush=True)  # noqa: T201 - its parent reads it
    await asyncio.to_thread(sys.stdin.read)
    try:
        return await (count if what == "count" else fill)(storage, plugin, times)
    finally:
        await storage.close()


async def raced(url: str, plugin: str, what: str, times: int) -> list[int]:
    """What three such processes give that begin at once."""
    command = (sys.executable, "-m", "tests.plugins.storage.racer", url, plugin, what, str(times))
    racers = [
        await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(racer.communicate(b"") for racer in racers))
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    return [int(output) for output, _ in outputs]


if __name__ == "__main__":
    print(asyncio.run(race(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))  # noqa: T201
