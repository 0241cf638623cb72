package rewrite

// Opcodes that the package names. The others are read by range.
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opDrop               = 0x1a
	opSelect             = 0x1b
	opSelectTyped        = 0x1c
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableSet           = 0x26
	opFirstMemory        = 0x28
	opLastMemory         = 0x3e
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opF32Const           = 0x43
	opF64Const           = 0x44
	opFirstNumeric       = 0x45
	opI32Ne              = 0x47
	opI32GeU             = 0x4f
	opI64LtS             = 0x53
	opI32Add             = 0x6a
	opI32Sub             = 0x6b
	opI32Mul             = 0x6c
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64Mul             = 0x7e
	opI64ExtendI32U      = 0xad
	opLastNumeric        = 0xc4
	opRefNull            = 0xd0
	opRefIsNull          = 0xd1
	opRefFunc            = 0xd2
	opMisc               = 0xfc
	opVector             = 0xfd

	blockEmpty = 0x40 // the block type without a result
	blockVoid  = -64  // the same as it is read
)

// Opcodes behind opMisc.
const (
	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableFill  = 17
)

// Opcodes behind opVector.
const (
	vectorConst   = 12
	vectorShuffle = 13
)

// vectorHoles are the numbers below 0x100 that SIMD leaves free.
const vectorHoles = "\x9a\xa2\xa5\xa6\xaf\xb0\xb2\xb3\xb4\xbb\xc2\xc5\xc6\xcf\xd0\xd2\xd3\xd4\xe2\xee"

// instruction is one opcode with what matters of its immediates.
type instruction struct {
	op         byte
	sub        uint32 // behind opMisc and opVector
	start, end int    // offsets
	index      uint32 // local, global, function, type of an indirect call; of br_table the highest label
	block      int64  // block type: negative, or the index of a type
}

// instruction reads one instruction. An opcode that is not known is an error.
func (r *reader) instruction() (instruction, error) {
	start := r.pos
	op, err := r.byte()
	if err != nil {
		return instruction{}, err
	}
	in, err := r.immediates(op)
	in.start, in.end = start, r.pos
	return in, err
}

// immediates reads what follows the opcode.
func (r *reader) immediates(op byte) (in instruction, err error) {
	in.op = op
	switch {
	case op >= opFirstNumeric && op <= opLastNumeric:
	case op >= opFirstMemory && op <= opLastMemory:
		err = r.memarg()
	case op >= opLocalGet && op <= opTableSet, op == opBr, op == opBrIf, op == opCall, op == opReturnCall, op == opRefFunc:
		in.index, err = r.u32()
	default:
		err = r.special(&in)
	}
	return in, err
}

// special reads the immediates of opcodes outside the large ranges.
func (r *reader) special(in *instruction) (err error) {
	switch in.op {
	case opUnreachable, opNop, opElse, opEnd, opReturn, opDrop, opSelect, opRefIsNull:
	case opBlock, opLoop, opIf:
		in.block, err = r.blockType()
	case opBrTable:
		in.index, err = r.labels()
	case opCallIndirect, opReturnCallIndirect:
		if in.index, err = r.u32(); err == nil {
			_, err = r.u32()
		}
	case opSelectTyped:
		_, err = r.valueTypes()
	case opMemorySize, opMemoryGrow:
		err = r.zero()
	case opI32Const:
		_, err = r.signed(5)
	case opI64Const:
		_, err = r.signed(10)
	case opF32Const:
		err = r.skip(4)
	case opF64Const:
		err = r.skip(8)
	case opRefNull:
		_, err = r.refType()
	case opMisc:
		in.sub, err = r.misc()
	case opVector:
		in.sub, err = r.vector()
	default:
		r.pos--
		err = r.errorf("unknown opcode 0x%02x", in.op)
	}
	return err
}

// zero reads the byte that stands for memory 0.
func (r *reader) zero() error {
	c, err := r.byte()
	if err == nil && c != 0 {
		err = r.errorf("memory %d", c)
	}
	return err
}

func (r *reader) memarg() error {
	align, err := r.u32()
	if err != nil {
		return err
	}
	if align >= 0x40 {
		return r.errorf("alignment 2^%d (several memories are not supported)", align)
	}
	_, err = r.u32()
	return err
}

func (r *reader) blockType() (int64, error) {
	t, err := r.signed(5)
	if err != nil || t >= 0 {
		return t, err
	}
	switch byte(t & 0x7f) {
	case blockEmpty, I32, I64, F32, F64, V128, Funcref, Externref:
		if t >= -64 {
			return t, nil
		}
	}
	return 0, r.errorf("unknown block type %d", t)
}

// labels reads the vector and the default of br_table and returns the highest label.
func (r *reader) labels() (uint32, error) {
	n, err := r.count(1, ^uint32(0))
	if err != nil {
		return 0, err
	}
	var most uint32
	for range n + 1 {
		l, err := r.u32()
		if err != nil {
			return 0, err
		}
		most = max(most, l)
	}
	return most, nil
}

// prefixed reads the opcode behind a prefix, in its shortest form: engines differ in how they read others.
func (r *reader) prefixed() (uint32, error) {
	from := r.pos
	sub, err := r.u32()
	if err != nil {
		return 0, err
	}
	if short := len(appendU32(nil, sub)); r.pos-from != short {
		return 0, r.errorf("opcode %d behind a prefix in %d bytes", sub, r.pos-from)
	}
	return sub, nil
}

func (r *reader) misc() (uint32, error) {
	sub, err := r.prefixed()
	if err != nil {
		return 0, err
	}
	indices := 1
	switch {
	case sub < miscMemoryInit: // saturating truncation
		indices = 0
	case sub == miscMemoryInit, sub == miscMemoryCopy, sub == miscTableInit, sub == miscTableCopy:
		indices = 2
	case sub > miscTableFill:
		return 0, r.errorf("unknown opcode 0xfc %d", sub)
	}
	for range indices {
		if _, err := r.u32(); err != nil {
			return 0, err
		}
	}
	return sub, nil
}

func (r *reader) vector() (uint32, error) {
	sub, err := r.prefixed()
	if err != nil {
		return 0, err
	}
	switch {
	case sub == vectorConst, sub == vectorShuffle:
		err = r.skip(16)
	case sub < vectorConst, sub == 0x5c, sub == 0x5d: // loads and stores
		err = r.memarg()
	case sub >= 0x54 && sub <= 0x5b: // loads and stores of a lane
		if err = r.memarg(); err == nil {
			err = r.skip(1)
		}
	case sub >= 0x15 && sub <= 0x22: // lane access
		err = r.skip(1)
	case sub > 0xff || hole(sub):
		err = r.errorf("unknown opcode 0xfd %d", sub)
	}
	return sub, err
}

func hole(sub uint32) bool {
	for i := range len(vectorHoles) {
		if uint32(vectorHoles[i]) == sub {
			return true
		}
	}
	return false
}
