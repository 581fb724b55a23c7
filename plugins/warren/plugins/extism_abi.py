"""The guest ABI `extism`: plugins built with Extism's PDKs, run unchanged.

The action is the exported function that is called, without parameters; a result of 0, or none, is success. Its input is
the data of the request, and its output the result: JSON if it is JSON, else text. `plain_values` has the rest of it. A
failure is explained by what `error_set` was given. `config_get` gives the plugin's settings, those that are no text as
JSON. Variables live for one run, as all of a guest does, unless the manifest has them kept in the plugin's storage:
then they are there at its beginning, and what a run that ends well has changed is written back. WASI is there for those
that import it, and is begun with `_initialize`, `__wasm_call_ctors` or `hs_init`, whichever there is, as Extism does.

Of `extism:host/user`, `warren_host_call` takes a block with `{"function": ..., "arguments": ...}`, and gives one with
what `warren_v1.host_call` would. Any other import there is the host function of its name; its block is the arguments,
in JSON. They all are `(i64) -> i64`.

Plugins of before Extism 1.0 import the same from `env`, where Extism's own begin with `extism_` (see `Dialect`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic_core import from_json, to_json

from warren.manifests import Abi as AbiName

from .answers import answer_too_large
from .errors import GuestExit, GuestFault, ModuleRefused
from .extism_guest import ExtismGuest, ExtismProgram
from .extism_kernel import (
    BLOCK,
    BLOCK_HEADER,
    ENV_SIGNATURES,
    EXTISM,
    EXTISM_0,
    OUTPUT,
    USER_SIGNATURE,
    Dialect,
    dialect_of,
)
from .module import FuncType, ModuleInfo, shortened, shown, wrong_exports, wrong_imports
from .plain_values import as_bytes, as_result, failed, is_json, read_request, succeeded
from .wasi_abi import WASI_IMPORTS

if TYPE_CHECKING:
    from .engine import Engine

#: Each is a function of the kernel, which is compiled in this process.
MAX_USER_FUNCTIONS: Final = 100

#: Where variables are kept in the plugin's storage: as pairs of name and value, each as `plain_values` has it.
VARIABLES_KEY: Final = "extism.variables"

#: What an action's function may be.
_ACTION_TYPES: Final = (FuncType((), ("i32",)), FuncType())

#: Called before everything else, the first of them that there is.
_CONSTRUCTORS: Final = ("__wasm_call_ctors", "_initialize")
_HASKELL: Final = "hs_init"

_OPTIONAL: Final[Mapping[str, tuple[FuncType, ...]]] = {
    **dict.fromkeys(_CONSTRUCTORS, (FuncType(),)),
    _HASKELL: (FuncType(("i32", "i32")),),
}


@dataclass(frozen=True, slots=True)
class ExtismAbi:
    """What of the ABI a module has; an `Abi`."""

    name: ClassVar[AbiName] = "extism"
    guest_class: ClassVar[type[ExtismGuest]] = ExtismGuest

    #: By their names, the number of results of each function that can be called.
    actions: Mapping[str, int]
    constructor: str | None
    is_haskell: bool
    user_functions: tuple[str, ...] = ()
    dialect: Dialect = EXTISM
    #: Variables are kept from one run to the next.
    keeps_variables: bool = False

    async def compile(self, engine: Engine, wasm: bytes) -> ExtismProgram:
        return await engine.compile_for_extism(wasm, self.user_functions, self.dialect)

    async def start(self, guest: ExtismGuest, config: bytes) -> None:
        """Instantiate, with a kernel, and let the plugin's language begin."""
        guest.config = config
        await guest.instantiate()
        if self.constructor is not None:
            await guest.call(self.constructor.encode(), arity=0, results=0)
        if self.is_haskell:
            await guest.call(_HASKELL.encode(), arity=2, results=0)

    async def handle_request(self, guest: ExtismGuest, request: bytes, max_answer_bytes: int) -> bytes:
        """Call the action's function; an answer made of its output."""
        action, data = read_request(request)
        results = self.actions.get(action)
        if results is None:
            there_are = shortened([shown(name) for name in self.actions])
            raise GuestFault("rejected", f"unknown action {shown(action)}; the plugin exports: {there_are}")
        guest.data = as_bytes(data)
        kept = await _read_variables(guest) if self.keeps_variables else None
        code = await _code(guest, action, results)
        output_at, output_length, error = OUTPUT.unpack(guest.read_kernel(0, OUTPUT.size))
        if code:
            reason = _block(guest, error, max_answer_bytes).decode(errors="replace")
            return failed(reason or f"{action} returned {code}", max_answer_bytes)
        if output_length > max_answer_bytes:
            raise answer_too_large(f"{output_length:,}", max_answer_bytes)
        output = guest.read_kernel(output_at, output_length)
        result = (output if is_json(output) else as_result(output)) if output else b"null"
        answer = succeeded(result, max_answer_bytes)
        if kept is not None and guest.variables != kept:
            await _write_variables(guest)
        return answer

    async def check_health(self, guest: ExtismGuest) -> None:
        """A plugin that has begun is healthy: Extism has nothing to ask it by."""

    async def shutdown(self, guest: ExtismGuest) -> None:
        """Extism has nothing to tell it by, either."""


