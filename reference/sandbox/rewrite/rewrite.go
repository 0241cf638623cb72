// Package rewrite parses a WebAssembly guest, checks its size, and makes a guest out of it that meters
// itself: fuel, call depth, and exports through which the host reads and restores its state.
//
// It executes nothing and does not validate: an engine must have accepted the original before Rewrite is
// called. It still refuses every index that the original does not have, since a module that is invalid as
// sent could become valid by what Rewrite adds. What it does not know (exceptions, garbage collection,
// threads, relaxed SIMD, 64-bit or several memories) it refuses: an opcode whose length is unknown could
// hide a loop.
//
// The rewritten guest imports assay_meter.refill, which it calls when its fuel is below zero (after a bulk
// operation, far below) and calls again at the next charge while it still is, and exports
// __assay_fuel (mutable i64, units left), __assay_depth (mutable i32, frames in use), __assay_g<index> for
// each mutable global of its own, and __assay_start in place of a start section. Names that begin with
// __assay_ are refused in the original.
//
// Fuel is charged at function entry and in every loop: 1 unit and 1 for each opcode of the region, where block,
// nop and end are free, both arms of an if count, and a nested loop is a region of its own. A short loop is
// written several times and charged once for all passes (loop.go); the body of a small function is charged to its
// direct callers (payment.go); of a small function that calls itself, every second call tests the fuel (twin.go). Bulk operations cost a unit for each byte or table entry besides, and growth of a
// memory 65,536 a page, both charged after they succeeded: a length out of range traps before anything is moved
// and keeps its own trap, and one that succeeds is bounded by the memory's size.
//
// Tried: charging the length before a bulk operation. Lost: a fill of 4 GiB in a memory of one page ended as
// an empty tank in place of the out-of-bounds trap of the original.
package rewrite

import (
	"fmt"
	"math"

	"github.com/assay-bench/assay/reference/defect"
)

// Names that the rewritten guest imports and exports.
const (
	MeterModule    = "assay_meter"     // module of the one added import
	RefillFunction = "refill"          // () -> (): add fuel, or end the guest by a panic
	FuelExport     = "__assay_fuel"    // mutable i64: units left, below zero when used up
	DepthExport    = "__assay_depth"   // mutable i32: frames in use; above the limit after the trap
	StartExport    = "__assay_start"   // the start function, when Options.Start is set
	GlobalExport   = "__assay_g"       // prefix; the index in the original follows
	reserved       = "__assay_"        // what no name of an original may begin with
	defaultDepth   = 1024              // frames
	defaultTables  = 10_000            // table entries
	endlessFuel    = int64(1) << 62    // for the defect that meters no start section
	bytesPerPage   = int64(64 * 1024)  // and units for one page of growth
	maxFunctions   = uint32(1_000_000) // as the other entry limits of the parser
)

// Options says what Rewrite adds. The zero value starts without fuel, with the default limits.
type Options struct {
	// Fuel is what the fuel global starts with, in units. At 0 the first test calls refill: of a loop, or of a
	// function that calls another outside of its loops.
	Fuel uint32
	// Depth is how many frames may be in use at once; 0 means 1,024. Functions that call nothing are not
	// counted. One frame more is the trap unreachable, with __assay_depth above Depth. A function that is written
	// twice counts two frames at once, and may trap one frame early; see twin.go.
	Depth uint32
	// Start strips the start section and exports its function as __assay_start, for the host to call with
	// fuel set. Without it the section stays: it runs while the guest is instantiated, with Fuel.
	Start bool
	// TableEntries is how many entries all tables may grow to together: declared maxima are lowered, so that
	// table.grow gives -1 beyond it. 0 means 10,000; tables that start larger keep their size.
	TableEntries uint32
	// Defects are planted mistakes.
	Defects defect.Set
}

// Info says what a rewritten guest holds.
type Info struct {
	FuelSites int      // places that charge fuel
	Globals   []string // exported names of the original's own mutable globals, by index
	HasStart  bool     // __assay_start is exported
	// WideGlobals is set when a mutable global is a v128: the host interface of wazero sets 64 bits, so that
	// such a guest can not be reset and must not be pooled.
	WideGlobals bool
}

// Rewrite returns the metered form of m. The result shares no memory with m. Errors are *FormatError: an
// index that the original does not have, named by section and offset.
func Rewrite(m *Module, o Options) ([]byte, Info, error) {
	w := newWriter(m, o)
	for _, section := range []func() error{
		w.importSection, w.tableSection, w.globalSection, w.exportSection, w.startSection,
		w.elementSection, w.codeSection, w.functionSection, w.dataSection,
	} {
		if err := section(); err != nil {
			return nil, Info{}, err
		}
	}
	w.typeSection() // last: the others ask for types
	return w.assemble(), w.info, nil
}

