;; Guests that a measurement must survive: one that grows, one that traps, one that never ends, one with a
;; start section.
(module
  (memory (export "memory") 1 8)
  (global $started (mut i32) (i32.const 0))
  (func $start (global.set $started (i32.const 7)))
  (start $start)
  (func (export "started") (result i32) (global.get $started))
  (func (export "grow") (result i32) (drop (memory.grow (i32.const 1))) (i32.const 1))
  (func (export "trap") (result i32) unreachable)
  (func (export "spin") (loop $l (br $l))))