async def _code(guest: ExtismGuest, function: str, results: int) -> int:
    try:
        code = await guest.call(function.encode(), arity=0, results=results)
    except GuestExit as end:
        return end.code
    code = code & 0xFFFF_FFFF if results else 0
    return code - (1 << 32) if code >> 31 else code


async def _read_variables(guest: ExtismGuest) -> dict[bytes, bytes]:
    """Set what is kept, and tell it."""
    entry = _told(await guest.answer_of(b"storage_get", to_json({"key": VARIABLES_KEY})))
    if entry is None:
        return {}
    try:
        variables = {as_bytes(name): as_bytes(value) for name, value in entry["value"]}
    except (GuestFault, TypeError, ValueError):
        raise GuestFault("trap", f"what the plugin has stored as {VARIABLES_KEY!r} are no variables") from None
    for name, value in variables.items():
        guest.set_variable(name, value)
    return variables


async def _write_variables(guest: ExtismGuest) -> None:
    pairs = b",".join(b"[%b,%b]" % (as_result(name), as_result(value)) for name, value in guest.variables.items())
    asked = b'{"key":%b,"value":[%b]}' % (to_json(VARIABLES_KEY), pairs)
    _told(await guest.answer_of(b"storage_set", asked))


def _told(answer: bytes) -> Any:
    """What the storage said. Raises `GuestFault` when it would not."""
    told = from_json(answer)
    if "error" in told:
        raise GuestFault("trap", f"the guest's variables cannot be kept: {told['error']['message']}")
    return told["ok"]


def _block(guest: ExtismGuest, handle: int, max_bytes: int) -> bytes:
    """What a handle stands for, of at most so many bytes; nothing if it is none."""
    if handle < BLOCK_HEADER.size or handle > guest.kernel_bytes:
        return b""
    magic, _room, used, _next = BLOCK_HEADER.unpack(guest.read_kernel(handle - BLOCK_HEADER.size, BLOCK_HEADER.size))
    return guest.read_kernel(handle, min(used, max_bytes, guest.kernel_bytes - handle)) if magic == BLOCK else b""


def check_extism(info: ModuleInfo, *, keeps_variables: bool = False) -> ExtismAbi:
    """How `info` fits the ABI. Raises `ModuleRefused` with all that is wrong."""
    dialects = {dialect_of(item.module, item.name) for item in info.imports}
    dialect = EXTISM if EXTISM in dialects else EXTISM_0
    own = {(dialect.env, f"{dialect.prefix}{name}"): signature for name, signature in ENV_SIGNATURES.items()}
    imported = dict.fromkeys((item.module, item.name) for item in info.imports)
    users = tuple(name for module, name in imported if module == dialect.user and (module, name) not in own)
    allowed = {**{(dialect.user, name): USER_SIGNATURE for name in users}, **own, **WASI_IMPORTS}
    if len(users) > MAX_USER_FUNCTIONS:
        reason = f"it imports {len(users)} functions of {dialect.user!r}; at most {MAX_USER_FUNCTIONS} are provided"
        raise ModuleRefused(reason)
    problems = [*wrong_exports(info, {}, _OPTIONAL), *wrong_imports(info.imports, allowed)]
    if problems:
        raise ModuleRefused("; ".join(problems))
    exports = info.exports
    actions = {
        name: len(export.signature.results)
        for name, export in exports.items()
        if export.signature in _ACTION_TYPES and name not in _OPTIONAL
    }
    if not actions:
        raise ModuleRefused("it exports no function that can be an action: (func (result i32)), or (func)")
    constructor = next((name for name in _CONSTRUCTORS if name in exports), None)
    return ExtismAbi(actions, constructor, _HASKELL in exports, users, dialect, keeps_variables)
