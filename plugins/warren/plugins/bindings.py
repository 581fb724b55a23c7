"""The raw wasmtime bindings: the one file that reaches past wasmtime-py's public API.

(`instance_pool` does, too: a child process runs it by its path, so it can import nothing of ours.)

Checked against wasmtime-py 50.0.1; another version is refused at import, because what is used here is not covered by
any promise of stability: the struct layouts of `wasmtime._bindings`, `_from_ptr`, and the C functions below. What the
public API lacks is asynchronous calls (a guest polled slice by slice, suspended in a host function) and cheap ones.

Every call holds the GIL, those too that run a guest: a slice of fuel lasts no longer than the interval in which threads
of Python take turns anyway, and to let go of the GIL is to wait for it again (a guest call of 0.12 ms beside a busy
thread: 5.4 ms). Pointers travel as plain integers: no ctypes object is made per call.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_byte, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p, py_object
from dataclasses import dataclass
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as native
from wasmtime import _ffi
from wasmtime.component import ComponentInstanceType, EnumType, FuncType, RecordType, TupleType

from .backtrace import HIDDEN_MODULE, Frame

CHECKED_VERSIONS: Final = ("50.0.1",)

_installed = importlib.metadata.version("wasmtime")
if _installed not in CHECKED_VERSIONS:
    message = (
        f"wasmtime {_installed} is installed, but this Warren was checked against {', '.join(CHECKED_VERSIONS)} only; "
        f"install it with: pip install 'wasmtime=={CHECKED_VERSIONS[-1]}'"
    )
    raise ImportError(message)

_library = ctypes.PyDLL(str(_ffi.filename))

#: The type of a parameter of 64 bits that is no pointer: ctypes takes an integer for a pointer in half the time.
_WORD: Final = c_void_p


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function  # type: ignore[no-any-return]


future_poll = _function("wasmtime_call_future_poll", c_bool, c_void_p)
future_delete = _function("wasmtime_call_future_delete", None, c_void_p)
store_delete = _function("wasmtime_store_delete", None, c_void_p)
store_new = _function("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _function("wasmtime_store_context", c_void_p, c_void_p)
store_limiter = _function("wasmtime_store_limiter", None, c_void_p, *[_WORD] * 5)
context_data = _function("wasmtime_context_get_data", c_void_p, c_void_p)
set_fuel = _function("wasmtime_context_set_fuel", c_void_p, c_void_p, _WORD)
get_fuel = _function("wasmtime_context_get_fuel", c_void_p, c_void_p, c_void_p)
set_yield_interval = _function("wasmtime_context_fuel_async_yield_interval", c_void_p, c_void_p, _WORD)
instantiate_async = _function("wasmtime_instance_pre_instantiate_async", c_void_p, *[c_void_p] * 5)
call_async = _function(
    "wasmtime_func_call_async", c_void_p, c_void_p, c_void_p, c_void_p, _WORD, c_void_p, _WORD,
    c_void_p, c_void_p,
)  # fmt: skip
instance_export = _function("wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, _WORD, c_void_p)
linker_clone = _function("wasmtime_linker_clone", c_void_p, c_void_p)
linker_delete = _function("wasmtime_linker_delete", None, c_void_p)
linker_define = _function(
    "wasmtime_linker_define", c_void_p, c_void_p, c_void_p, c_char_p, _WORD, c_char_p, _WORD, c_void_p
)
linker_define_instance = _function(
    "wasmtime_linker_define_instance", c_void_p, c_void_p, c_void_p, c_char_p, _WORD, c_void_p
)
linker_instantiate_async = _function("wasmtime_linker_instantiate_async", c_void_p, *[c_void_p] * 6)
caller_context = _function("wasmtime_caller_context", c_void_p, c_void_p)
caller_export = _function("wasmtime_caller_export_get", c_bool, c_void_p, c_char_p, _WORD, c_void_p)
memory_data = _function("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = _function("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
global_get = _function("wasmtime_global_get", None, c_void_p, c_void_p, c_void_p)
trap_new = _function("wasmtime_trap_new", c_void_p, c_char_p, _WORD)
error_new = _function("wasmtime_error_new", c_void_p, c_char_p)
component_instantiate_async = _function("wasmtime_component_linker_instantiate_async", c_void_p, *[c_void_p] * 5)
component_call_async = _function(
    "wasmtime_component_func_call_async", c_void_p, c_void_p, c_void_p, c_void_p, _WORD, c_void_p, _WORD, c_void_p
)
component_function = _function("wasmtime_component_instance_get_func", c_bool, *[c_void_p] * 4)
component_value_new = _function("wasmtime_component_val_new", c_void_p, c_void_p)
component_value_delete = _function("wasmtime_component_val_delete", None, c_void_p)
component_record_new = _function("wasmtime_component_valrecord_new", None, c_void_p, _WORD, c_void_p)
component_list_new = _function("wasmtime_component_vallist_new", None, c_void_p, _WORD, c_void_p)
component_tuple_new = _function("wasmtime_component_valtuple_new", None, c_void_p, _WORD, c_void_p)
component_resource_new = _function("wasmtime_component_resource_host_new", c_void_p, c_bool, c_uint32, c_uint32)
component_resource_number = _function("wasmtime_component_resource_host_rep", c_uint32, c_void_p)
component_resource_type = _function("wasmtime_component_resource_host_type", c_uint32, c_void_p)
component_resource_delete = _function("wasmtime_component_resource_host_delete", None, c_void_p)
component_resource_given = _function("wasmtime_component_resource_host_to_any", c_void_p, *[c_void_p] * 3)
component_resource_taken = _function("wasmtime_component_resource_any_to_host", c_void_p, *[c_void_p] * 3)
bytes_new = _function("wasm_byte_vec_new", None, c_void_p, _WORD, c_char_p)
_error_trace = _function("wasmtime_error_wasm_trace", None, c_void_p, c_void_p)
_trap_code = _function("wasmtime_trap_code", c_bool, c_void_p, c_void_p)

#: `ctypes.string_at` and `memmove`, in half the time.
bytes_at: Final[Callable[[int, int], bytes]] = ctypes.PYFUNCTYPE(py_object, c_void_p, _WORD)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
copy_bytes: Final[Callable[[int, bytes, int], None]] = ctypes.PYFUNCTYPE(None, c_void_p, c_char_p, _WORD)(
    ctypes.cast(ctypes.memmove, c_void_p).value or 0
)

#: `wasmtime_val_t` is a kind and, eight bytes on, the bits of the value.
VALUE_BITS: Final = 8

#: Bytes of an i32, i64, f32, f64 and v128, in the order in which wasmtime numbers their kinds.
VALUE_BYTES: Final = (4, 8, 4, 8, 16)

#: `wasmtime_extern_t` is a kind and, eight bytes on, the item: a func, a memory or a global.
EXTERN_ITEM: Final = 8


def _value(name: str) -> tuple[tuple[str, Any], ...]:
    """A `wasmtime_val_t`, spelt out: `<name>_kind`, then `<name>` itself, as an integer of 64 bits."""
    rest_bytes = ctypes.sizeof(native.wasmtime_val_t) - 16
    return (f"{name}_kind", c_uint64), (name, c_uint64), (f"_{name}_rest", c_byte * rest_bytes)


class Slots(ctypes.Structure):
    """Everything wasmtime reads from or writes to during one run, in one allocation, of which every address is known.

    Values are spelt out as plain integers, which are five times as quick to reach as ctypes' nested structures. Their
    kinds stay zero where only the host writes: an i32.

    The `inner_` ones serve the call of the guest's `allocate` that the host makes in the middle of a host call, while
    the outer call is suspended in it.
    """

    argument: int
    argument_2: int
    result_kind: int
    result: int
    trap: int | None
    error: int | None
    inner_argument: int
    inner_result: int
    inner_trap: int | None
    inner_error: int | None
    fuel: int

    #: Where they lie, for wasmtime to be told: `at_memory` is the extern, which begins with its kind, and
    #: `at_memory_item` the memory in it.
    at_instance: int
    at_memory: int
    at_memory_item: int
    at_function: int
    at_function_item: int
    at_arguments: int
    at_result: int
    at_trap: int
    at_error: int
    at_inner_function: int
    at_inner_function_item: int
    at_inner_argument: int
    at_inner_result: int
    at_inner_trap: int
    at_inner_error: int
    at_fuel: int

    _fields_ = (
        ("instance", native.wasmtime_instance_t),
        ("memory", native.wasmtime_extern_t),
        ("function", native.wasmtime_extern_t),
        *_value("argument"),
        *_value("argument_2"),
        *_value("result"),
        ("trap", c_void_p),
        ("error", c_void_p),
        ("inner_function", native.wasmtime_extern_t),
        *_value("inner_argument"),
        *_value("inner_result"),
        ("inner_trap", c_void_p),
        ("inner_error", c_void_p),
        ("fuel", c_uint64),
    )

    def __init__(self) -> None:
        super().__init__()
        base = ctypes.addressof(self)
        for name, slot in _ADDRESSES:
            setattr(self, f"at_{name}", base + getattr(Slots, slot).offset)
        for name in ("memory", "function", "inner_function"):
            setattr(self, f"at_{name}_item", getattr(self, f"at_{name}") + EXTERN_ITEM)


#: What wasmtime is told the address of, and the slot that lies there: a value begins with its kind.
_ADDRESSES: Final = (
    *((name, name) for name in ("instance", "memory", "function", "trap", "error", "fuel")),
    *((name, name) for name in ("inner_function", "inner_trap", "inner_error")),
    ("arguments", "argument_kind"),
    ("result", "result_kind"),
    ("inner_argument", "inner_argument_kind"),
    ("inner_result", "inner_result_kind"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How wasmtime ended a call: `code` is the trap's, or None when it was no trap; `frames` innermost first."""

    code: wasmtime.TrapCode | None
    message: str
    frames: tuple[Frame, ...]


