package rewrite

import (
	"math"

	"github.com/assay-bench/assay/reference/defect"
)

// function is one function body.
type function struct {
	m       *Module
	groups  reader // of the locals, behind their count
	nGroups uint32
	code    reader // the expression
	locals  uint64 // parameters included
	results []ValueType
	stack   []frame // what is open while the code is walked
}

// function returns the i-th function of the module's own.
func (m *Module) function(i int) (*function, error) {
	s := m.bodies[i]
	r := reader{b: m.wasm, pos: int(s.start), end: int(s.end), name: sectionNames[sectionCode]}
	params, results := m.signature(m.functions[i])
	f := &function{m: m, locals: uint64(len(params)), results: results}
	n, err := r.count(2, math.MaxUint32)
	if err != nil {
		return nil, err
	}
	f.nGroups, f.groups = uint32(n), r
	for range n {
		count, err := r.u32()
		if err != nil {
			return nil, err
		}
		if _, err := r.valueType(); err != nil {
			return nil, err
		}
		f.locals += uint64(count)
	}
	if f.locals > math.MaxUint32-8 { // room for those that are added
		return nil, r.errorf("%d locals", f.locals)
	}
	f.code, f.groups.end = r, r.pos
	return f, nil
}

// frame is a construct that is open while code is read.
type frame struct {
	op     byte   // opBlock for the function itself
	region uint32 // what its opcodes are charged to
	loops  uint32 // open ones, this frame included
}

// walk reads the code and calls each with every instruction and its region. f.stack then holds what is open
// behind the instruction. It checks nesting.
func (f *function) walk(each func(in instruction, region uint32) error) error {
	r := f.code
	f.stack = append(f.stack[:0], frame{op: opBlock})
	var regions uint32
	for len(f.stack) > 0 {
		in, err := r.instruction()
		if err != nil {
			return err
		}
		top := &f.stack[len(f.stack)-1]
		region := top.region
		switch in.op {
		case opBlock, opIf:
			f.stack = append(f.stack, frame{in.op, region, top.loops})
		case opLoop:
			regions++
			f.stack = append(f.stack, frame{in.op, regions, top.loops + 1})
		case opElse:
			if top.op != opIf {
				return r.errorf("else without an if")
			}
			top.op = opElse
		case opEnd:
			f.stack = f.stack[:len(f.stack)-1]
		}
		if each == nil {
			continue
		}
		if err := each(in, region); err != nil {
			return err
		}
	}
	return r.atEnd()
}

// loopsInside counts the loops that a branch to the label leaves. The label must exist.
func (f *function) loopsInside(label uint32) uint32 {
	top := len(f.stack) - 1
	return f.stack[top].loops - f.stack[top-int(label)].loops
}

// region is a stretch of code that is charged at once: a function body or a loop.
type region struct {
	cost   int64
	tables bool // it holds a br_table
}

// shape is what has to be known of a function before it is rewritten.
type shape struct {
	regions []region // the body, then the loops in order
	calls   bool
}

// scan reads the code; s may be nil.
func (f *function) scan(s *shape) error {
	if s == nil {
		return f.walk(nil)
	}
	s.regions = []region{{cost: 1}}
	return f.walk(func(in instruction, at uint32) error {
		r := &s.regions[at]
		switch in.op {
		case opBlock, opNop, opEnd:
			return nil
		case opBrTable:
			r.tables = true
		case opCall, opCallIndirect, opReturnCall, opReturnCallIndirect:
			s.calls = true
		}
		r.cost++
		if in.op == opLoop {
			s.regions = append(s.regions, region{cost: 1})
		}
		return nil
	})
}

// charge is how an instruction is charged besides its share of the region.
type charge byte

const (
	chargeStatic charge = iota // not at all
	chargeLength               // by the operand on top of the stack
	chargeGrowth               // likewise, unless it gives -1
	chargePages                // likewise, in pages
)

func chargeOf(in instruction) charge {
	switch {
	case in.op == opMemoryGrow:
		return chargePages
	case in.op != opMisc:
		return chargeStatic
	}
	switch in.sub {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableFill:
		return chargeLength
	case miscTableGrow:
		return chargeGrowth
	}
	return chargeStatic
}

