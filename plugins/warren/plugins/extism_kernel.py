"""Extism's kernel, the memory that host and plugin share, as a WebAssembly module: an instance for each run.

A plugin built with an Extism PDK reads its input and writes its output eight bytes at a time, each a call of an import.
In Python each would cost 2 µs, 130,000 of them a MiB; here they are functions of another instance in the guest's store,
which wasmtime calls as it calls the guest's own, and meters and bounds alike. Whatever a plugin gives for a handle, it
can reach this memory and no other. Only what needs the host leaves it, as pointer and length (`extism_calls`).

The module is Warren's own and trusted; Extism's has the same functions and needs Rust to build. Its memory begins with
what the host reads when the plugin has returned (`OUTPUT`). Blocks follow, each behind a header of 16 bytes:

    magic    i32, BLOCK while it is in use, 0 once it is free
    room     i32, bytes it can hold, a multiple of 8
    used     i32, bytes it was asked for
    next     i32, of a free block: the next free one

The plugin can write over all that, as over its own allocator's, and only fool itself: the host checks each range
against the size of the memory, and a list that has become a ring costs fuel. Where Extism's kernel gives 0 for a place
outside the memory, this one traps; past the end of the input both give 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import Final

import wasmtime

from .backtrace import HIDDEN_MODULE
from .module import FuncType


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names by which a plugin imports: Extism's module, what its functions begin with, and the host's module."""

    env: str
    prefix: str
    user: str


#: Extism's, and that of its PDKs before 1.0.
EXTISM: Final = Dialect("extism:host/env", "", "extism:host/user")
EXTISM_0: Final = Dialect("env", "extism_", "env")


def dialect_of(module: str, name: str) -> Dialect | None:
    """The one in which something is imported by that name, where it can be told."""
    if module in (EXTISM.env, EXTISM.user):
        return EXTISM
    return EXTISM_0 if module == EXTISM_0.env and name.startswith(EXTISM_0.prefix) else None


#: The module of what the kernel imports.
HOST: Final = "warren:extism"

#: The name of its memory, which is not that of a guest's.
KERNEL_MEMORY: Final = b"kernel"

#: What it has to begin with.
KERNEL_PAGES: Final = 1

#: What lies at its beginning: where the output is and its length, and the handle of the error.
OUTPUT: Final = Struct("<QQQ")

#: A block's header: magic, room, used, next.
BLOCK_HEADER: Final = Struct("<IIII")
BLOCK: Final = 0x6B636F6C

_FIRST_BLOCK: Final = 64

_I64_TO_I64: Final = FuncType(("i64",), ("i64",))
_NONE_TO_I64: Final = FuncType((), ("i64",))
_I64_TO_NONE: Final = FuncType(("i64",))
_NONE_TO_I32: Final = FuncType((), ("i32",))

#: What a plugin can import of Extism; every one is an export of the kernel.
ENV_SIGNATURES: Final[Mapping[str, FuncType]] = {
    "alloc": _I64_TO_I64,
    "free": _I64_TO_NONE,
    "length": _I64_TO_I64,
    "length_unsafe": _I64_TO_I64,
    "load_u8": FuncType(("i64",), ("i32",)),
    "load_u64": _I64_TO_I64,
    "store_u8": FuncType(("i64", "i32")),
    "store_u64": FuncType(("i64", "i64")),
    "input_offset": _NONE_TO_I64,
    "input_length": _NONE_TO_I64,
    "input_load_u8": FuncType(("i64",), ("i32",)),
    "input_load_u64": _I64_TO_I64,
    "output_set": FuncType(("i64", "i64")),
    "output_offset": _NONE_TO_I64,
    "output_length": _NONE_TO_I64,
    "error_set": _I64_TO_NONE,
    "error_get": _NONE_TO_I64,
    "config_get": _I64_TO_I64,
    "var_get": _I64_TO_I64,
    "var_set": FuncType(("i64", "i64")),
    "http_request": FuncType(("i64", "i64"), ("i64",)),
    "http_status_code": _NONE_TO_I32,
    "http_headers": _NONE_TO_I64,
    "log_trace": _I64_TO_NONE,
    "log_debug": _I64_TO_NONE,
    "log_info": _I64_TO_NONE,
    "log_warn": _I64_TO_NONE,
    "log_error": _I64_TO_NONE,
    "get_log_level": _NONE_TO_I32,
}

