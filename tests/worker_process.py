"""A real `warren worker` in a process of its own, as an operator starts one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

#: How long a worker may take to load its plugins, on a machine that is busy with other tests.
START_LIMIT_S = 60.0


class WorkerProcess:
    """A worker that is serving. What it says on stderr is in `lines`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._serving = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
            if "serving" in self.lines[-1]:
                self._serving.set()
        self._serving.set()  # it will not be, any more; whoever waits sees its end

    async def until_serving(self) -> None:
        await asyncio.wait_for(self._serving.wait(), START_LIMIT_S)
        assert self.process.returncode is None, self.said

    async def until_read(self) -> None:
        """Return once all that it said has been read, which is after its end."""
        await asyncio.wait_for(self._reading, START_LIMIT_S)

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    async def terminate(self) -> int:
        """SIGTERM, and the exit code that follows."""
        self.process.terminate()
        return await self._end()

    async def kill(self) -> None:
        """SIGKILL: no word of farewell."""
        self.process.kill()
        await self._end()

    async def _end(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), START_LIMIT_S)
        await self._reading
        return code


@asynccontextmanager
async def worker_process(
    plugins: Path, url: str, prefix: str, *options: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[WorkerProcess]:
    """Start a worker and wait until it serves; it is killed afterwards, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "warren.workers.cli",
        "worker",
        *("--plugins", str(plugins), "--broker", url, "--prefix", prefix),
        *options,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | (environment or {}),
    )
    worker = WorkerProcess(process)
    try:
        await worker.until_serving()
        yield worker
    finally:
        if process.returncode is None:
            await worker.kill()
