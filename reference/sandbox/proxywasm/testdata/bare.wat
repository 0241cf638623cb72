;; A module without memory: every pointer is bad.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $local (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (func (export "proxy_abi_version_0_2_0"))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.ne (call $log (i32.const 2) (i32.const 0) (i32.const 0)) (i32.const 6)) (then unreachable))
    (i32.const 0)))
