;; The smallest honest plugin: it answers {"success":true,"result":<the request>,"error":null}. The host writes the
;; request right behind the prefix, so that the answer is complete once the suffix follows it.
(module
  (memory (export "memory") 2)
  (data (i32.const 512) ",\"error\":null}")
  (data (i32.const 1024) "{\"success\":true,\"result\":")

  (func (export "allocate") (param $length i32) (result i32)
    (i32.const 1049))

  (func (export "handle_request") (param $pointer i32) (param $length i32) (result i64)
    (memory.copy (i32.add (local.get $pointer) (local.get $length)) (i32.const 512) (i32.const 14))
    (i64.or
      (i64.shl (i64.const 1024) (i64.const 32))
      (i64.extend_i32_u (i32.add (local.get $length) (i32.const 39))))))
