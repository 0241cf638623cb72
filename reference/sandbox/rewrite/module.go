package rewrite

import (
	"fmt"
	"math"
	"strings"
)

// ValueType is the binary form of a value's type, as in wazero's api package.
type ValueType = byte

// The value types of WebAssembly 2.0.
const (
	I32       ValueType = 0x7f
	I64       ValueType = 0x7e
	F32       ValueType = 0x7d
	F64       ValueType = 0x7c
	V128      ValueType = 0x7b
	Funcref   ValueType = 0x70
	Externref ValueType = 0x6f
)

// TypeName returns the name of t in the text format.
func TypeName(t ValueType) string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case Funcref:
		return "funcref"
	case Externref:
		return "externref"
	}
	return fmt.Sprintf("0x%02x", t)
}

// Kind is what an import or export is.
type Kind byte

// The kinds, in their binary form.
const (
	Function Kind = iota
	Table
	Memory
	Global
)

func (k Kind) String() string {
	if names := [...]string{"function", "table", "memory", "global"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Export is one export of a module. Params and Results are set for functions only, and not where the
// function's index is out of range.
type Export struct {
	Name            string
	Kind            Kind
	Params, Results []ValueType
}

// Import is one import of a module. Params and Results are set for functions only.
type Import struct {
	Module, Name    string
	Kind            Kind
	Params, Results []ValueType
}

// Section ids in the binary format.
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
	sectionLimit
)

const magic = "\x00asm\x01\x00\x00\x00"

// Entries that are read of one section at most, the limits that the WebAssembly JavaScript Interface
// (section 6.2, implementation-defined limits) agrees on.
const (
	maxModule  = 1 << 30
	maxEntries = uint32(100_000)
	maxTypes   = uint32(1_000_000)
	maxValues  = uint32(1_000) // parameters, or results, of a function
)

var (
	sectionNames = [sectionLimit]string{
		"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element",
		"code", "data", "data count",
	}
	sectionOrder = [...]byte{
		sectionType, sectionImport, sectionFunction, sectionTable, sectionMemory, sectionGlobal, sectionExport,
		sectionStart, sectionElement, sectionDataCount, sectionCode, sectionData,
	}
)

type (
	// span is a part of a module, as offsets.
	span struct{ start, end uint32 }

	// limits is the size of a table or memory.
	limits struct {
		min, max uint32
		bounded  bool      // max was given
		of       ValueType // of a table's entries
	}

	global struct {
		of      ValueType
		mutable bool
	}

	imported struct {
		module, name string
		kind         Kind
		index        uint32 // type of a function
	}

	exported struct {
		name  string
		kind  Kind
		index uint32
	}
)

// Module is a parsed module. It keeps the bytes that it was parsed from, which must not change. It is
// immutable and safe for concurrent use.
type Module struct {
	wasm      []byte
	sections  [sectionLimit]span
	present   [sectionLimit]bool
	types     []uint32          // offsets of parameter counts
	typeIndex map[string]uint32 // of types without parameters, by results

	imports     []imported
	importTypes []uint32 // types of the imported functions
	functions   []uint32 // types of the module's own functions
	tables      []limits
	memories    []limits
	globals     []global
	exports     []exported
	bodies      []span

	importedFunctions, importedTables, importedGlobals uint32

	start    uint32
	hasStart bool

	mostLocals uint64 // parameters and locals of the function that has most
	dataBytes  uint64
}

// Parse reads a module of WebAssembly 2.0 with tail calls and extended constants. Errors are *FormatError.
// The memory that it uses is bounded by a small multiple of len(wasm). Function bodies are read opcode by
// opcode, so that what Parse returns holds none that is unknown.
func Parse(wasm []byte) (*Module, error) {
	m := &Module{wasm: wasm, typeIndex: map[string]uint32{}}
	if err := m.split(); err != nil {
		return nil, err
	}
	readers := map[byte]func(*reader) error{
		sectionType: m.readTypes, sectionImport: m.readImports, sectionFunction: m.readFunctions,
		sectionTable: m.readTables, sectionMemory: m.readMemories, sectionGlobal: m.readGlobals,
		sectionExport: m.readExports, sectionStart: m.readStart, sectionElement: m.readElements,
		sectionDataCount: m.readDataCount, sectionCode: m.readCode, sectionData: m.readData,
	}
	for _, id := range sectionOrder {
		r, ok := m.section(id)
		if !ok {
			continue
		}
		if err := readers[id](&r); err != nil {
			return nil, err
		}
		if err := r.atEnd(); err != nil {
			return nil, err
		}
	}
	if len(m.bodies) != len(m.functions) {
		r, _ := m.section(sectionCode)
		return nil, r.errorf("%d bodies for %d functions", len(m.bodies), len(m.functions))
	}
	return m, nil
}

// split finds the sections: each once, in order, custom ones anywhere.
func (m *Module) split() error {
	r := reader{b: m.wasm, end: len(m.wasm), name: "header"}
	if len(m.wasm) > maxModule {
		return r.errorf("%d bytes, at most %d are read", len(m.wasm), maxModule)
	}
	if !strings.HasPrefix(string(m.wasm[:min(len(m.wasm), len(magic))]), magic) {
		return r.errorf("not a WebAssembly module of version 1")
	}
	r.pos = len(magic)
	next := 0 // in sectionOrder
	for r.pos < r.end {
		id, err := r.byte()
		if err != nil {
			return err
		}
		if id >= sectionLimit {
			return r.errorf("unknown section %d", id)
		}
		size, err := r.u32()
		if err != nil {
			return err
		}
		from := r.pos
		if err := r.skip(uint64(size)); err != nil {
			return err
		}
		if id == sectionCustom {
			custom := reader{b: m.wasm, pos: from, end: r.pos, name: sectionNames[id]}
			if _, err := custom.text(); err != nil {
				return err
			}
			continue
		}
		for next < len(sectionOrder) && sectionOrder[next] != id {
			next++
		}
		if next == len(sectionOrder) {
			return r.errorf("section %s repeats or is out of order", sectionNames[id])
		}
		next++
		m.sections[id], m.present[id] = span{uint32(from), uint32(r.pos)}, true
	}
	return nil
}

// section returns a reader of a section's body.
func (m *Module) section(id byte) (reader, bool) {
	s := m.sections[id]
	return reader{b: m.wasm, pos: int(s.start), end: int(s.end), name: sectionNames[id]}, m.present[id]
}

func (m *Module) functionCount() uint32 {
	return m.importedFunctions + uint32(len(m.functions))
}

// signature returns the parameters and results of type i, which Parse has read before.
func (m *Module) signature(i uint32) (params, results []ValueType) {
	r := reader{b: m.wasm, pos: int(m.types[i]), end: len(m.wasm), name: sectionNames[sectionType]}
	params, err := r.valueTypes()
	if err != nil {
		return nil, nil
	}
	results, err = r.valueTypes()
	if err != nil {
		return nil, nil
	}
	return params, results
}

// functionType returns the type of function i.
func (m *Module) functionType(i uint32) (uint32, bool) {
	if i < m.importedFunctions {
		return m.importTypes[i], true
	}
	if i -= m.importedFunctions; i < uint32(len(m.functions)) {
		return m.functions[i], true
	}
	return 0, false
}

// Exports returns the exports in their order. The caller must not change the types.
func (m *Module) Exports() []Export {
	out := make([]Export, len(m.exports))
	for i, e := range m.exports {
		out[i] = Export{Name: e.name, Kind: e.kind}
		if e.kind != Function {
			continue
		}
		if of, ok := m.functionType(e.index); ok {
			out[i].Params, out[i].Results = m.signature(of)
		}
	}
	return out
}

// Imports returns the imports in their order. The caller must not change the types.
func (m *Module) Imports() []Import {
	out := make([]Import, len(m.imports))
	for i, im := range m.imports {
		out[i] = Import{Module: im.module, Name: im.name, Kind: im.kind}
		if im.kind == Function {
			out[i].Params, out[i].Results = m.signature(im.index)
		}
	}
	return out
}

// valueTypes reads a vector of value types without copying it.
func (r *reader) valueTypes() ([]ValueType, error) {
	n, err := r.count(1, maxValues)
	if err != nil {
		return nil, err
	}
	from := r.pos
	for range n {
		if _, err := r.valueType(); err != nil {
			return nil, err
		}
	}
	return r.b[from:r.pos:r.pos], nil
}

func (r *reader) valueType() (ValueType, error) {
	t, err := r.byte()
	if err != nil {
		return 0, err
	}
	switch t {
	case I32, I64, F32, F64, V128, Funcref, Externref:
		return t, nil
	}
	return 0, r.errorf("unknown value type 0x%02x", t)
}

func (r *reader) refType() (ValueType, error) {
	t, err := r.valueType()
	if err == nil && t != Funcref && t != Externref {
		err = r.errorf("%s is no reference type", TypeName(t))
	}
	return t, err
}

func (m *Module) readTypes(r *reader) error {
	n, err := r.count(3, maxTypes)
	if err != nil {
		return err
	}
	m.types = make([]uint32, n)
	for i := range m.types {
		form, err := r.byte()
		if err != nil {
			return err
		}
		if form != 0x60 {
			return r.errorf("type %d has unknown form 0x%02x", i, form)
		}
		m.types[i] = uint32(r.pos)
		params, err := r.valueTypes()
		if err != nil {
			return err
		}
		results, err := r.valueTypes()
		if err != nil {
			return err
		}
		if _, known := m.typeIndex[string(results)]; len(params) == 0 && !known {
			m.typeIndex[string(results)] = uint32(i)
		}
	}
	return nil
}

func (m *Module) typeAt(r *reader) (uint32, error) {
	i, err := r.u32()
	if err == nil && i >= uint32(len(m.types)) {
		err = r.errorf("type %d of %d", i, len(m.types))
	}
	return i, err
}

func (m *Module) readImports(r *reader) error {
	n, err := r.count(4, maxEntries)
	if err != nil {
		return err
	}
	m.imports = make([]imported, n)
	for i := range m.imports {
		if m.imports[i], err = m.readImport(r); err != nil {
			return err
		}
	}
	m.importedTables, m.importedGlobals = uint32(len(m.tables)), uint32(len(m.globals))
	return nil
}

func (m *Module) readImport(r *reader) (im imported, err error) {
	if im.module, err = r.text(); err != nil {
		return im, err
	}
	if im.name, err = r.text(); err != nil {
		return im, err
	}
	if im.module == MeterModule || strings.HasPrefix(im.module, reserved) || strings.HasPrefix(im.name, reserved) {
		return im, r.errorf("import %.80q %.80q: the name is reserved", im.module, im.name)
	}
	kind, err := r.byte()
	if err != nil {
		return im, err
	}
	im.kind = Kind(kind)
	switch im.kind {
	case Function:
		im.index, err = m.typeAt(r)
		m.importTypes = append(m.importTypes, im.index)
		m.importedFunctions++
	case Table:
		err = m.readTable(r)
	case Memory:
		err = m.readMemory(r)
	case Global:
		var g global
		g, err = r.globalType()
		m.globals = append(m.globals, g)
	default:
		err = r.errorf("import %.80q %.80q: unknown %s", im.module, im.name, im.kind)
	}
	return im, err
}

func (m *Module) readFunctions(r *reader) error {
	n, err := r.count(1, maxFunctions)
	if err != nil {
		return err
	}
	m.functions = make([]uint32, n)
	for i := range m.functions {
		if m.functions[i], err = m.typeAt(r); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) limits() (l limits, err error) {
	flags, err := r.byte()
	if err != nil {
		return l, err
	}
	if flags > 1 {
		return l, r.errorf("unknown limits 0x%02x (shared and 64-bit ones are not supported)", flags)
	}
	if l.min, err = r.u32(); err != nil {
		return l, err
	}
	if flags == 1 {
		l.bounded = true
		l.max, err = r.u32()
	}
	return l, err
}

func (m *Module) readTable(r *reader) error {
	of, err := r.refType()
	if err != nil {
		return err
	}
	l, err := r.limits()
	l.of = of
	m.tables = append(m.tables, l)
	return err
}

func (m *Module) readTables(r *reader) error {
	n, err := r.count(3, maxEntries)
	for ; err == nil && n > 0; n-- {
		err = m.readTable(r)
	}
	return err
}

func (m *Module) readMemory(r *reader) error {
	l, err := r.limits()
	if err != nil {
		return err
	}
	if m.memories = append(m.memories, l); len(m.memories) > 1 {
		return r.errorf("more than one memory")
	}
	return nil
}

func (m *Module) readMemories(r *reader) error {
	n, err := r.count(2, maxEntries)
	for ; err == nil && n > 0; n-- {
		err = m.readMemory(r)
	}
	return err
}

func (r *reader) globalType() (g global, err error) {
	if g.of, err = r.valueType(); err != nil {
		return g, err
	}
	mutable, err := r.byte()
	if err == nil && mutable > 1 {
		err = r.errorf("unknown mutability %d", mutable)
	}
	g.mutable = mutable == 1
	return g, err
}

func (m *Module) readGlobals(r *reader) error {
	return m.scan(r, func(p *patcher) error {
		return p.globals(func(g global) { m.globals = append(m.globals, g) })
	})
}

func (m *Module) readExports(r *reader) error {
	return m.scan(r, func(p *patcher) error {
		return p.exports(func(e exported) { m.exports = append(m.exports, e) })
	})
}

func (m *Module) readElements(r *reader) error { return m.scan(r, (*patcher).elements) }

func (m *Module) readData(r *reader) error {
	return m.scan(r, func(p *patcher) error {
		return p.data(func(n uint32) { m.dataBytes += uint64(n) })
	})
}

// scan walks a section without a change. Which indices exist is left to validation and to Rewrite.
func (m *Module) scan(r *reader, walk func(*patcher) error) error {
	p := &patcher{reader: *r, functions: math.MaxUint32, globalCount: math.MaxUint32}
	err := walk(p)
	r.pos = p.pos
	return err
}

func (m *Module) readStart(r *reader) (err error) {
	m.hasStart = true
	m.start, err = r.u32()
	return err
}

func (m *Module) readDataCount(r *reader) error {
	_, err := r.u32()
	return err
}

func (m *Module) readCode(r *reader) error {
	n, err := r.count(3, maxFunctions)
	if err != nil {
		return err
	}
	if n != len(m.functions) {
		return r.errorf("%d bodies for %d functions", n, len(m.functions))
	}
	m.bodies = make([]span, n)
	for i := range m.bodies {
		size, err := r.u32()
		if err != nil {
			return err
		}
		from := r.pos
		if err := r.skip(uint64(size)); err != nil {
			return err
		}
		m.bodies[i] = span{uint32(from), uint32(r.pos)}
		f, err := m.function(i)
		if err != nil {
			return err
		}
		if err := f.scan(nil, nil); err != nil {
			return err
		}
		m.mostLocals = max(m.mostLocals, f.locals)
	}
	return nil
}
