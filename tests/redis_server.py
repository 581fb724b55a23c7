"""A real Redis, or Valkey, for the tests: the one that `WARREN_TEST_REDIS_URL` names, or a private one of this run.

What tests store in one that is named stays there, for plugins whose names nobody else uses; it had best be a database
for tests. A private server has a folder and a port of loopback of its own, keeps what it stores when it is stopped, and
has a guard as a private broker has (see `broker`). Only that one can be stopped, frozen or restarted.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.broker import GUARD, free_ports

SERVERS = ("redis-server", "valkey-server")

START_LIMIT_S = 20.0


class NoRedis(Exception):
    """There is no Redis to be had; says what to do."""


class RedisServer:
    """One that is up, at `url`. This one belongs to somebody else: nothing can be done to it but use it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Start it if it is stopped, and wait until it answers."""
        self._only_private("start")

    def stop(self) -> None:
        """Stop it, and wait until it is gone; what is stored stays."""
        self._only_private("stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and answers nothing, until the block ends."""
        self._only_private("freeze")
        yield

    @staticmethod
    def _only_private(what: str) -> None:
        pytest.skip(f"to {what} it takes a private server: unset WARREN_TEST_REDIS_URL, install redis-server")


class PrivateRedis(RedisServer):
    """A server of this test run's own, in `folder`."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        [self._port] = free_ports(1)
        self._group = 0
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__(f"redis://127.0.0.1:{self._port}/0")

    @contextmanager
    def running(self) -> Iterator[PrivateRedis]:
        """The server up, with its guard; both are gone afterwards."""
        self._folder.mkdir()
        with ExitStack() as started:
            guard = started.enter_context(subprocess.Popen(["sh", "-c", GUARD], stdin=subprocess.PIPE, process_group=0))
            started.callback(guard.kill)
            self._group = guard.pid
            started.callback(self.stop)
            self.start()
            yield self

    def start(self) -> None:
        if self._process is not None:
            return
        options = ("--bind", "127.0.0.1", "--port", str(self._port), "--appendonly", "yes", "--save", "")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._group,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = (self._folder / "log").read_text(errors="replace").splitlines()
                raise NoRedis("Redis did not start; the end of its log:\n" + "\n".join(lines[-20:]))
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_LIMIT_S)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def any_redis(folder: Path) -> Iterator[RedisServer]:
    """The first that can be had; raises `NoRedis` when there is none. `folder` is not there yet."""
    if url := os.environ.get("WARREN_TEST_REDIS_URL"):
        yield RedisServer(url)
    elif program := next(filter(None, map(shutil.which, SERVERS)), None):
        with PrivateRedis(program, folder).running() as server:
            yield server
    else:
        raise NoRedis("no Redis for the tests: install redis-server, or set WARREN_TEST_REDIS_URL")