// writer collects the sections of the rewritten module.
type writer struct {
	m        *Module
	o        Options
	sections [sectionLimit][]byte // bodies; nil: copy the original's
	dropped  [sectionLimit]bool
	added    [][]ValueType     // results of the added types, all without parameters
	indices  map[string]uint32 // of the added types, by results
	info     Info

	refill    uint32 // function index of the added import
	fuel      uint32 // global indices
	depth     uint32
	prepaid   []int64  // of the module's own functions: what callers pay for the body; 0: nothing
	referred  []bool   // which of them are in a table, a global or a reference
	recursive []bool   // which of them call themselves
	twins     []uint32 // types of the functions that are written twice
	again     byte     // the call with which a function begins again
	spare     int      // bytes that copies of loops may still take
}

func newWriter(m *Module, o Options) *writer {
	if o.Depth == 0 {
		o.Depth = defaultDepth
	}
	if o.TableEntries == 0 {
		o.TableEntries = defaultTables
	}
	globals := uint32(len(m.globals))
	return &writer{m: m, o: o, indices: map[string]uint32{}, refill: m.importedFunctions, fuel: globals, depth: globals + 1, again: opCall,
		spare: spareCode + len(m.wasm)/2, referred: make([]bool, len(m.bodies))}
}

// shift is the new index of function i.
func (w *writer) shift(i uint32) uint32 {
	if i < w.m.importedFunctions {
		return i
	}
	return i + 1
}

// thunk says whether a function is added that calls the start function. It keeps a start function of the wrong
// type invalid, and does not make the start function one that the guest may take a reference of. An imported
// one needs it always: wazero calls a host function that is a start function, or that it looks up as an export,
// without the guest's memory.
func (w *writer) thunk() bool {
	return w.m.hasStart && (w.stripsStart() || w.m.start < w.m.importedFunctions)
}

// startIndex is what runs first, after the shift.
func (w *writer) startIndex() uint32 {
	if w.thunk() {
		return w.m.functionCount() + 1
	}
	return w.shift(w.m.start)
}

func (w *writer) stripsStart() bool {
	return w.o.Start && !w.o.Defects.On(defect.SandboxStartUnmetered)
}

// typeOf returns the index of the type without parameters and with the given results.
func (w *writer) typeOf(results []ValueType) uint32 {
	if i, ok := w.m.typeIndex[string(results)]; ok {
		return i
	}
	i, ok := w.indices[string(results)]
	if !ok {
		i = uint32(len(w.m.types) + len(w.added))
		w.added, w.indices[string(results)] = append(w.added, results), i
	}
	return i
}

func (w *writer) typeSection() {
	if len(w.added) == 0 {
		return
	}
	b := w.counted(sectionType, len(w.m.types), len(w.added))
	for _, results := range w.added {
		b = append(b, 0x60, 0)
		b = appendU32(b, uint32(len(results)))
		b = append(b, results...)
	}
	w.sections[sectionType] = b
}

// counted returns the original's entries of a section under a count raised by more.
func (w *writer) counted(id byte, have, more int) []byte {
	b := appendU32(nil, uint32(have+more))
	if r, ok := w.m.section(id); ok {
		if _, err := r.u32(); err == nil {
			b = append(b, r.rest()...)
		}
	}
	return b
}

func (w *writer) importSection() error {
	b := w.counted(sectionImport, len(w.m.imports), 1)
	b = appendName(b, MeterModule)
	b = appendName(b, RefillFunction)
	b = append(b, byte(Function))
	w.sections[sectionImport] = appendU32(b, w.typeOf(nil))
	return nil
}

// functionSection declares what codeSection adds.
func (w *writer) functionSection() error {
	added := w.twins
	if w.thunk() {
		added = append([]uint32{w.typeOf(nil)}, added...)
	}
	if len(added) == 0 {
		return nil
	}
	b := w.counted(sectionFunction, len(w.m.functions), len(added))
	for _, of := range added {
		b = appendU32(b, of)
	}
	w.sections[sectionFunction] = b
	return nil
}

// tableSection lowers maxima, so that growth is bounded as the declared sizes are.
func (w *writer) tableSection() error {
	own := w.m.tables[w.m.importedTables:]
	if len(own) == 0 {
		return nil
	}
	var total uint64
	for _, t := range w.m.tables {
		total += uint64(t.min)
	}
	var spare uint64
	if all := uint64(w.o.TableEntries); all > total {
		spare = (all - total) / uint64(len(own))
	}
	b := appendU32(nil, uint32(len(own)))
	for _, t := range own {
		most := uint64(t.min) + spare
		if t.bounded {
			most = min(most, uint64(t.max))
		}
		b = append(b, t.of, 1)
		b = appendU32(b, t.min)
		b = appendU32(b, uint32(max(min(most, math.MaxUint32), uint64(t.min))))
	}
	if malformed := w.overfull(own); malformed != nil {
		return malformed
	}
	w.sections[sectionTable] = b
	return nil
}

