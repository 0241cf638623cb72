package sandbox

import (
	"encoding/binary"

	"github.com/assay-bench/assay/fixtures/wasm"
)

// guest returns a maker of a fixture.
func guest(name string) func() []byte { return func() []byte { return wasm.Module(name) } }

// capped returns a maker of a module one over a structural cap.
func capped(kind string) func() []byte { return func() []byte { return wasm.Capped(kind) } }

// Sections of the binary format (WebAssembly Core Specification, Binary Format, Modules).
const (
	sectionType     = 1
	sectionFunction = 3
	sectionMemory   = 5
	sectionExport   = 7
	sectionCode     = 10

	typeFunc  = 0x60
	typeI32   = 0x7f
	opI32     = 0x41 // i32.const
	opI64     = 0x42 // i64.const
	opEnd     = 0x0b
	wasmMagic = "\x00asm\x01\x00\x00\x00"
)

// constant is a module of its own digest for each n: get() -> i32 returns n.
func constant(n int32) []byte { return tiny(append([]byte{opI32}, signed(int64(n))...), 0) }

// unsound has a body of another type than its function, in a memory of so many pages: its structure can
// be read, and it is not valid.
func unsound(pages int) []byte { return tiny([]byte{opI64, 0}, pages) }

// tiny is a module that exports get() -> i32 with a body.
func tiny(body []byte, pages int) []byte {
	out := []byte(wasmMagic)
	out = section(out, sectionType, 1, typeFunc, 0, 1, typeI32)
	out = section(out, sectionFunction, 1, 0)
	if pages > 0 {
		out = section(out, sectionMemory, append([]byte{1, 0}, unsigned(uint64(pages))...)...)
	}
	out = section(out, sectionExport, 1, 3, 'g', 'e', 't', 0, 0)
	code := append([]byte{0}, append(body, opEnd)...) // no locals
	return section(out, sectionCode, append(append([]byte{1}, unsigned(uint64(len(code)))...), code...)...)
}

func section(out []byte, id byte, body ...byte) []byte {
	return append(append(append(out, id), unsigned(uint64(len(body)))...), body...)
}

// unsigned is LEB128.
func unsigned(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// signed is signed LEB128.
func signed(n int64) (out []byte) {
	for {
		low := byte(n & 0x7f)
		n >>= 7
		if n == 0 && low&0x40 == 0 || n == -1 && low&0x40 != 0 {
			return append(out, low)
		}
		out = append(out, low|0x80)
	}
}
