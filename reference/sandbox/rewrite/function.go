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
	params  uint32
	locals  uint64 // parameters included
	results []ValueType
	stack   []frame // what is open while the code is walked
}

// function returns the i-th function of the module's own.
func (m *Module) function(i int) (*function, error) {
	s := m.bodies[i]
	r := reader{b: m.wasm, pos: int(s.start), end: int(s.end), name: sectionNames[sectionCode]}
	params, results := m.signature(m.functions[i])
	f := &function{m: m, params: uint32(len(params)), locals: uint64(len(params)), results: results}
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
	inside uint32 // frames between this one and the innermost loop
	values bool   // a branch to it carries values
}

// walk reads the code and calls each with every instruction and its region. f.stack then holds what is open
// behind the instruction. It checks nesting.
func (f *function) walk(each func(in instruction, region uint32) error) error {
	r := f.code
	f.stack = append(f.stack[:0], frame{op: opBlock, values: len(f.results) > 0})
	var regions uint32
	for len(f.stack) > 0 {
		in, err := r.instruction()
		if err != nil {
			return err
		}
		region := f.stack[len(f.stack)-1].region
		if in.op == opLoop {
			regions++
		}
		if !f.step(in, regions) {
			return r.errorf("else without an if")
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

// step opens or closes what the instruction does; a loop gets the given region. It says false of an else
// without an if.
func (f *function) step(in instruction, region uint32) bool {
	top := &f.stack[len(f.stack)-1]
	switch in.op {
	case opBlock, opIf:
		f.stack = append(f.stack, frame{in.op, top.region, top.loops, top.inside + 1, f.m.carries(in)})
	case opLoop:
		f.stack = append(f.stack, frame{in.op, region, top.loops + 1, 0, f.m.carries(in)})
	case opElse:
		if top.op != opIf {
			return false
		}
		top.op = opElse
	case opEnd:
		f.stack = f.stack[:len(f.stack)-1]
	}
	return true
}

// carries says whether a branch to the label of the construct carries values. A type that is not there does.
func (m *Module) carries(in instruction) bool {
	if in.block < 0 {
		return in.op != opLoop && in.block != blockVoid
	}
	if in.block >= int64(len(m.types)) {
		return true
	}
	params, results := m.signature(uint32(in.block))
	if in.op == opLoop {
		return len(params) > 0
	}
	return len(results) > 0
}

// loopsInside counts the loops that a branch to the label leaves. The label must exist.
func (f *function) loopsInside(label uint32) uint32 {
	top := len(f.stack) - 1
	return f.stack[top].loops - f.stack[top-int(label)].loops
}

// region is a function body or the code of a loop. It is charged at its head, and once more before calls that
// stand far behind the last charge: what they call may come to no test of its own.
type region struct {
	cost       int64 // of what is charged at the head
	further    []further
	start, end int  // of a loop: offsets of its body, and of the end behind it
	tables     bool // it holds a br_table
	calls      bool
	nests      bool // it holds a loop
	dynamic    bool // it holds an instruction that is charged by an operand
	fixed      bool // its code can not be written several times; see shape.see
}

// further is a charge behind the head.
type further struct {
	at   int // offset of the instruction before which it stands
	cost int64
}

// mostAtOnce is about the most units that are charged at once where calls follow.
const mostAtOnce = 10_000

func (r *region) add(units int64) {
	if n := len(r.further); n > 0 {
		r.further[n-1].cost += units
		return
	}
	r.cost += units
}

// split begins another charge before a call.
func (r *region) split(at int) {
	last := r.cost
	if n := len(r.further); n > 0 {
		last = r.further[n-1].cost
	}
	if last >= mostAtOnce {
		r.further = append(r.further, further{at: at})
	}
}

// shape is what has to be known of a function before it is rewritten.
type shape struct {
	regions []region // the body, then the loops in order
	calls   bool
}

// scan reads the code; s and each may be nil.
func (f *function) scan(s *shape, each func(in instruction, at *region)) error {
	if s == nil {
		return f.walk(nil)
	}
	s.regions = []region{{cost: 1}}
	return f.walk(func(in instruction, at uint32) error {
		s.see(f, in, at)
		if each != nil {
			each(in, &s.regions[at])
		}
		return nil
	})
}

// see counts an instruction. Copies of a loop leave it by branches that settle the fuel on their way, for which
// a conditional branch must carry no values, and a table of branches must stay inside.
func (s *shape) see(f *function, in instruction, at uint32) {
	r := &s.regions[at]
	switch in.op {
	case opBlock, opNop:
		return
	case opEnd:
		if r.start > 0 && (len(f.stack) == 0 || f.stack[len(f.stack)-1].region != at) {
			r.end = in.start
		}
		return
	case opBrTable:
		r.tables = true
		r.fixed = r.fixed || in.index > f.stack[len(f.stack)-1].inside
	case opBrIf:
		r.fixed = r.fixed || f.exits(in.index) && f.stack[len(f.stack)-1-int(in.index)].values
	case opCall, opCallIndirect, opReturnCall, opReturnCallIndirect:
		s.calls, r.calls = true, true
		r.split(in.start)
	case opLoop:
		r.nests = true
		s.regions = append(s.regions, region{cost: 1, start: in.end, fixed: in.block != blockVoid})
		r = &s.regions[at]
	}
	r.add(1)
	r.dynamic = r.dynamic || chargeOf(in) != chargeStatic
}

// exits says whether a branch to the label leaves the innermost loop.
func (f *function) exits(label uint32) bool {
	return label > f.stack[len(f.stack)-1].inside && int(label) < len(f.stack)
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
	if err := w.findPrepaid(); err != nil {
		return err
	}
	var b, twins []byte
	for i := range w.m.bodies {
		f, err := w.m.function(i)
		if err != nil {
			return err
		}
		twin := w.twin(i, f)
		if b, err = w.appendFunction(b, &body{writer: w, f: f, own: i, twin: twin}); err != nil {
			return err
		}
		if twin == 0 {
			continue
		}
		if twins, err = w.appendFunction(twins, &body{writer: w, f: f, own: i, second: true}); err != nil {
			return err
		}
	}
	if w.thunk() {
		call := append(appendU32([]byte{0, opCall}, w.shift(w.m.start)), opEnd)
		b = append(appendU32(b, uint32(len(call))), call...)
	}
	b = append(appendU32(nil, uint32(n+len(w.twins))), append(b, twins...)...)
	w.sections[sectionCode] = b
	return nil
}

func (w *writer) appendFunction(to []byte, b *body) ([]byte, error) {
	if err := b.write(); err != nil {
		return nil, err
	}
	return append(appendU32(to, uint32(len(b.out))), b.out...), nil
}

// body writes one function.
type body struct {
	*writer
	f       *function
	own     int    // which of the module's own functions it is
	twin    uint32 // index of its second form; 0: there is none
	second  bool   // this is the second form; see twin.go
	s       shape
	out     []byte
	loops   uint32     // seen so far
	open    []openLoop // the loops that are being written
	left    uint32     // added local: the fuel, inside an innermost loop
	frames  uint32     // added local: the depth before this frame
	length  uint32     // added local: the operand of a bulk operation
	result  uint32     // added local: what a growth gave
	depth   bool       // frames are counted
	paired  bool       // loops are charged, in the form that loop.go shows
	paidFor bool       // callers are charged for the body
}

// write writes the function.
func (b *body) write() error {
	if err := b.f.scan(&b.s, b.prepay); err != nil {
		return err
	}
	b.paidFor = b.prepaid[b.own] > 0
	b.depth = b.s.calls && !b.second && !b.o.Defects.On(defect.SandboxDepthUnlimited)
	b.paired = !b.o.Defects.On(defect.SandboxCPUUnmetered)
	b.out = make([]byte, 0, (b.f.code.end-b.f.code.pos)*5/4+64)
	b.writeLocals()
	b.entry()
	return b.f.walk(b.instruction)
}

// entry charges the body and counts its frame. A block of the function's results takes the place of its label.
// A body that callers pay for is not charged; see payment.go. A small one that calls nothing outside of its loops
// ends soon, or meets the test of a loop, and needs no test of its own.
func (b *body) entry() {
	cost := b.s.regions[0].cost
	switch {
	case b.o.Defects.On(defect.SandboxRecursionUnmetered), b.paidFor:
	case !b.second && (b.s.regions[0].calls || cost > mostUntested):
		b.takeOrBeginAgain(cost)
		b.info.FuelSites++
	default:
		b.take(cost)
		b.op(opGlobalSet, b.fuel)
		b.info.FuelSites++
	}
	if b.depth {
		b.enter()
		b.out = append(b.out, opBlock)
		b.blockType(b.f.results)
	}
}

// takeOrBeginAgain takes what the body costs. Where it is not there, the guest asks for more, and the function
// begins again, as a call from inside itself:
//
//	left = fuel = fuel - cost
//	if left < 0
//	  refill
//	  fuel = fuel + cost
//	  return this function (its parameters)
//	end
//
// The call is a tail call where the guest has others: calls that leave no frames still leave none.
//
// Tried: a loop around the body that is entered again (1.19 times the original's time on fib without optimisation,
// 1.13 now), and the call behind the body (1.21 on fib-twice, 1.12 now: spilled values lie across cache lines).
// The engine takes all that a loop's head dominates for a part of the loop, and keeps alive what is alive there.
func (b *body) takeOrBeginAgain(cost int64) {
	b.take(cost)
	b.op(opLocalTee, b.left)
	b.op(opGlobalSet, b.fuel)
	b.usedUp()
	b.out = append(b.out, opIf, blockEmpty)
	b.askFor(cost)
	for i := range b.f.params {
		b.op(opLocalGet, i)
	}
	b.op(b.again, b.shift(b.m.importedFunctions+uint32(b.own)))
	b.out = append(b.out, opReturn, opEnd)
}

// exitBody ends what entry began.
func (b *body) exitBody() {
	b.leaving()
	if b.depth {
		b.out = append(b.out, opEnd)
	}
}

// takeOr takes a fixed number of units and branches to the label when they are not there.
func (b *body) takeOr(units int64, label uint32) {
	b.take(units)
	b.op(opLocalTee, b.left)
	b.op(opGlobalSet, b.fuel)
	b.usedUp()
	b.op(opBrIf, label)
}

// refuel is where takeOr branches to: it asks for more and enters the loop around it again.
func (b *body) refuel(units int64) {
	b.askFor(units)
	b.op(opBr, 0)
}

// askFor asks for more, and gives back units that are taken again.
func (b *body) askFor(units int64) {
	b.op(opCall, b.refill)
	b.giveBack(units)
}

// writeLocals declares the original's locals and one of i64 and three of i32. What is not used costs nothing.
func (b *body) writeLocals() {
	n := uint32(b.f.locals)
	b.left, b.frames, b.length, b.result = n, n+1, n+2, n+3
	b.out = append(appendU32(b.out, b.f.nGroups+2), b.f.groups.rest()...)
	b.out = append(b.out, 1, I64, 3, I32)
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

// charge takes a fixed number of units.
func (b *body) charge(units int64) {
	b.take(units)
	b.settle()
}

// take pushes what the fuel is without the given units.
func (b *body) take(units int64) { b.sum(opGlobalGet, b.fuel, -units) }

// sum pushes a variable of i64 and adds a constant. A negative one is subtracted: engines make an operand of it.
func (b *body) sum(get byte, index uint32, units int64) {
	b.op(get, index)
	op := byte(opI64Add)
	if units < 0 {
		units, op = -units, opI64Sub
	}
	b.out = append(appendS64(append(b.out, opI64Const), units), op)
}

// settle makes the number on the stack the fuel, and asks for more when it is used up.
func (b *body) settle() {
	b.op(opLocalTee, b.left)
	b.op(opGlobalSet, b.fuel)
	b.usedUp()
	b.out = append(b.out, opIf, blockEmpty)
	b.op(opCall, b.refill)
	b.out = append(b.out, opEnd)
}

// usedUp pushes whether the local holds less than nothing.
func (b *body) usedUp() {
	b.op(opLocalGet, b.left)
	b.out = append(b.out, opI64Const, 0, opI64LtS)
}

// chargeLength takes the units that the length local says, times the given factor.
func (b *body) chargeLength(factor int64) {
	b.op(opGlobalGet, b.fuel)
	b.op(opLocalGet, b.length)
	b.out = append(b.out, opI64ExtendI32U)
	if factor != 1 {
		b.out = append(appendS64(append(b.out, opI64Const), factor), opI64Mul)
	}
	b.out = append(b.out, opI64Sub)
	b.settle()
	b.info.FuelSites++
}

// enter counts the frame, or two, and traps above the limit.
func (b *body) enter() {
	frames := byte(1)
	if b.twin != 0 {
		frames = 2
	}
	b.op(opGlobalGet, b.writer.depth)
	b.op(opLocalTee, b.frames)
	b.out = append(b.out, opI32Const, frames, opI32Add)
	b.op(opGlobalSet, b.writer.depth)
	b.op(opLocalGet, b.frames)
	b.out = appendS64(append(b.out, opI32Const), int64(int32(b.o.Depth-uint32(frames-1))))
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
func (b *body) instruction(in instruction, at uint32) error {
	if err := b.check(in); err != nil {
		return err
	}
	if r := &b.s.regions[at]; len(r.further) > 0 && r.further[0].at == in.start {
		b.charge(r.further[0].cost)
		b.info.FuelSites++
		r.further = r.further[1:]
	}
	raw := b.m.wasm[in.start:in.end]
	switch in.op {
	case opRefFunc:
		b.op(opRefFunc, b.shift(in.index))
	case opCall:
		b.op(opCall, b.callee(in.index))
	case opReturnCall:
		b.leaving()
		b.op(opReturnCall, b.shift(in.index))
	case opReturnCallIndirect:
		b.leaving()
		b.out = append(b.out, raw...)
	case opReturn:
		b.returns()
	case opEnd:
		return b.ends()
	case opLoop:
		b.loop(raw)
	case opBr:
		b.exit(in.index)
		b.op(opBr, b.label(in.index))
	case opBrIf:
		b.branchIf(in.index)
	case opBrTable:
		return b.branchTable(in)
	default:
		b.dynamic(in, raw)
	}
	return nil
}

// leaving goes before a tail call and the end.
func (b *body) leaving() {
	if b.depth {
		b.leave()
	}
}

func (b *body) returns() {
	b.exit(uint32(len(b.f.stack) - 1))
	if b.depth {
		b.op(opBr, b.label(uint32(len(b.f.stack)-1)))
	} else {
		b.out = append(b.out, opReturn)
	}
}

func (b *body) ends() error {
	if n := len(b.open); n > 0 && b.open[n-1].height == len(b.f.stack) {
		return b.closeLoop()
	}
	b.out = append(b.out, opEnd)
	if len(b.f.stack) == 0 {
		b.exitBody()
	}
	return nil
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