def take_trap(pointer: int) -> Failure:
    """Read and free a `wasm_trap_t`."""
    code = c_int()
    has_code = _trap_code(pointer, ctypes.addressof(code))
    trap = wasmtime.Trap._from_ptr(ctypes.cast(pointer, POINTER(native.wasm_trap_t)))
    frames = tuple(_frame(each) for each in trap.frames if each.module_name != HIDDEN_MODULE)
    # The message tells the frames too, and then, last, what happened.
    reason = trap.message.rpartition("wasm trap: ")[2].strip()
    return Failure(wasmtime.TrapCode(code.value) if has_code else None, reason, frames)


def take_component_error(pointer: int) -> Failure:
    """The same of a component, whose traps come as errors: it has frames, and no code."""
    error = wasmtime.WasmtimeError._from_ptr(ctypes.cast(pointer, POINTER(native.wasmtime_error_t)))
    trace = native.wasm_frame_vec_t()
    _error_trace(pointer, ctypes.addressof(trace))
    try:
        frames = tuple(_frame(wasmtime.Frame._from_ptr(trace.data[index], trace)) for index in range(trace.size))
    finally:
        native.wasm_frame_vec_delete(ctypes.byref(trace))
    # It tells the frames, with names that are the guest's; and then, last, what happened.
    reason = str(error).rpartition("Caused by:")[2].rpartition("wasm trap: ")[2]
    return Failure(None, " ".join(reason.split()), frames)


