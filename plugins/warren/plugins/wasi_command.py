"""The guest ABI `wasi`: any program that was built as a WASI preview 1 command, run once for each request.

`_start` is called once. The arguments are the plugin's name and then those of `[runtime] args`, in which `{action}`
stands for the action; without any, the action is the one argument. The plugin's settings are in the environment, with
the variables that it was granted, as `WARREN_CONFIG`: the JSON that `initialize` is given in the ABI `core`. Lines on
stderr are log lines. Exit code 0, or the end of `_start`, is success; any other is a failure that the last line on
stderr explains.

What stands on stdin and stdout is for `[runtime] streams` to say:

    json    stdin has the request, as it came. What is on stdout is the answer if it is an object of the keys of one,
            else the result: any JSON value, or text. Nothing is null.
    text    stdin has the data of the request alone, and stdout is the result, as text, whatever it looks like: for
            programs that know nothing of JSON. See `plain_values` for what is no text.

Rejected: to tell `json` from `text` by what comes out. A program that prints its input would give a number for "42".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from warren.manifests import Abi as AbiName
from warren.manifests import Runtime

from .errors import GuestExit, GuestFault, ModuleRefused
from .guest import Guest, Program
from .host_imports import IMPORT_MODULE
from .module import FuncType, ModuleInfo, wrong_exports, wrong_imports
from .plain_values import as_bytes, as_result, failed, is_answer, is_json, read_request, succeeded
from .wasi_abi import WASI_IMPORTS
from .wasi_process import Command

if TYPE_CHECKING:
    from .engine import Engine

_REQUIRED: Final = {"_start": (FuncType(),)}

ACTION: Final = "{action}"

#: Without `[runtime] args`.
DEFAULT_ARGUMENTS: Final = (ACTION,)


#: Of all arguments together: what a manifest says in a few bytes, an action could make gigabytes of.
MAX_ARGUMENTS_BYTES: Final = 128 << 10


@dataclass(frozen=True, slots=True)
class WasiAbi:
    """How one program is run; an `Abi`."""

    name: ClassVar[AbiName] = "wasi"
    guest_class: ClassVar[type[Guest]] = Guest

    arguments: tuple[str, ...] = DEFAULT_ARGUMENTS
    streams: Literal["json", "text"] = "json"

    async def compile(self, engine: Engine, wasm: bytes) -> Program:
        return await engine.compile(wasm)

    async def start(self, guest: Guest, config: bytes) -> None:
        """Instantiate. What a program does before it is asked, it does in `_start`."""
        guest.host.process.environment += (b"WARREN_CONFIG=" + config,)
        await guest.instantiate()

    async def handle_request(self, guest: Guest, request: bytes, max_answer_bytes: int) -> bytes:
        """Run the program; its answer, or one made of what it printed."""
        action, data = read_request(request)
        process = guest.host.process
        process.arguments = (*process.arguments[:1], *self._arguments(action))
        stdin = request if self.streams == "json" else as_bytes(data)
        command = process.command = Command(stdin, max_answer_bytes)
        code = await _exit_code(guest)
        process.flush()
        if code:
            return failed(process.last_error or f"the program exited with code {code}", max_answer_bytes)
        return self._answer(bytes(command.stdout), max_answer_bytes)

    def _arguments(self, action: str) -> tuple[bytes, ...]:
        if "\0" in action:
            raise GuestFault("rejected", "the action holds a zero byte, which no argument of a program can")
        length = len(action.encode())
        size = sum(len(each.encode()) + each.count(ACTION) * length for each in self.arguments)
        if size > MAX_ARGUMENTS_BYTES:
            raise GuestFault(
                "rejected", f"with this action, the arguments have more than {MAX_ARGUMENTS_BYTES:,} bytes"
            )
        return tuple(each.replace(ACTION, action).encode() for each in self.arguments)

    def _answer(self, stdout: bytes, max_answer_bytes: int) -> bytes:
        if self.streams == "text":
            return succeeded(as_result(stdout), max_answer_bytes)
        if is_answer(stdout):
            return stdout
        if not stdout.strip():
            return succeeded(b"null", max_answer_bytes)
        return succeeded(stdout.strip() if is_json(stdout) else as_result(stdout), max_answer_bytes)

    async def check_health(self, guest: Guest) -> None:
        """A program that can be instantiated is healthy: to run it would be to run a request."""

    async def shutdown(self, guest: Guest) -> None:
        """A program has nothing to shut down: each of its runs ends."""


async def _exit_code(guest: Guest) -> int:
    try:
        await guest.call(b"_start", arity=0, results=0)
    except GuestExit as end:
        return end.code
    return 0


def check_wasi(info: ModuleInfo, runtime: Runtime) -> WasiAbi:
    """How `info` is run as a command. Raises `ModuleRefused` with all that is wrong."""
    problems = [*wrong_exports(info, _REQUIRED, {}), *wrong_imports(info.imports, WASI_IMPORTS)]
    if any(item.module == IMPORT_MODULE for item in info.imports):
        problems.append("what is to call Warren exports 'handle_request': build it as a reactor (-mexec-model=reactor)")
    if problems:
        raise ModuleRefused("; ".join(problems))
    return WasiAbi(DEFAULT_ARGUMENTS if runtime.args is None else runtime.args, runtime.streams)