// overfull refuses tables whose maximum is below their minimum, which lowering would mend.
func (w *writer) overfull(own []limits) error {
	for i, t := range own {
		if t.bounded && t.max < t.min {
			r, _ := w.m.section(sectionTable)
			return r.errorf("table %d: maximum %d is below the minimum %d", i, t.max, t.min)
		}
	}
	return nil
}

func (w *writer) globalSection() error {
	own := w.m.globals[w.m.importedGlobals:]
	b := appendU32(nil, uint32(len(own)+2))
	if r, ok := w.m.section(sectionGlobal); ok {
		p := w.referring(r, b)
		if err := p.globals(nil); err != nil {
			return err
		}
		b = p.done()
	}
	fuel := int64(w.o.Fuel)
	if w.m.hasStart && w.o.Defects.On(defect.SandboxStartUnmetered) {
		fuel = endlessFuel
	}
	b = append(b, I64, 1, opI64Const)
	b = append(appendS64(b, fuel), opEnd)
	w.sections[sectionGlobal] = append(b, I32, 1, opI32Const, 0, opEnd)
	return nil
}

func (w *writer) exportSection() error {
	if err := w.checkExports(); err != nil {
		return err
	}
	var more []byte
	n := 0
	export := func(name string, kind Kind, index uint32) {
		more = appendU32(append(appendName(more, name), byte(kind)), index)
		n++
	}
	export(FuelExport, Global, w.fuel)
	export(DepthExport, Global, w.depth)
	for i, g := range w.m.globals[w.m.importedGlobals:] {
		if !g.mutable {
			continue
		}
		index := w.m.importedGlobals + uint32(i)
		name := fmt.Sprintf("%s%d", GlobalExport, index)
		export(name, Global, index)
		w.info.Globals = append(w.info.Globals, name)
		w.info.WideGlobals = w.info.WideGlobals || g.of == V128
	}
	if w.m.hasStart && w.stripsStart() {
		export(StartExport, Function, w.startIndex())
		w.info.HasStart = true
	}
	b := appendU32(nil, uint32(len(w.m.exports)+n))
	if r, ok := w.m.section(sectionExport); ok {
		p := w.patch(r, b)
		if err := p.exports(nil); err != nil {
			return err
		}
		b = p.done()
	}
	w.sections[sectionExport] = append(b, more...)
	return nil
}

// checkExports refuses globals that only the rewritten module has. Functions are checked as they move, and
// no table or memory is added.
func (w *writer) checkExports() error {
	r, _ := w.m.section(sectionExport)
	for _, e := range w.m.exports {
		if e.kind == Global && e.index >= uint32(len(w.m.globals)) {
			return r.errorf("export %q: global %d of %d", e.name, e.index, len(w.m.globals))
		}
	}
	return nil
}

func (w *writer) startSection() error {
	if !w.m.hasStart {
		return nil
	}
	r, _ := w.m.section(sectionStart)
	if w.m.start >= w.m.functionCount() {
		return r.errorf("start function %d of %d", w.m.start, w.m.functionCount())
	}
	if w.stripsStart() {
		w.dropped[sectionStart] = true
		return nil
	}
	w.sections[sectionStart] = appendU32(nil, w.startIndex())
	return nil
}

func (w *writer) elementSection() error {
	return w.patched(sectionElement, (*patcher).elements)
}

func (w *writer) dataSection() error {
	return w.patched(sectionData, func(p *patcher) error { return p.data(nil) })
}

// patched rewrites a section whose count stays.
func (w *writer) patched(id byte, walk func(*patcher) error) error {
	r, ok := w.m.section(id)
	if !ok {
		return nil
	}
	count := r // the count is read once more by the walk
	n, err := count.u32()
	if err != nil {
		return err
	}
	p := w.referring(r, appendU32(nil, n))
	if err := walk(p); err != nil {
		return err
	}
	w.sections[id] = p.done()
	return nil
}

// patch walks the entries behind a count that b already holds, and moves function indices.
func (w *writer) patch(r reader, b []byte) *patcher {
	return &patcher{reader: r, out: b, functions: w.m.functionCount(), globalCount: uint32(len(w.m.globals)), shift: w.shift}
}

// referring is patch for sections whose function indices are references.
func (w *writer) referring(r reader, b []byte) *patcher {
	p := w.patch(r, b)
	p.shift = func(i uint32) uint32 {
		w.refer(i)
		return w.shift(i)
	}
	return p
}

// assemble joins the sections in their canonical order. Custom sections are dropped: names and debugging
// information speak of offsets and indices that have moved.
func (w *writer) assemble() []byte {
	b := append(make([]byte, 0, len(w.m.wasm)*5/4+256), magic...)
	for _, id := range sectionOrder {
		body := w.sections[id]
		if body == nil {
			r, ok := w.m.section(id)
			if !ok || w.dropped[id] {
				continue
			}
			body = r.rest()
		}
		b = appendU32(append(b, id), uint32(len(body)))
		b = append(b, body...)
	}
	return b
}
