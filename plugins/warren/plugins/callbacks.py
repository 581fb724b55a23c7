"""How wasmtime calls a function that a guest imports: two kinds of callback, made from plain Python functions.

They run on wasmtime's stack, inside a poll. An exception that left one of them would be lost or abort the process, so
each catches everything, leaves the fault on its guest, and returns: one that answers at once does so with a trap, one
that may suspend its guest with a continuation that never becomes ready, so that the guest is dropped where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import bindings
from .bindings import (
    NO_FINALIZER,
    AnsweringCallback,
    AnsweringComponentCallback,
    Continuation,
    SuspendingCallback,
    SuspendingComponentCallback,
)
from .errors import GuestFault
from .guest import Guest, Suspension, guests

#: Fuel for a call besides what its bytes cost.
HOST_CALL_FUEL: Final = 1_000

#: What a call takes of a slice besides its fuel: it takes the host some 20 µs, as long as this much guest code, and the
#: event loop waits for the slice's end.
HOST_CALL_SLICE_FUEL: Final = 20_000


def answering(call: Callable[[Guest, Any, Any], None]) -> Any:
    """A callback for an import that answers at once. `call` is given the guest, the arguments and the results."""

    def callback(_environment: Any, caller: Any, arguments: Any, _count: int, results: Any, _results: int) -> int:
        answered = _answer(call, _calling, caller, (arguments, results))
        return 0 if answered else int(bindings.trap_new(b"host", 4))

    return AnsweringCallback(callback)


def suspending(begin: Callable[[Guest, Any, Any], Suspension | None]) -> Any:
    """A callback for an import that may suspend its guest: in what `begin` gives, or not at all if that is None.

    `begin` is given the guest, the arguments and the one result.
    """

    def callback(_environment: Any, caller: Any, arguments: Any, _count: int, results: Any, *rest: Any) -> None:
        _begin(begin, _calling, caller, rest[-1][0], (arguments, results[0]))

    return SuspendingCallback(callback)


def answering_component(call: Callable[[Guest, Any, Any], None]) -> Any:
    """`answering`, for an import of a component."""

    def callback(
        _environment: Any, context: Any, _type: Any, arguments: Any, _count: int, results: Any, _results: int
    ) -> int:
        answered = _answer(call, _calling_from, context, (arguments, results))
        return 0 if answered else int(bindings.error_new(b"host"))

    return AnsweringComponentCallback(callback)


def suspending_component(begin: Callable[[Guest, Any, Any], Suspension | None]) -> Any:
    """`suspending`, for an import of a component."""

    def callback(
        _environment: Any, context: Any, _type: Any, arguments: Any, _count: int, results: Any, *rest: Any
    ) -> None:
        _begin(begin, _calling_from, context, rest[-1][0], (arguments, results[0]))

    return SuspendingComponentCallback(callback)


def _answer(
    call: Callable[[Guest, Any, Any], None], calling: Callable[[Any], Guest], caller: Any, given: tuple[Any, Any]
) -> bool:
    """Whether it answered; else the guest has the fault."""
    guest = None
    try:
        guest = calling(caller)
        call(guest, *given)
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)
        return False
    return True


def _begin(
    begin: Callable[[Guest, Any, Any], Suspension | None],
    calling: Callable[[Any], Guest],
    caller: Any,
    continuation: Any,
    given: tuple[Any, Any],
) -> None:
    guest = None
    continuation.finalizer = NO_FINALIZER
    continuation.callback = _NEVER
    continuation.env = None
    try:
        guest = calling(caller)
        _check_not_suspended(guest)
        guest.host_call = begin(guest, *given)
        continuation.env = guest.number
        continuation.callback = _READY if guest.host_call is None else _STEP
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)


def _calling(caller: Any) -> Guest:
    address = bindings.address(caller)
    guest = guests[bindings.context_data(bindings.caller_context(address))]
    guest.enter_host_call(address)
    guest.charge(HOST_CALL_FUEL, slice_fuel=HOST_CALL_SLICE_FUEL)
    return guest


def _calling_from(context: Any) -> Guest:
    guest = guests[bindings.context_data(bindings.address(context))]
    guest.charge(HOST_CALL_FUEL, slice_fuel=HOST_CALL_SLICE_FUEL)
    return guest


def _check_not_suspended(guest: Guest) -> None:
    if guest.host_call is not None:
        raise GuestFault("trap", "the guest made a host call from within its `allocate`")


def _step(number: int) -> bool:
    guest = None
    try:
        guest = guests[number]
        return guest.host_call is not None and guest.fault is None and guest.host_call.step()
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)
        return False


def _blame(guest: Guest | None, error: BaseException) -> None:
    if guest is not None and guest.fault is None:
        guest.fault = error if isinstance(error, GuestFault) else _host_fault(error)


def _host_fault(error: BaseException) -> GuestFault:
    fault = GuestFault("unavailable", f"the host failed in the middle of a run: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


_STEP: Final = Continuation(_step)
_NEVER: Final = Continuation(lambda _number: False)
_READY: Final = Continuation(lambda _number: True)
