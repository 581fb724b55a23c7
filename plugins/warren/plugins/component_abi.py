"""The guest ABI `component`: components against the WIT world `warren:plugin`, of `plugins/sdk/wit/plugin.wit`.

The request is a record of its action and its data, which is JSON; so is the result. `lifecycle` is for those that
export it. A component may import what a language's runtime does of WASI 0.2; `component_imports` says what that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from warren.manifests import Abi as AbiName

from .answers import answer_too_large
from .component_binary import ComponentInfo
from .component_guest import ComponentGuest, ComponentProgram
from .component_imports import HOST, WASI
from .component_values import record, text
from .errors import GuestFault, ModuleRefused
from .host import as_json
from .module import shortened, shown
from .plain_values import failed, is_json, read_request, succeeded

if TYPE_CHECKING:
    from .engine import Engine

HANDLER: Final = "warren:plugin/handler@1.0.0"
LIFECYCLE: Final = "warren:plugin/lifecycle@1.0.0"

#: What is called, with its type.
EXPORT_TYPES: Final = {
    HANDLER: {
        "handle-request": "func(request: record{action: string, data: string}) -> result<string, string>",
    },
    LIFECYCLE: {
        "initialize": "func(config: string) -> result<_, string>",
        "health-check": "func() -> result<_, string>",
        "shutdown": "func() -> result<_, string>",
    },
}


@dataclass(frozen=True, slots=True)
class ComponentAbi:
    """What of the world a component has; an `Abi`."""

    name: ClassVar[AbiName] = "component"
    guest_class: ClassVar[type[ComponentGuest]] = ComponentGuest

    info: ComponentInfo

    @property
    def has_lifecycle(self) -> bool:
        """Whether it is to be initialised, and asked for its health."""
        return LIFECYCLE in self.info.exports

    async def compile(self, engine: Engine, wasm: bytes) -> ComponentProgram:
        return await engine.compile_component(wasm, self.info, EXPORT_TYPES)

    async def start(self, guest: ComponentGuest, config: bytes) -> None:
        """Instantiate, and initialise where it has a lifecycle."""
        await guest.instantiate()
        if self.has_lifecycle:
            is_ok, reason = await guest.ask(LIFECYCLE, "initialize", text(config))
            _check("initialize", reason, is_ok=is_ok)

    async def handle_request(self, guest: ComponentGuest, request: bytes, max_answer_bytes: int) -> bytes:
        """One request to its answer."""
        action, data = read_request(request)
        asked = record(action=text(action.encode()), data=text(as_json(data)))
        is_ok, told = await guest.ask(HANDLER, "handle-request", asked)
        if len(told) > max_answer_bytes:
            raise answer_too_large(f"{len(told):,}", max_answer_bytes)
        if not is_ok:
            return failed(told.decode(), max_answer_bytes)
        if not is_json(told):
            raise GuestFault("trap", f"the guest's result is not JSON: {shown(told.decode())}")
        return succeeded(told, max_answer_bytes)

    async def check_health(self, guest: ComponentGuest) -> None:
        """Raises `GuestFault` when the guest says that it is not healthy."""
        if self.has_lifecycle:
            is_ok, reason = await guest.ask(LIFECYCLE, "health-check")
            _check("health-check", reason, is_ok=is_ok)

    async def shutdown(self, guest: ComponentGuest) -> None:
        """Raises `GuestFault` when the guest says that it failed."""
        if self.has_lifecycle:
            is_ok, reason = await guest.ask(LIFECYCLE, "shutdown")
            _check("shutdown", reason, is_ok=is_ok)


def _check(function: str, reason: bytes, *, is_ok: bool) -> None:
    if not is_ok:
        raise GuestFault("trap", f"the guest's `{function}` failed: {shown(reason.decode())}")


def check_component(info: ComponentInfo) -> ComponentAbi:
    """How `info` fits the world, as far as names tell. Raises `ModuleRefused` with all that is wrong."""
    problems = list(_problems(info))
    if problems:
        raise ModuleRefused("; ".join(problems))
    return ComponentAbi(info)


def _problems(info: ComponentInfo) -> Iterator[str]:
    if HANDLER not in info.exports:
        others = [name for name in info.exports if name.startswith("warren:plugin/")]
        there_are = shortened([shown(name) for name in others or info.exports]) or "nothing"
        yield f"it does not export {HANDLER!r}, but {there_are}"
    foreign = [name for name in info.imports if name != HOST and not name.startswith(WASI)]
    if foreign:
        names = shortened([shown(name) for name in foreign])
        yield f"it imports what is not provided here: {names}; there are {HOST!r}, and WASI 0.2"