def _frame(frame: wasmtime.Frame) -> Frame:
    return Frame(frame.func_name, frame.func_index, frame.func_offset, frame.module_offset)


def take_error(pointer: int) -> Failure:
    """Read and free a `wasmtime_error_t`."""
    error = wasmtime.WasmtimeError._from_ptr(ctypes.cast(pointer, POINTER(native.wasmtime_error_t)))
    return Failure(None, str(error), ())


#: The kinds of callback that an import can be; see `callbacks`.
AnsweringCallback: Final = native.wasmtime_func_callback_t
SuspendingCallback: Final = native.wasmtime_func_async_callback_t
Continuation: Final = native.wasmtime_func_async_continuation_callback_t

#: The same of a component.
AnsweringComponentCallback: Final = native.wasmtime_component_func_callback_t
SuspendingComponentCallback: Final = native.wasmtime_component_func_async_callback_t

#: What goes into a component's functions and comes out, and the kinds that Warren knows.
ComponentValue: Final = native.wasmtime_component_val_t
ComponentField: Final = native.wasmtime_component_valrecord_entry_t
ComponentInstance: Final = native.wasmtime_component_instance_t
ComponentFunction: Final = native.wasmtime_component_func_t
U8: Final[int] = _ffi.WASMTIME_COMPONENT_U8.value
U32: Final[int] = _ffi.WASMTIME_COMPONENT_U32.value
U64: Final[int] = _ffi.WASMTIME_COMPONENT_U64.value
STRING: Final[int] = _ffi.WASMTIME_COMPONENT_STRING.value
LIST: Final[int] = _ffi.WASMTIME_COMPONENT_LIST.value
RECORD: Final[int] = _ffi.WASMTIME_COMPONENT_RECORD.value
TUPLE: Final[int] = _ffi.WASMTIME_COMPONENT_TUPLE.value
OPTION: Final[int] = _ffi.WASMTIME_COMPONENT_OPTION.value
RESOURCE: Final[int] = _ffi.WASMTIME_COMPONENT_RESOURCE.value
RESULT: Final[int] = _ffi.WASMTIME_COMPONENT_RESULT.value

