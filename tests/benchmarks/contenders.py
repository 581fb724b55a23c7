"""What takes part in the benchmark: a worker that serves one queue, how it wants its requests, and its process."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, Final

import psutil

STOP_LIMIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """A message's body and AMQP properties, named as pamqp names them."""

    body: bytes
    properties: Mapping[str, Any]


#: Wraps some text, which is to come back, for the queue that the answer is to go to.
Envelope = Callable[[str, str], Request]


@dataclass(frozen=True, slots=True)
class Contender:
    """A worker: what it is, which requests it gets, and how it is started.

    Requests are routed by `plugin` to the first of `queues`, which the load declares, with these arguments, and
    deletes. `promise` tells what it does for a message, and what it cannot.
    """

    name: str
    plugin: str
    version: str
    promise: str
    queues: Mapping[str, Mapping[str, str | int]]
    envelope: Envelope
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def queue(self) -> str:
        """Where its requests wait."""
        return next(iter(self.queues))

    @contextmanager
    def running(self) -> Iterator[Worker]:
        """Its process, stopped afterwards, together with whatever that left behind."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,
            )
            try:
                yield Worker(self.name, process, output)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_LIMIT_S)
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


class Worker:
    """A contender that runs."""

    def __init__(self, name: str, process: subprocess.Popen[str], output: IO[str]) -> None:
        self._name = name
        self._process = process
        self._output = output

    def cpu_s(self) -> float:
        """The processor time it has used so far, its children's included."""
        return cpu_s(self._process.pid)

    def rss_bytes(self) -> int:
        """The memory it holds, its children's included."""
        return sum(each.memory_info().rss for each in family(self._process.pid))

    def check_alive(self) -> None:
        """Raises, with what it printed, when it has ended."""
        if self._process.poll() is not None:
            self._output.seek(0)
            raise RuntimeError(f"{self._name} ended with status {self._process.returncode}:\n{self._output.read()}")


def cpu_s(pid: int) -> float:
    """The processor time that a process and its children have used."""
    used_s = 0.0
    for each in family(pid):
        with suppress(psutil.NoSuchProcess):  # RabbitMQ runs `df` now and then
            times = each.cpu_times()
            used_s += times.user + times.system
    return used_s


def family(pid: int) -> list[psutil.Process]:
    """A process, its children, and theirs."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
