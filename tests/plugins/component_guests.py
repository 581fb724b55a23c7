"""Components for tests: whole ones against `warren:plugin`, from a few lines of WAT.

The body is that of `handle-request`, whose parameters are `$action`, `$action_length`, `$data` and `$length`. It gives
the address of a result: `(call $ok (i32.const AT) (i32.const LENGTH))`, or `$failed`. To call there are `$log` (level,
at, length), `$call` (two texts and where the answer goes) and `$realloc`. Text lies where `tests.guests.data` puts it.
"""

from __future__ import annotations

from typing import Final

import wasmtime

HOST: Final = """
  (import "warren:plugin/host@1.0.0" (instance $host
    (type $level-type (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level-type)))
    (export "log" (func (param "level" $level) (param "message" string)))
    (type $error-type (record (field "code" string) (field "message" string)))
    (export "host-error" (type $error (eq $error-type)))
    (export "call" (func (param "function" string) (param "arguments" string)
      (result (result string (error $error)))))))
"""

REQUEST: Final = '(record (field "action" string) (field "data" string))'

#: The memory, and an allocator that never frees.
LIBC: Final = """
  (core module $libc-module
    (memory (export "memory") 1)
    (global $heap (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (global.get $heap))
      (global.set $heap (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
      (block $there
        (br_if $there (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $there (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
        (unreachable))
      (local.get $at)))
  (core instance $libc (instantiate $libc-module))
"""


def component(
    body: str = "(call $ok (local.get $data) (local.get $length))",
    *,
    more: str = "",
    parts: str = "",
    libc: str = LIBC,
    host: str = HOST,
    lowered: str = "",
    imports: str = "",
    given: str = "",
    request: str = REQUEST,
    interface: str = "warren:plugin/handler@1.0.0",
) -> bytes:
    """`more` stands in the core module, and `parts` at the end of the component.

    What the core module `imports` besides, of its "host", is `lowered` before, and `given` to it as exports of that.
    """
    return bytes(
        wasmtime.wat2wasm(f"""
(component
  {host}
  {libc}
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $log (canon lower (func $host "log") (memory $memory)))
  (core func $call (canon lower (func $host "call") (memory $memory) (realloc $realloc)))
  {lowered}
  (core module $main-module
    (import "libc" "memory" (memory $memory 0))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "call" (func $call (param i32 i32 i32 i32 i32)))
    {imports}
    (func $ok (param i32 i32) (result i32) (call $result (i32.const 0) (local.get 0) (local.get 1)))
    (func $failed (param i32 i32) (result i32) (call $result (i32.const 1) (local.get 0) (local.get 1)))
    (func $result (param $case i32) (param $at i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 16) (local.get $case))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (local.get $length))
      (i32.const 16))
    {more}
    (func (export "handle")
      (param $action i32) (param $action_length i32) (param $data i32) (param $length i32) (result i32)
      {body}))
  (core instance $main (instantiate $main-module
    (with "libc" (instance $libc))
    (with "host" (instance (export "log" (func $log)) (export "call" (func $call)) {given}))))
  (type $request {request})
  (func $handle (param "request" $request) (result (result string (error string)))
    (canon lift (core func $main "handle") (memory $memory) (realloc $realloc)))
  (component $shim
    (type $request' {request})
    (import "request" (type $request (eq $request')))
    (import "handle" (func $handle (param "request" $request) (result (result string (error string)))))
    (export $exported "request" (type $request'))
    (export "handle-request" (func $handle)
      (func (param "request" $exported) (result (result string (error string))))))
  (instance $handler (instantiate $shim (with "request" (type $request)) (with "handle" (func $handle))))
  (export "{interface}" (instance $handler))
  {parts})
""")
    )


def lifecycle(*, initialize: str = "(i32.const 0)", health_check: str = "(i32.const 0)") -> str:
    """Parts that export `lifecycle`: each body gives 0 for success, or 1 for the failure `no`."""

    def function(name: str, body: str) -> str:
        return f"""
    (func (export "{name}") (result i32) (local $case i32)
      (local.set $case {body})
      (i32.store8 (i32.const 32) (local.get $case))
      (i32.store (i32.const 36) (i32.const 48))
      (i32.store (i32.const 40) (i32.const 2))
      (i32.store16 (i32.const 48) (i32.const 0x6f6e))
      (i32.const 32))"""

    return f"""
  (core module $life-module
    (import "libc" "memory" (memory 0))
    (func (export "initialize") (param i32 i32) (result i32) (local $case i32)
      (local.set $case {initialize})
      (i32.store8 (i32.const 32) (local.get $case))
      (i32.store (i32.const 36) (i32.const 48))
      (i32.store (i32.const 40) (i32.const 2))
      (i32.store16 (i32.const 48) (i32.const 0x6f6e))
      (i32.const 32))
    {function("health-check", health_check)}
    {function("shutdown", "(i32.const 0)")})
  (core instance $life (instantiate $life-module (with "libc" (instance $libc))))
  (func $initialize (param "config" string) (result (result (error string)))
    (canon lift (core func $life "initialize") (memory $memory) (realloc $realloc)))
  (func $health-check (result (result (error string))) (canon lift (core func $life "health-check") (memory $memory)))
  (func $shutdown (result (result (error string))) (canon lift (core func $life "shutdown") (memory $memory)))
  (instance $lifecycle
    (export "initialize" (func $initialize))
    (export "health-check" (func $health-check))
    (export "shutdown" (func $shutdown)))
  (export "warren:plugin/lifecycle@1.0.0" (instance $lifecycle))"""
