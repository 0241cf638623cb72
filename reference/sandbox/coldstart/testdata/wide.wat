;; A guest whose mutable global the host can not set, so that it can not be pooled.
(module
  (global $v (mut v128) (v128.const i64x2 0 0))
  (func (export "one") (result i32) (global.set $v (v128.const i64x2 1 2)) (i32.const 1)))
