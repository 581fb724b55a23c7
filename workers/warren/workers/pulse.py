"""The pulse of a worker process: once a second, from its event loop, how it is; to its parent, through a pipe.

Neither end ever waits for the other. A process whose last report is not read yet leaves the next one out, so that a
frozen parent does not stop its children; a child that is frozen in mid-report keeps nobody from reading the others'.
(Rejected: the `send` and `recv` of multiprocessing's connections, which do wait.)
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

from .vitals import PERIOD_S, Report, Tell
from .worker import Worker

_LENGTH_BYTES: Final = 4


class Pulse:
    """Tells how this process is, from entering to leaving it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._worker: Worker | None = None
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._beat()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beat()  # the last that was counted
        if self._next is not None:
            self._next.cancel()

    def serves(self, worker: Worker) -> None:
        """From now on `worker` serves, and is what there is to tell of."""
        self._worker = worker
        self._beat()

    def _beat(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(PERIOD_S, self._beat)
        self._tell(self._report())

    def _report(self) -> Report:
        if self._worker is None:
            return Report("starting: plugins are being loaded, and the broker is looked for")
        return Report(self._worker.impediment(), started=True, metrics=self._worker.metrics.snapshot())


@asynccontextmanager
async def telling(connection: Connection) -> AsyncIterator[Tell]:
    """The function that sends a report through a pipe, which is closed afterwards."""
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, connection)

    def tell(report: Report) -> None:
        if transport.get_write_buffer_size() == 0 and not transport.is_closing():
            data = pickle.dumps(report)
            transport.write(len(data).to_bytes(_LENGTH_BYTES) + data)

    try:
        yield tell
    finally:
        transport.close()  # what was told last still goes out


async def hear(connection: Connection, heard: Tell) -> None:
    """Read reports from a pipe, and close it, when whoever sends them has ended."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), connection
    )
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
            heard(pickle.loads(await reader.readexactly(length)))  # noqa: S301 - from our own child
    except asyncio.IncompleteReadError:
        return
    finally:
        transport.close()
