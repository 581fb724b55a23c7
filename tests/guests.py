"""Guests for all tests: whole modules of the `core` ABI from a few lines of WAT, and plugins of them on disk.

Each has an allocator that never frees, a second page to break out of, and these functions to call in a body:

    (call $say (i32.const AT) (i32.const LENGTH))                           one log line
    (call $ask (i32.const NAME) (i32.const LENGTH) (i32.const ARGS) (i32.const LENGTH))    a host call; (result i64)
    (call $answer)                                                          the answer OK; (result i64)

and `$pack` (pointer, length) to make an answer of any bytes. Text lies where `data` puts it; `OK` lies at 512.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import wasmtime

OK: Final = b'{"success":true,"result":1,"error":null}'
OK_AT: Final = 512

#: Where the allocator begins; below is room for `data`.
HEAP_AT: Final = 4096
PAGES: Final = 2
MEMORY_BYTES: Final = PAGES * 65_536

ALLOCATE: Final = """
  (func $allocate (export "allocate") (param $length i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $length))))
"""


def wat(body: str = "(call $answer)", *, more: str = "", result: str = "i64", allocate: str = ALLOCATE) -> bytes:
    """A module whose `handle_request` has this body (its parameters: `$at`, `$length`). `more` stands in the module."""
    text = f"""
