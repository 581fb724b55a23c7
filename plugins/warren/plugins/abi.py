"""The seam between the sandbox and its guests: what a guest ABI is, whatever a guest of it is asked by.

To the sandbox all guests are alike: a request's bytes in, an answer's bytes out, and what it did in between recorded in
its session. How a request gets into a guest and the answer out is known to the ABI alone; there is one object of it for
a loaded program, made by the check of the module, and it holds nothing of a run. Which ABI a module has is told by the
module (`checks`), not by its author.

An ABI adds nothing to a run of another: the sandbox calls it where it called functions before there were several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from warren.manifests import Abi as AbiName

if TYPE_CHECKING:
    from .engine import Engine


class AnyGuest(Protocol):
    """What the sandbox wants of a guest itself: to know what it used, at any time, and to end it."""

    @property
    def fuel_used(self) -> int: ...

    @property
    def memory_bytes(self) -> int:
        """The most it had, and its host held for it, within the limit that it was made with."""
        ...

    def close(self) -> None:
        """Called once, on every path; nothing else is called after it."""
        ...


GuestT_contra = TypeVar("GuestT_contra", bound=AnyGuest, contravariant=True)


class Abi(Protocol[GuestT_contra]):
    """How guests of one kind are made, started, asked, checked and shut down. Any number of runs share it at once.

    The four that run a guest are awaited one after the other: `start`, and then one of the others. Each ends the run by
    raising `GuestFault`, and raises nothing else. Each may be cancelled, wherever it waits; `close` follows.
    """

    name: ClassVar[AbiName]

    #: Makes a guest of a program and a session, with `fuel`, `memory_bytes` and `timeout_s`; see `Guest`.
    guest_class: ClassVar[Any]

    async def compile(self, engine: Engine, wasm: bytes) -> Any:
        """The program that guests are made of. Raises `ModuleRefused` or `CompilationFailed`; see `Engine`."""
        ...

    async def start(self, guest: GuestT_contra, config: bytes) -> None:
        """Instantiate, and initialise with `config`, the JSON of `plugin_config`, as far as the guest wants it."""
        ...

    async def handle_request(self, guest: GuestT_contra, request: bytes, max_answer_bytes: int) -> bytes:
        """One request to its answer, which is at most so long and not yet looked into; see `read_answer`.

        The request is what its sender wrote: it need not be JSON, nor be what a request has to be.
        """
        ...

    async def check_health(self, guest: GuestT_contra) -> None:
        """Raises `GuestFault` when the guest says that it is not healthy."""
        ...

    async def shutdown(self, guest: GuestT_contra) -> None:
        """Raises `GuestFault` when the guest says that it failed."""
        ...


#: An ABI, its guests being its own affair.
AnyAbi = Abi[Any]