func (w *writer) codeSection() error {
	n := len(w.m.bodies)
	if w.thunk() {
		n++
	}
	if n == 0 {
		return nil
	}
	b := appendU32(nil, uint32(n))
	for i := range w.m.bodies {
		f, err := w.m.function(i)
		if err != nil {
			return err
		}
		body, err := w.function(f)
		if err != nil {
			return err
		}
		b = append(appendU32(b, uint32(len(body))), body...)
	}
	if w.thunk() {
		call := append(appendU32([]byte{0, opCall}, w.shift(w.m.start)), opEnd)
		b = append(appendU32(b, uint32(len(call))), call...)
	}
	w.sections[sectionCode] = b
	return nil
}

// body writes one function.
type body struct {
	*writer
	f       *function
	s       shape
	out     []byte
	loops   uint32 // seen so far
	closing []int  // heights of the stack at which an added loop ends
	fuel64  uint32 // added local: what is left
	after   uint32 // added local: what an iteration would leave
	frames  uint32 // added local: the depth before this frame
	length  uint32 // added local: the operand of a bulk operation
	result  uint32 // added local: what a growth gave
	depth   bool   // frames are counted
	cached  bool   // fuel64 holds the fuel between charges too
	paired  bool   // a second loop is put around every loop
}

func (w *writer) function(f *function) ([]byte, error) {
	b := &body{writer: w, f: f}
	if err := f.scan(&b.s); err != nil {
		return nil, err
	}
	b.depth = b.s.calls && !w.o.Defects.On(defect.SandboxDepthUnlimited)
	b.cached = len(b.s.regions) > 1 && !w.o.Defects.On(defect.SandboxFuelForgeable)
	b.paired = !w.o.Defects.On(defect.SandboxCPUUnmetered)
	b.out = make([]byte, 0, (f.code.end-f.code.pos)*5/4+64)
	b.writeLocals()
	if b.cached {
		b.fetch()
	}
	if !w.o.Defects.On(defect.SandboxRecursionUnmetered) {
		b.charge(b.s.regions[0].cost)
	}
	if b.depth {
		b.enter()
		b.out = append(b.out, opBlock)
		b.blockType(f.results)
	}
	if err := f.walk(b.instruction); err != nil {
		return nil, err
	}
	return b.out, nil
}

// writeLocals declares the original's locals and two of i64 and three of i32. What is not used costs nothing.
func (b *body) writeLocals() {
	n := uint32(b.f.locals)
	b.fuel64, b.after, b.frames, b.length, b.result = n, n+1, n+2, n+3, n+4
	b.out = append(appendU32(b.out, b.f.nGroups+2), b.f.groups.rest()...)
	b.out = append(b.out, 2, I64, 3, I32)
}

// op writes an opcode with an index.
func (b *body) op(op byte, index uint32) { b.out = appendU32(append(b.out, op), index) }

func (b *body) blockType(results []ValueType) {
	switch len(results) {
	case 0:
		b.out = append(b.out, blockEmpty)
	case 1:
		b.out = append(b.out, results[0])
	default:
		b.out = appendS64(b.out, int64(b.typeOf(results)))
	}
}

// load pushes what is left.
func (b *body) load() {
	if b.cached {
		b.op(opLocalGet, b.fuel64)
	} else {
		b.op(opGlobalGet, b.fuel)
	}
}

// fetch brings the local up to date where the global may have changed: at entry and after calls.
func (b *body) fetch() {
	b.op(opGlobalGet, b.fuel)
	b.op(opLocalSet, b.fuel64)
}

// charge takes a fixed number of units.
func (b *body) charge(units int64) {
	b.load()
	b.out = appendS64(append(b.out, opI64Const), units)
	b.settle()
}

