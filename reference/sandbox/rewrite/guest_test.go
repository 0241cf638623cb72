package rewrite_test

import (
	"bytes"
	_ "embed"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

//go:generate clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wl,--no-entry -Wl,--strip-all -o testdata/bench.wasm testdata/bench.c

//go:embed testdata/bench.wasm
var benchWasm []byte

// Value types and opcodes that the tests assemble guests from.
const (
	i32 = rewrite.I32
	i64 = rewrite.I64

	unreachable = 0x00
	block       = 0x02
	loop        = 0x03
	ifOp        = 0x04
	elseOp      = 0x05
	end         = 0x0b
	br          = 0x0c
	brIf        = 0x0d
	brTable     = 0x0e
	ret         = 0x0f
	call        = 0x10
	callInd     = 0x11
	retCall     = 0x12
	retCallInd  = 0x13
	drop        = 0x1a
	selTyped    = 0x1c
	get         = 0x20
	set         = 0x21
	tee         = 0x22
	gGet        = 0x23
	gSet        = 0x24
	grow        = 0x40
	constI32    = 0x41
	constI64    = 0x42
	eqz         = 0x45
	add         = 0x6a
	sub         = 0x6b
	refFunc     = 0xd2
	misc        = 0xfc
	vector      = 0xfd
	void        = 0x40
)

// guest is a module in the making. Entries are in their binary form without the vector's count.
type guest struct {
	types    []signature
	imports  []string
	tables   []string
	memory   string
	globals  []string
	exports  []string
	start    []byte // nil: none
	elements []string
	count    bool // a data count section
	code     []guestCode
	data     []string
}

type signature struct{ params, results []byte }

type guestCode struct {
	of     byte     // type
	locals string   // groups, binary
	groups byte     // their number
	code   []byte   // without the last end
	names  []string // exported as
}

// section returns a section of n entries.
func section(id byte, n int, entries ...string) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		b.WriteString(e)
	}
	return sized(id, append(uleb(n), b.Bytes()...))
}

func sized(id byte, body []byte) []byte {
	return append(append([]byte{id}, uleb(len(body))...), body...)
}

func uleb(n int) []byte {
	var b []byte
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func vec(b []byte) string { return string(uleb(len(b))) + string(b) }

func (s signature) entry() string { return "\x60" + vec(s.params) + vec(s.results) }

func export(name string, kind, index byte) string {
	return vec([]byte(name)) + string([]byte{kind, index})
}

// bytes assembles the module. Exports of functions count from the module's own first one, after the imports.
func (g guest) bytes() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	put := func(id byte, entries []string) {
		if len(entries) > 0 {
			b = append(b, section(id, len(entries), entries...)...)
		}
	}
	var types, functions, bodies []string
	for _, t := range g.types {
		types = append(types, t.entry())
	}
	exports := append([]string(nil), g.exports...)
	for i, c := range g.code {
		functions = append(functions, string(c.of))
		body := append([]byte{c.groups}, c.locals...)
		bodies = append(bodies, vec(append(append(body, c.code...), end)))
		for _, name := range c.names {
			exports = append(exports, export(name, 0, byte(i+g.importedFunctions())))
		}
	}
	put(1, types)
	put(2, g.imports)
	put(3, functions)
	put(4, g.tables)
	if g.memory != "" {
		put(5, []string{g.memory})
	}
	put(6, g.globals)
	put(7, exports)
	if g.start != nil {
		b = append(b, sized(8, g.start)...)
	}
	put(9, g.elements)
	if g.count {
		b = append(b, sized(12, uleb(len(g.data)))...)
	}
	put(10, bodies)
	put(11, g.data)
	return b
}

// importedFunctions counts them: the kind is two bytes before the end of a function import with a small type.
func (g guest) importedFunctions() (n int) {
	for _, im := range g.imports {
		if im[len(im)-2] == 0 {
			n++
		}
	}
	return n
}

// one is a guest with a single function "f" and a memory of a page, growing to 4.
func one(params, results []byte, code ...byte) guest {
	return guest{
		types:  []signature{{params, results}},
		memory: "\x01\x01\x04",
		code:   []guestCode{{code: code, names: []string{"f"}}},
	}
}