#: Of a function of the host's: a block in, a block out.
USER_SIGNATURE: Final = _I64_TO_I64

#: What the kernel imports. `take` has the host write what it last answered, whose length it gave, or -1 for nothing.
HOST_SIGNATURES: Final[Mapping[str, FuncType]] = {
    "grow": FuncType(("i32",)),
    "no_block": _I64_TO_NONE,
    "take": FuncType(("i32",)),
    "input": _NONE_TO_I64,
    "config": FuncType(("i32", "i32"), ("i64",)),
    "var_get": FuncType(("i32", "i32"), ("i64",)),
    "var_set": FuncType(("i32", "i32", "i32", "i32")),
    "var_delete": FuncType(("i32", "i32")),
    "http": FuncType(("i32", "i32", "i32", "i32"), ("i64",)),
    "http_status": _NONE_TO_I32,
    "http_headers": _NONE_TO_I64,
    "log": FuncType(("i32", "i32", "i32")),
    "user": FuncType(("i32", "i32", "i32"), ("i64",)),
}

_MEMORY: Final = f"""
  (memory $memory (export "{KERNEL_MEMORY.decode()}") {KERNEL_PAGES})
  (global $top (mut i32) (i32.const {_FIRST_BLOCK}))
  (global $free (mut i32) (i32.const 0))
  (global $has_input (mut i32) (i32.const 0))
  (global $input_at (mut i64) (i64.const 0))
  (global $input_length (mut i64) (i64.const 0))

  ;; Outside of 32 bits, an address that nothing can be loaded from.
  (func $address (param $handle i64) (result i32)
    (select (i32.wrap_i64 (local.get $handle)) (i32.const -1) (i64.le_u (local.get $handle) (i64.const 0xffffffff))))

  (func $is_block (param $handle i64) (result i32)
    (if (result i32) (i32.and
        (i64.ge_u (local.get $handle) (i64.const {_FIRST_BLOCK + 16}))
        (i64.lt_u (local.get $handle) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))
      (then (i32.eq (i32.load (i32.sub (i32.wrap_i64 (local.get $handle)) (i32.const 16))) (i32.const {BLOCK})))
      (else (i32.const 0))))

  (func $length (export "length") (export "length_unsafe") (param $handle i64) (result i64)
    (if (result i64) (call $is_block (local.get $handle))
      (then (i64.load32_u (i32.sub (i32.wrap_i64 (local.get $handle)) (i32.const 8))))
      (else (i64.const 0))))

  ;; Of a handle that has to be a block: where its bytes are, and how many they are.
  (func $at (param $handle i64) (result i32)
    (if (i32.eqz (call $is_block (local.get $handle))) (then (call $host_no_block (local.get $handle))))
    (i32.wrap_i64 (local.get $handle)))
  (func $size (param $handle i64) (result i32) (i32.wrap_i64 (call $length (local.get $handle))))

  (func $begin_block (param $at i32) (param $room i32) (param $used i32) (result i64)
    (i32.store (i32.sub (local.get $at) (i32.const 16)) (i32.const {BLOCK}))
    (i32.store (i32.sub (local.get $at) (i32.const 12)) (local.get $room))
    (i32.store (i32.sub (local.get $at) (i32.const 8)) (local.get $used))
    (i32.store (i32.sub (local.get $at) (i32.const 4)) (i32.const 0))
    (i64.extend_i32_u (local.get $at)))

  (func $alloc (export "alloc") (param $length i64) (result i64)
    (local $room i32) (local $at i32) (local $before i32) (local $left i32) (local $end i64)
    (if (i32.or (i64.eqz (local.get $length)) (i64.gt_u (local.get $length) (i64.const 0xfff00000)))
      (then (if (i64.ne (local.get $length) (i64.const 0)) (then (call $host_grow (i32.const -1))))
            (return (i64.const 0))))
    (local.set $room (i32.and (i32.add (i32.wrap_i64 (local.get $length)) (i32.const 7)) (i32.const -8)))
    (local.set $at (global.get $free))
    (block $none (loop $next
      (br_if $none (i32.eqz (local.get $at)))
      (local.set $left (i32.load (i32.sub (local.get $at) (i32.const 12))))
      (if (i32.ge_u (local.get $left) (local.get $room)) (then
        (local.set $left (i32.sub (local.get $left) (local.get $room)))
        (if (i32.ge_u (local.get $left) (i32.const 128)) (then
          ;; The end of it is enough.
          (local.set $left (i32.sub (local.get $left) (i32.const 16)))
          (i32.store (i32.sub (local.get $at) (i32.const 12)) (local.get $left))
          (return (call $begin_block
            (i32.add (i32.add (local.get $at) (local.get $left)) (i32.const 16))
            (local.get $room) (i32.wrap_i64 (local.get $length))))))
        (if (local.get $before)
          (then (i32.store (i32.sub (local.get $before) (i32.const 4))
                           (i32.load (i32.sub (local.get $at) (i32.const 4)))))
          (else (global.set $free (i32.load (i32.sub (local.get $at) (i32.const 4))))))
        (return (call $begin_block (local.get $at)
          (i32.load (i32.sub (local.get $at) (i32.const 12))) (i32.wrap_i64 (local.get $length))))))
      (local.set $before (local.get $at))
      (local.set $at (i32.load (i32.sub (local.get $at) (i32.const 4))))
      (br $next)))
    (local.set $at (i32.add (global.get $top) (i32.const 16)))
    (local.set $end (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $room))))
    (local.set $end (i64.sub (local.get $end) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))
    (if (i64.gt_s (local.get $end) (i64.const 0)) (then
      (local.set $left (i32.wrap_i64 (i64.shr_u (i64.add (local.get $end) (i64.const 65535)) (i64.const 16))))
      (call $host_grow (local.get $left))
      (if (i32.eq (memory.grow (local.get $left)) (i32.const -1)) (then (call $host_grow (i32.const -1))))))
    (global.set $top (i32.add (local.get $at) (local.get $room)))
    (call $begin_block (local.get $at) (local.get $room) (i32.wrap_i64 (local.get $length))))

  (func (export "free") (param $handle i64) (local $at i32)
    (if (call $is_block (local.get $handle)) (then
      (local.set $at (i32.wrap_i64 (local.get $handle)))
      (i32.store (i32.sub (local.get $at) (i32.const 16)) (i32.const 0))
      (i32.store (i32.sub (local.get $at) (i32.const 4)) (global.get $free))
      (global.set $free (local.get $at))
      (if (i64.eq (local.get $handle) (global.get $input_at)) (then (global.set $input_length (i64.const 0)))))))

  (func (export "load_u8") (param i64) (result i32) (i32.load8_u (call $address (local.get 0))))
  (func (export "load_u64") (param i64) (result i64) (i64.load (call $address (local.get 0))))
  (func (export "store_u8") (param i64 i32) (i32.store8 (call $address (local.get 0)) (local.get 1)))
  (func (export "store_u64") (param i64 i64) (i64.store (call $address (local.get 0)) (local.get 1)))
"""

