"""What one guest that was written for WASI finds around it: its arguments, environment and streams, and its files.

Three descriptors are streams: an empty stdin, and stdout and stderr, whose lines become log lines of the run. The two
look like terminals, because a libc then writes each line as it ends; what a libc keeps back for a full buffer would be
lost with the guest, which never exits. A program does exit: to a `Command`, stdin and stdout are pipes instead, which
hold what goes in and what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .answers import answer_too_large
from .wasi_abi import STDERR, STDIN, STDOUT, FileType
from .wasi_descriptors import Files
from .world import LIVE, World

#: An unfinished line is logged once it is this long.
MAX_LINE_BYTES: Final = 8 << 10

#: The levels of `warren_v1.log` that the lines of each stream are logged at: info, and warn.
_LEVELS: Final = {STDOUT: 2, STDERR: 3}


class Command:
    """What a guest that is a program reads from stdin, and writes to stdout; `max_stdout_bytes` of that are kept."""

    __slots__ = ("_max_stdout_bytes", "_stdin", "stdout")

    def __init__(self, stdin: bytes, max_stdout_bytes: int) -> None:
        self._stdin = memoryview(stdin)
        self._max_stdout_bytes = max_stdout_bytes
        self.stdout = bytearray()

    @property
    def unread_bytes(self) -> int:
        return len(self._stdin)

    def read(self, length: int) -> bytes:
        """At most so many bytes, none when there are no more."""
        data, self._stdin = self._stdin[:length], self._stdin[length:]
        return bytes(data)

    def write(self, data: bytes) -> None:
        """Raises `GuestFault` (`output_too_large`)."""
        if len(self.stdout) + len(data) > self._max_stdout_bytes:
            raise answer_too_large(f"more than {self._max_stdout_bytes:,}", self._max_stdout_bytes)
        self.stdout += data


class Process:
    """The WASI side of one run; made when the guest first asks for it, since most guests never do."""

    __slots__ = (
        "_last_error", "_log", "_mask", "_open", "_unfinished", "arguments", "command", "environment", "files", "world",
    )  # fmt: skip

    def __init__(
        self,
        log: Callable[[int, bytes], None],
        arguments: tuple[bytes, ...] = (),
        environment: tuple[bytes, ...] = (),
        *,
        files: Files | None = None,
        mask: Callable[[str], str] = str,
        world: World = LIVE,
    ) -> None:
        """`environment` is of `NAME=value`; nothing holds a zero byte. `files` is None for a guest that has none.

        `mask` takes secrets out of what is quoted of stderr; log lines are masked by whoever shows them.
        """
        #: None for a guest that is no program.
        self.command: Command | None = None
        self.files = files
        self.world = world
        self.arguments = arguments
        self.environment = environment
        self._log = log
        self._mask = mask
        self._last_error = b""
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

    def file_type(self, fd: int) -> FileType:
        """What a stream looks like."""
        is_piped = self.command is not None and fd != STDERR
        return FileType.UNKNOWN if is_piped else FileType.CHARACTER_DEVICE

    @property
    def unread_bytes(self) -> int:
        """What stdin still holds."""
        return 0 if self.command is None else self.command.unread_bytes

    @property
    def last_error(self) -> str:
        """The last line on stderr that was not blank, without secrets; an unfinished one after `flush` alone."""
        return self._mask(self._last_error.decode(errors="replace").strip())

    def close(self, fd: int) -> None:
        self._open.discard(fd)

    def write(self, fd: int, data: bytes) -> None:
        """Log the lines that end in `data`, and keep what follows the last; a program's stdout is kept whole."""
        if fd == STDOUT and self.command is not None:
            self.command.write(data)
            return
        *lines, rest = (self._unfinished[fd] + data).split(b"\n")
        for line in lines:
            self._log_line(fd, line)
        if len(rest) >= MAX_LINE_BYTES:
            self._log_line(fd, rest)
            rest = b""
        self._unfinished[fd] = rest

    def flush(self) -> None:
        """Log the unfinished lines: the run has ended."""
        for fd, rest in self._unfinished.items():
            if rest:
                self._log_line(fd, rest)
                self._unfinished[fd] = b""

    def _log_line(self, fd: int, line: bytes) -> None:
        self._log(_LEVELS[fd], line)
        if fd == STDERR and not line.isspace():
            self._last_error = line or self._last_error