// settle takes the units on top of the stack from the fuel below them, and asks for more when it is used up.
func (b *body) settle() {
	b.out = append(b.out, opI64Sub)
	b.op(opLocalTee, b.fuel64)
	b.op(opGlobalSet, b.fuel)
	b.op(opLocalGet, b.fuel64)
	b.out = append(b.out, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b.op(opCall, b.refill)
	if b.cached {
		b.fetch()
	}
	b.out = append(b.out, opEnd)
	b.info.FuelSites++
}

// chargeLength takes the units that the length local says, times the given factor.
func (b *body) chargeLength(factor int64) {
	b.load()
	b.op(opLocalGet, b.length)
	b.out = append(b.out, opI64ExtendI32U)
	if factor != 1 {
		b.out = append(appendS64(append(b.out, opI64Const), factor), opI64Mul)
	}
	b.settle()
}

// enter counts the frame and traps above the limit.
func (b *body) enter() {
	b.op(opGlobalGet, b.writer.depth)
	b.op(opLocalTee, b.frames)
	b.out = append(b.out, opI32Const, 1, opI32Add)
	b.op(opGlobalSet, b.writer.depth)
	b.op(opLocalGet, b.frames)
	b.out = appendS64(append(b.out, opI32Const), int64(int32(b.o.Depth)))
	b.out = append(b.out, opI32GeU, opIf, blockEmpty, opUnreachable, opEnd)
}

// leave sets the depth back to what it was. Tried: counting down. Lost: each call waits for the count that the
// last one stored.
func (b *body) leave() {
	b.op(opLocalGet, b.frames)
	b.op(opGlobalSet, b.writer.depth)
}

// instruction writes one instruction of the original. The block around the body takes the place of the
// function's own label.
func (b *body) instruction(in instruction, _ uint32) error {
	if err := b.check(in); err != nil {
		return err
	}
	raw := b.m.wasm[in.start:in.end]
	switch in.op {
	case opRefFunc:
		b.op(opRefFunc, b.shift(in.index))
	case opCall:
		b.op(opCall, b.shift(in.index))
		b.returned()
	case opCallIndirect:
		b.out = append(b.out, raw...)
		b.returned()
	case opReturnCall:
		b.leaving()
		b.op(opReturnCall, b.shift(in.index))
	case opReturnCallIndirect:
		b.leaving()
		b.out = append(b.out, raw...)
	case opReturn:
		b.returns()
	case opEnd:
		b.ends()
	case opLoop:
		b.loop(raw)
	case opBr, opBrIf:
		b.op(in.op, b.label(in.index))
	case opBrTable:
		return b.branchTable(in)
	default:
		b.dynamic(in, raw)
	}
	return nil
}

// label is the index that a label has among the added loops.
func (b *body) label(i uint32) uint32 {
	if b.paired {
		i += b.f.loopsInside(i)
	}
	return i
}

// returned follows a call, which has used fuel of its own.
func (b *body) returned() {
	if b.cached {
		b.fetch()
	}
}

// leaving goes before a tail call.
func (b *body) leaving() {
	if b.depth {
		b.leave()
	}
}

func (b *body) returns() {
	if b.depth {
		b.op(opBr, b.label(uint32(len(b.f.stack)-1)))
		return
	}
	b.out = append(b.out, opReturn)
}

func (b *body) ends() {
	b.out = append(b.out, opEnd)
	if n := len(b.closing); n > 0 && b.closing[n-1] == len(b.f.stack) {
		b.closing = b.closing[:n-1]
		b.out = append(b.out, opEnd)
	}
	if len(b.f.stack) == 0 && b.depth {
		b.leave()
		b.out = append(b.out, opEnd)
	}
}

// loop writes the head of a loop. The guest asks for fuel in an outer loop, so that the inner one, which runs
// as often as the original's, holds no call: a call makes the engine keep what lives across it in memory.
//
//	loop                    the outer one, entered again when the fuel does not last
//	  if left < cost
//	    fuel = left - cost
//	    refill
//	    left = fuel + cost  taken again below
//	  end
//	  loop                  the original's
//	    after = left - cost
//	    br_if after < 0     to the outer one
//	    left = fuel = after
//
// Tried: one loop with the call behind an if (1.6 times the original's time on a product of matrices, 1.05
// now), reading the global in each iteration (2.5 on an empty loop, 2.0 now), and storing the fuel only at
// calls and exits (no faster, and what a trap leaves is not exact).
func (b *body) loop(raw []byte) {
	b.loops++
	if !b.paired {
		b.out = append(b.out, raw...)
		return
	}
	cost := b.s.regions[b.loops].cost
	if b.s.regions[b.loops].tables && b.o.Defects.On(defect.SandboxRewriteSkipsBrTable) {
		cost *= 2
	}
	b.refetch()
	b.out = append(b.out, raw...)
	b.lasts(cost)
	b.out = append(b.out, opIf, blockEmpty)
	b.left(opI64Sub, opLocalGet, b.fuel64, cost)
	b.op(opGlobalSet, b.fuel)
	b.op(opCall, b.refill)
	b.left(opI64Add, opGlobalGet, b.fuel, cost)
	b.op(opLocalSet, b.fuel64)
	b.out = append(b.out, opEnd)
	b.out = append(b.out, raw...)
	b.refetch()
	b.left(opI64Sub, opLocalGet, b.fuel64, cost)
	b.op(opLocalTee, b.after)
	b.out = append(b.out, opI64Const, 0, opI64LtS)
	b.op(opBrIf, 1)
	b.op(opLocalGet, b.after)
	b.op(opLocalTee, b.fuel64)
	b.op(opGlobalSet, b.fuel)
	b.closing = append(b.closing, len(b.f.stack)-1)
	b.info.FuelSites++
}

// refetch is for a guest that may set the fuel itself, by a planted defect.
func (b *body) refetch() {
	if !b.cached {
		b.fetch()
	}
}

// lasts pushes whether less than cost is left.
func (b *body) lasts(cost int64) { b.left(opI64LtS, opLocalGet, b.fuel64, cost) }

// left pushes a fuel variable and a constant and combines them.
func (b *body) left(by, from byte, index uint32, units int64) {
	b.op(from, index)
	b.out = append(appendS64(append(b.out, opI64Const), units), by)
}

// branchTable writes br_table with its labels moved. By a planted defect the first label takes the place of
// the default.
func (b *body) branchTable(in instruction) error {
	r := reader{b: b.m.wasm, pos: in.start + 1, end: in.end, name: sectionNames[sectionCode]}
	n, err := r.u32()
	if err != nil {
		return err
	}
	b.op(opBrTable, n)
	var first uint32
	for i := range uint64(n) + 1 {
		l, err := r.u32()
		if err != nil {
			return err
		}
		if i == 0 {
			first = l
		}
		if i == uint64(n) && b.o.Defects.On(defect.SandboxRewriteSkipsBrTable) {
			l = first
		}
		b.out = appendU32(b.out, b.label(l))
	}
	return nil
}

// dynamic writes an instruction together with the charge that depends on its operand.
func (b *body) dynamic(in instruction, raw []byte) {
	c := chargeOf(in)
	if c == chargeStatic || b.o.Defects.On(defect.SandboxBulkUnmetered) {
		b.out = append(b.out, raw...)
		return
	}
	b.op(opLocalTee, b.length)
	b.out = append(b.out, raw...)
	if c == chargeLength {
		b.chargeLength(1)
		return
	}
	b.op(opLocalTee, b.result)
	b.out = append(b.out, opI32Const, 0x7f, opI32Ne, opIf, blockEmpty) // 0x7f is -1: nothing grew
	if c == chargePages {
		b.chargeLength(bytesPerPage)
	} else {
		b.chargeLength(1)
	}
	b.out = append(b.out, opEnd)
	b.op(opLocalGet, b.result)
}

// check refuses indices and labels that the original does not have but the rewritten module does.
func (b *body) check(in instruction) error {
	var what string
	var have uint64
	index := uint64(in.index)
	switch in.op {
	case opCall, opReturnCall, opRefFunc:
		what, have = "function", uint64(b.m.functionCount())
	case opGlobalGet, opGlobalSet:
		if b.o.Defects.On(defect.SandboxFuelForgeable) {
			return nil
		}
		what, have = "global", uint64(len(b.m.globals))
	case opLocalGet, opLocalSet, opLocalTee:
		what, have = "local", b.f.locals
	case opBr, opBrIf, opBrTable:
		what, have = "label", uint64(len(b.f.stack))
	case opCallIndirect, opReturnCallIndirect:
		what, have = "type", uint64(len(b.m.types))
	case opBlock, opLoop, opIf:
		if in.block < 0 {
			return nil
		}
		what, have, index = "type", uint64(len(b.m.types)), uint64(in.block)
	default:
		return nil
	}
	if index >= have {
		r := reader{pos: in.start, name: sectionNames[sectionCode]}
		return r.errorf("%s %d of %d", what, index, have)
	}
	return nil
}
