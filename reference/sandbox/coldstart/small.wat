;; The guest that is measured where none is given: what a small plug-in has (an allocator, a hash, a filter,
;; recursion), a page of memory, data, mutable globals, and a function whose answer depends on the data and a
;; global and on not having been called before on the same state.
;; first(n) = n * (calls so far + 1) + the 32-bit word at 16, which is 1000. sum(n) = 0 + 1 + ... + (n-1), for
;; many calls on one instance.
(module
  (memory (export "memory") 1 4)
  (data (i32.const 16) "\e8\03\00\00")
  (global $calls (mut i32) (i32.const 0))
  (func (export "first") (param $n i32) (result i64)
    (local $i i32) (local $sum i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (global.get $calls))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.set $sum (i64.add (local.get $sum) (i64.load32_u (i32.const 16))))
    (i32.store (i32.const 16) (i32.const 7)) ;; what a reset must undo
    (local.get $sum))
  (func (export "sum") (param $n i32) (result i64)
    (local $i i32) (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $i))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $sum))
  (global $next (mut i32) (i32.const 1024))
  (func $alloc (export "alloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.mul (memory.size) (i32.const 65536)))
      (then (return (i32.const 0))))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func $fnv (export "fnv") (param $p i32) (param $n i32) (result i32)
    (local $hash i32)
    (local.set $hash (i32.const 0x811c9dc5))
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $hash (i32.mul (i32.xor (local.get $hash) (i32.load8_u (local.get $p))) (i32.const 16777619)))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again)))
    (local.get $hash))
  (func $upper (export "upper") (param $p i32) (param $n i32) (result i32)
    (local $i i32) (local $c i32) (local $changed i32)
    (block $done
      (loop $again
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $c (i32.load8_u (i32.add (local.get $p) (local.get $i))))
        (if (i32.lt_u (i32.sub (local.get $c) (i32.const 97)) (i32.const 26))
          (then
            (i32.store8 (i32.add (local.get $p) (local.get $i)) (i32.sub (local.get $c) (i32.const 32)))
            (local.set $changed (i32.add (local.get $changed) (i32.const 1)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $again)))
    (local.get $changed))
  (func $fib (export "fib") (param $n i32) (result i64)
    (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
      (then (i64.extend_i32_u (local.get $n)))
      (else (i64.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "filter") (param $n i32) (result i32)
    (local $p i32)
    (local.set $p (call $alloc (local.get $n)))
    (drop (call $upper (local.get $p) (local.get $n)))
    (call $fnv (local.get $p) (local.get $n))))