(module
  (import "warren_v1" "log" (func $log (param i32 i32 i32)))
  (import "warren_v1" "host_call" (func $ask (param i32 i32 i32 i32) (result i64)))
  (memory $memory (export "memory") {PAGES})
  (global $heap (mut i32) (i32.const {HEAP_AT}))
  {data(OK_AT, OK)}
  {allocate}
  (func $say (param i32 i32) (call $log (i32.const 2) (local.get 0) (local.get 1)))
  (func $pack (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func $answer (result i64) (call $pack (i32.const {OK_AT}) (i32.const {len(OK)})))
  {more}
  (func $handle_request (export "handle_request") (param $at i32) (param $length i32) (result {result}) {body}))
"""
    return bytes(wasmtime.wat2wasm(text))


def data(at: int, content: bytes | str) -> str:
    """A data segment: what `content` is, at `at`."""
    raw = content.encode() if isinstance(content, str) else content
    escaped = "".join(f"\\{byte:02x}" for byte in raw)
    return f'(data (i32.const {at}) "{escaped}")'


def ask(name: bytes | str, arguments: bytes | str = b"", *, at: int = 1024) -> tuple[str, str]:
    """A host call: the expression, whose result is an i64, and the data it needs, which goes into `more`."""
    raw_name, raw = (part.encode() if isinstance(part, str) else part for part in (name, arguments))
    name_at_and_length = f"(i32.const {at}) (i32.const {len(raw_name)})"
    call = f"(call $ask {name_at_and_length} (i32.const {at + len(raw_name)}) (i32.const {len(raw)}))"
    return call, data(at, raw_name + raw)


def log_answer(call: str) -> str:
    """A body that logs what this host call gives, and then answers."""
    return f"""(local $got i64) (local.set $got {call})
      (call $say (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))) (i32.wrap_i64 (local.get $got)))
      (call $answer)"""


def answering(answer: bytes | str, *, at: int = 1024) -> bytes:
    """A guest that gives this answer to everything."""
    raw = answer.encode() if isinstance(answer, str) else answer
    return wat(f"(call $pack (i32.const {at}) (i32.const {len(raw)}))", more=data(at, raw))


def needing(*names: str, requirement: str = "*", optional: bool = False) -> str:
    """The part of a manifest that lists dependencies; it has to come before any other section."""
    entry = '[[plugin.dependencies]]\nname = "{}"\nversion_req = "{}"\noptional = {}\n'
    return "".join(entry.format(name, requirement, str(optional).lower()) for name in names)


def calling(plugin: str, action: str = "do", **arguments: Any) -> bytes:
    """A guest that makes one call, and logs what it gets."""
    body, segment = ask("call_plugin", json.dumps({"plugin": plugin, "action": action, **arguments}))
    return wat(log_answer(body), more=segment)


def echoing() -> bytes:
    """A guest whose result is the whole request that it was given."""
    head, tail = b'{"success":true,"error":null,"result":', b"}"
    return wat(
        f"""(local $end i32)
        (local.set $end (i32.add (i32.const 65536) (i32.const {len(head)})))
        (memory.copy (i32.const 65536) (i32.const 1024) (i32.const {len(head)}))
        (memory.copy (local.get $end) (local.get $at) (local.get $length))
        (local.set $end (i32.add (local.get $end) (local.get $length)))
        (memory.copy (local.get $end) (i32.const 1100) (i32.const {len(tail)}))
        (call $pack (i32.const 65536)
          (i32.sub (i32.add (local.get $end) (i32.const {len(tail)})) (i32.const 65536)))""",
        more=data(1024, head) + data(1100, tail),
    )


def relaying(plugin: str, **arguments: Any) -> bytes:
    """A guest that makes one call, and answers with what it is given for it."""
    return asking("call_plugin", {"plugin": plugin, "action": "do", **arguments})


def asking(function: str, arguments: Any = None) -> bytes:
    """A guest that calls a host function, and answers with what it is given for it."""
    call, called = ask(function, json.dumps(arguments))
    return _passing_on(f"(local.set $got {call})", more=called)


def asking_what_it_is_asked(more: str = "") -> bytes:
    """A guest that calls the host function which the action names, with the data, and answers with what it is given.

    It takes requests as Warren's own tools write them, without blanks.
    """
    name_at, before_data = len(b'{"action":"'), len(b'","data":')
    return _passing_on(
        f"""
        (local.set $name (i32.add (local.get $at) (i32.const {name_at})))
        (local.set $end (local.get $name))
        (loop $again
          (local.set $end (i32.add (local.get $end) (i32.const 1)))
          (br_if $again (i32.ne (i32.load8_u (local.get $end)) (i32.const {ord('"')}))))
        (local.set $got (call $ask (local.get $name) (i32.sub (local.get $end) (local.get $name))
          (i32.add (local.get $end) (i32.const {before_data}))
          (i32.sub (i32.sub (i32.add (local.get $at) (local.get $length)) (i32.const 1))
            (i32.add (local.get $end) (i32.const {before_data})))))""",
        more=more,
    )


def _passing_on(asked: str, *, more: str) -> bytes:
    """A guest whose answer has what a host call gave; that is what `asked` sets `$got` to."""
    head, tail = b'{"success":true,"error":null,"result":', b"}"
    return wat(
        f"""(local $got i64) (local $end i32) (local $name i32) {asked}
        (local.set $end (i32.add (i32.const 65536) (i32.const {len(head)})))
        (memory.copy (i32.const 65536) (i32.const 2048) (i32.const {len(head)}))
        (memory.copy (local.get $end) (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32)))
          (i32.wrap_i64 (local.get $got)))
        (local.set $end (i32.add (local.get $end) (i32.wrap_i64 (local.get $got))))
        (memory.copy (local.get $end) (i32.const 2100) (i32.const {len(tail)}))
        (call $pack (i32.const 65536)
          (i32.sub (i32.add (local.get $end) (i32.const {len(tail)})) (i32.const 65536)))""",
        more=more + data(2048, head) + data(2100, tail),
    )


def write_plugin(
    folder: Path,
    name: str,
    wasm: bytes | None = None,
    manifest_extra: str = "",
    *,
    version: str = "1.0.0",
    stem: str = "",
) -> Path:
    """A plugin on disk, `manifest_extra` being more of its manifest in TOML; the path of its `.wasm`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem or name}.wasm"
    path.write_bytes(wat() if wasm is None else wasm)
    manifest = f'[plugin]\nname = "{name}"\nversion = "{version}"\n{manifest_extra}'
    path.with_suffix(".toml").write_text(manifest, encoding="utf-8")
    return path