_INPUT_AND_OUTPUT: Final = """
  ;; What the host has answered, as a block of its own; 0 for nothing.
  (func $answer (param $length i64) (result i64) (local $handle i64)
    (if (i64.le_s (local.get $length) (i64.const 0)) (then (return (i64.const 0))))
    (local.set $handle (call $alloc (local.get $length)))
    (call $host_take (i32.wrap_i64 (local.get $handle)))
    (local.get $handle))

  (func $need_input
    (if (i32.eqz (global.get $has_input)) (then
      (global.set $has_input (i32.const 1))
      (global.set $input_length (call $host_input))
      (global.set $input_at (call $answer (global.get $input_length))))))
  (func (export "input_offset") (result i64) (call $need_input) (global.get $input_at))
  (func (export "input_length") (result i64) (call $need_input) (global.get $input_length))
  (func (export "input_load_u8") (param $at i64) (result i32)
    (call $need_input)
    (if (i64.ge_u (local.get $at) (global.get $input_length)) (then (return (i32.const 0))))
    (i32.load8_u (i32.wrap_i64 (i64.add (global.get $input_at) (local.get $at)))))
  (func (export "input_load_u64") (param $at i64) (result i64)
    (call $need_input)
    (if (i32.or (i64.ge_u (local.get $at) (global.get $input_length))
                (i64.lt_u (i64.sub (global.get $input_length) (local.get $at)) (i64.const 8)))
      (then (return (i64.const 0))))
    (i64.load (i32.wrap_i64 (i64.add (global.get $input_at) (local.get $at)))))

  (func (export "output_set") (param i64 i64)
    (i64.store (i32.const 0) (local.get 0)) (i64.store (i32.const 8) (local.get 1)))
  (func (export "output_offset") (result i64) (i64.load (i32.const 0)))
  (func (export "output_length") (result i64) (i64.load (i32.const 8)))
  (func (export "error_set") (param i64) (i64.store (i32.const 16) (local.get 0)))
  (func (export "error_get") (result i64) (i64.load (i32.const 16)))
"""

