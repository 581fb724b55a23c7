"""The workers that are compared, each a process of its own that serves one mailbox."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import psutil
from wasmtime import wat2wasm

from warren.bus.topology import Names

FOLDER: Final = Path(__file__).parent

#: Both workers hold this many requests at a time (the plain one has it in its own code).
PREFETCH: Final = 100

STOP_LIMIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A worker: what it is called, whose mailbox it serves, and how it is started."""

    name: str
    plugin: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[Worker]:
        """Its process, stopped afterwards."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                self.command, env=os.environ | self.environment, stdout=output, stderr=subprocess.STDOUT, text=True
            )
            try:
                yield Worker(self.name, process, output)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_LIMIT_S)
                finally:
                    process.kill()


class Worker:
    """A contender that runs."""

    def __init__(self, name: str, process: subprocess.Popen[str], output: IO[str]) -> None:
        self._name = name
        self._process = process
        self._output = output

    def cpu_s(self) -> float:
        """The processor time it has used so far, its children's included."""
        process = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def check_alive(self) -> None:
        """Raises, with what it printed, when it has ended."""
        if self._process.poll() is not None:
            self._output.seek(0)
            raise RuntimeError(f"{self._name} ended with status {self._process.returncode}:\n{self._output.read()}")


def plain(url: str, names: Names) -> Contender:
    """aio-pika alone."""
    plugin = "plain"
    script = str(FOLDER / "plain_worker.py")
    return Contender("plain aio-pika", plugin, [sys.executable, script, url, names.mailbox(plugin), names.results])


def warren(url: str, names: Names, folder: Path) -> Contender:
    """Warren, with the echo plugin built in `folder`."""
    (folder / "echo.wasm").write_bytes(wat2wasm((FOLDER / "echo.wat").read_text()))
    (folder / "echo.toml").write_bytes((FOLDER / "echo.toml").read_bytes())
    command = [str(Path(sys.executable).with_name("warren")), "worker", "--plugins", str(folder), "--broker", url]
    settings = {"WARREN_PREFIX": names.prefix, "WARREN_PREFETCH": str(PREFETCH)}
    return Contender("Warren", "echo", command, settings)