#: The null pointer that says that there is nothing to finalize.
NO_FINALIZER: Final = ctypes.CFUNCTYPE(None, c_void_p)()

#: Kept alive for ever: wasmtime holds their addresses.
_callbacks: list[Any] = []


def define_function(
    linker: wasmtime.Linker, module: str, name: str, signature: wasmtime.FuncType, callback: Any, *, suspends: bool
) -> None:
    """Define an import. `callback` is a ctypes callback of the matching kind; it must never raise."""
    define = native.wasmtime_linker_define_async_func if suspends else native.wasmtime_linker_define_func
    _callbacks.append(callback)
    module_name, function_name = module.encode(), name.encode()
    error = define(
        linker.ptr(),
        ctypes.create_string_buffer(module_name),
        len(module_name),
        ctypes.create_string_buffer(function_name),
        len(function_name),
        signature.ptr(),
        callback,
        None,
        NO_FINALIZER,
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


def define_component_function(instance: Any, name: str, callback: Any, *, suspends: bool) -> None:
    """Define a function of an imported instance, a `LinkerInstance`; `callback` as in `define_function`.

    Whatever type a component imports it with, wasmtime takes: the types have to have been checked. The callback has to
    live for ever.
    """
    define = (
        native.wasmtime_component_linker_instance_add_func_async
        if suspends
        else native.wasmtime_component_linker_instance_add_func
    )
    encoded = name.encode()
    error = define(instance.ptr(), ctypes.create_string_buffer(encoded), len(encoded), callback, None, NO_FINALIZER)
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


def parts_of_type(each: Any, engine: wasmtime.Engine) -> int:
    """How many fields, names, parameters or exports a type of the component model has; 1 if it is of another kind.

    To list them takes wasmtime's Python the square of that: 3 s for 10,000.
    """
    match each:
        case ComponentInstanceType():
            count = native.wasmtime_component_instance_type_export_count(each.ptr(), engine.ptr())
        case FuncType():
            count = native.wasmtime_component_func_type_param_count(each.ptr())
        case RecordType():
            count = native.wasmtime_component_record_type_field_count(each.ptr())
        case TupleType():
            count = native.wasmtime_component_tuple_type_types_count(each.ptr())
        case EnumType():
            count = native.wasmtime_component_enum_type_names_count(each.ptr())
        case _:
            count = 1
    return int(count)


def address(pointer: Any) -> int:
    """The address that a ctypes pointer holds."""
    return ctypes.cast(pointer, c_void_p).value or 0
