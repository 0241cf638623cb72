;; What the rewriter makes of a filter whose header callback never ends when the request has a body
;; coming (end of stream is 0), and of a start section.
(module
  (import "assay_meter" "refill" (func $refill))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "started")
  (global $fuel (export "__assay_fuel") (mut i64) (i64.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func $charge
    (global.set $fuel (i64.sub (global.get $fuel) (i64.const 10)))
    (if (i64.lt_s (global.get $fuel) (i64.const 0)) (then (call $refill))))
  (func (export "__assay_start") (drop (call $log (i32.const 2) (i32.const 16) (i32.const 7))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (local.get 2)) (then (loop $l (call $charge) (br $l))))
    (i32.const 0)))
