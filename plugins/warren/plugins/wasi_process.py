"""What one guest that was written for WASI finds around it: its arguments, environment and streams, and its files.

Three descriptors are streams: an empty stdin, and stdout and stderr, whose lines become log lines of the run. The two
look like terminals, because a libc then writes each line as it ends; what a libc keeps back for a full buffer would be
lost with the guest, which never exits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .wasi_abi import STDERR, STDIN, STDOUT
from .wasi_descriptors import Files
from .world import LIVE, World

#: An unfinished line is logged once it is this long.
MAX_LINE_BYTES: Final = 8 << 10

#: The levels of `warren_v1.log` that the lines of each stream are logged at: info, and warn.
_LEVELS: Final = {STDOUT: 2, STDERR: 3}


class Process:
    """The WASI side of one run; made when the guest first asks for it, since most guests never do."""

    __slots__ = ("_log", "_open", "_unfinished", "arguments", "environment", "files", "world")

    def __init__(
        self,
        log: Callable[[int, bytes], None],
        arguments: tuple[bytes, ...] = (),
        environment: tuple[bytes, ...] = (),
        files: Files | None = None,
        world: World = LIVE,
    ) -> None:
        """`environment` is of `NAME=value`; nothing holds a zero byte. `files` is None for a guest that has none."""
        self.files = files
        self.world = world
        self.arguments = arguments
        self.environment = environment
        self._log = log
        self._open = {STDIN, STDOUT, STDERR}
        self._unfinished = {STDOUT: b"", STDERR: b""}

    @staticmethod
    def is_stream(fd: int) -> bool:
        """Whether `fd` stands for a stream, be it open or closed, and never for a file."""
        return fd <= STDERR

    def is_open(self, fd: int) -> bool:
        return fd in self._open

    def is_file(self, fd: int) -> bool:
        return self.files is not None and self.files.is_open(fd)

    def is_output(self, fd: int) -> bool:
        """Whether `fd` is open and can be written to."""
        return fd in self._open and fd in self._unfinished

    def close(self, fd: int) -> None:
        self._open.discard(fd)

    def write(self, fd: int, data: bytes) -> None:
        """Log the lines that end in `data`, and keep what follows the last."""
        *lines, rest = (self._unfinished[fd] + data).split(b"\n")
        level = _LEVELS[fd]
        for line in lines:
            self._log(level, line)
        if len(rest) >= MAX_LINE_BYTES:
            self._log(level, rest)
            rest = b""
        self._unfinished[fd] = rest

    def flush(self) -> None:
        """Log the unfinished lines: the run has ended."""
        for fd, rest in self._unfinished.items():
            if rest:
                self._log(_LEVELS[fd], rest)
                self._unfinished[fd] = b""