_BY_THE_HOST: Final = """
  (func (export "config_get") (param i64) (result i64)
    (call $answer (call $host_config (call $at (local.get 0)) (call $size (local.get 0)))))
  (func (export "var_get") (param i64) (result i64)
    (call $answer (call $host_var_get (call $at (local.get 0)) (call $size (local.get 0)))))
  (func (export "var_set") (param i64 i64)
    (if (i64.eqz (local.get 1))
      (then (call $host_var_delete (call $at (local.get 0)) (call $size (local.get 0))))
      (else (call $host_var_set (call $at (local.get 0)) (call $size (local.get 0))
                                (call $at (local.get 1)) (call $size (local.get 1))))))
  (func (export "http_request") (param i64 i64) (result i64) (local $body i32)
    (if (i64.ne (local.get 1) (i64.const 0)) (then (local.set $body (call $at (local.get 1)))))
    (call $answer (call $host_http (call $at (local.get 0)) (call $size (local.get 0))
                                   (local.get $body) (call $size (local.get 1)))))
  (func (export "http_status_code") (result i32) (call $host_http_status))
  (func (export "http_headers") (result i64) (call $answer (call $host_http_headers)))
  (func (export "get_log_level") (result i32) (i32.const 0))
"""

#: A function's export, not that of the memory.
_EXPORTED: Final = re.compile(rf'\(export "({"|".join(ENV_SIGNATURES)})"\)')

_LEVELS: Final = ("trace", "debug", "info", "warn", "error")


def user_export(index: int) -> str:
    """The kernel's export for a plugin's user function of that number."""
    return f"user {index}"


@cache
def kernel_module(engine: wasmtime.Engine, user_functions: int, prefix: str) -> wasmtime.Module:
    """The kernel for plugins with so many user functions, in the dialect with that prefix.

    Compiled once in a process, in 3 ms.
    """
    imports = "".join(
        f'(import "{HOST}" "{name}" {str(signature).replace("(func", f"(func $host_{name}", 1)})\n'
        for name, signature in HOST_SIGNATURES.items()
    )
    logs = "".join(
        f"""(func (export "log_{level}") (param i64)
          (call $host_log (i32.const {number}) (call $at (local.get 0)) (call $size (local.get 0))))\n"""
        for number, level in enumerate(_LEVELS)
    )
    users = "".join(
        f"""(func (export "{user_export(index)}") (param i64) (result i64)
          (call $answer (call $host_user (i32.const {index}) (call $at (local.get 0)) (call $size (local.get 0)))))\n"""
        for index in range(user_functions)
    )
    named = _EXPORTED.sub(rf'(export "{prefix}\1")', f"{_MEMORY}{_INPUT_AND_OUTPUT}{_BY_THE_HOST}{logs}")
    return wasmtime.Module(engine, bytes(wasmtime.wat2wasm(f"(module ${HIDDEN_MODULE} {imports}{named}{users})")))
