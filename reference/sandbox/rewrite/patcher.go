package rewrite

import "strings"

// patcher walks a section and, where shift is set, copies it to out with every function index moved.
type patcher struct {
	reader
	out         []byte
	from        int                 // what is not copied yet begins here
	functions   uint32              // indices from here on are refused
	globalCount uint32              // likewise
	shift       func(uint32) uint32 // nil: the section is only read
}

// entries reads the count of a section; out holds the one of the copy.
func (p *patcher) entries(size int) (int, error) {
	n, err := p.count(size, maxEntries)
	p.from = p.pos
	return n, err
}

// done returns the copy.
func (p *patcher) done() []byte { return append(p.out, p.b[p.from:p.pos]...) }

// function reads a function index.
func (p *patcher) function() (uint32, error) {
	at := p.pos
	i, err := p.u32()
	if err != nil {
		return 0, err
	}
	if i >= p.functions {
		return 0, p.errorf("function %d of %d", i, p.functions)
	}
	if p.shift != nil {
		p.out = appendU32(append(p.out, p.b[p.from:at]...), p.shift(i))
		p.from = p.pos
	}
	return i, nil
}

// constant reads a constant expression, extended constants included.
func (p *patcher) constant() error {
	for {
		op, err := p.byte()
		if err != nil {
			return err
		}
		switch op {
		case opEnd:
			return nil
		case opRefFunc:
			_, err = p.function()
		case opGlobalGet:
			err = p.globalIndex()
		case opI32Const, opI64Const, opF32Const, opF64Const, opRefNull, opI32Add, opI32Sub, opI32Mul, opI64Add, opI64Sub, opI64Mul:
			_, err = p.immediates(op)
		case opVector:
			err = p.vectorConstant()
		default:
			err = p.errorf("opcode 0x%02x in a constant expression", op)
		}
		if err != nil {
			return err
		}
	}
}

func (p *patcher) globalIndex() error {
	i, err := p.u32()
	if err == nil && i >= p.globalCount {
		err = p.errorf("global %d of %d", i, p.globalCount)
	}
	return err
}

func (p *patcher) vectorConstant() error {
	in, err := p.immediates(opVector)
	if err == nil && in.sub != vectorConst {
		err = p.errorf("vector opcode %d in a constant expression", in.sub)
	}
	return err
}

func (p *patcher) globals(each func(global)) error {
	n, err := p.entries(4)
	for ; err == nil && n > 0; n-- {
		var g global
		if g, err = p.globalType(); err != nil {
			return err
		}
		if err = p.constant(); err == nil && each != nil {
			each(g)
		}
	}
	return err
}

func (p *patcher) exports(each func(exported)) error {
	n, err := p.entries(3)
	for ; err == nil && n > 0; n-- {
		var e exported
		if e, err = p.export(); err == nil && each != nil {
			each(e)
		}
	}
	return err
}

func (p *patcher) export() (e exported, err error) {
	if e.name, err = p.text(); err != nil {
		return e, err
	}
	if strings.HasPrefix(e.name, reserved) {
		return e, p.errorf("export %.80q: the name is reserved", e.name)
	}
	kind, err := p.byte()
	if err != nil {
		return e, err
	}
	switch e.kind = Kind(kind); e.kind {
	case Function:
		e.index, err = p.function()
	case Table, Memory, Global:
		e.index, err = p.u32()
	default:
		err = p.errorf("export %.80q: unknown %s", e.name, e.kind)
	}
	return e, err
}

func (p *patcher) elements() error {
	n, err := p.entries(2)
	for ; err == nil && n > 0; n-- {
		err = p.element()
	}
	return err
}

// element reads one segment. Bits of its flags: 1 not active; 2 a table index, or declarative; 4 expressions.
func (p *patcher) element() error {
	flags, err := p.u32()
	if err != nil {
		return err
	}
	if flags > 7 {
		return p.errorf("unknown element segment %d", flags)
	}
	if flags&1 == 0 {
		if flags&2 != 0 {
			if _, err := p.u32(); err != nil {
				return err
			}
		}
		if err := p.constant(); err != nil {
			return err
		}
	}
	if err := p.elementKind(flags); err != nil {
		return err
	}
	n, err := p.count(1, ^uint32(0))
	for ; err == nil && n > 0; n-- {
		if flags&4 != 0 {
			err = p.constant()
		} else {
			_, err = p.function()
		}
	}
	return err
}

// elementKind reads what the entries are, which forms 0 and 4 do not say.
func (p *patcher) elementKind(flags uint32) error {
	switch {
	case flags&3 == 0:
		return nil
	case flags&4 != 0:
		_, err := p.refType()
		return err
	}
	kind, err := p.byte()
	if err == nil && kind != 0 {
		err = p.errorf("unknown element kind %d", kind)
	}
	return err
}

func (p *patcher) data(each func(bytes uint32)) error {
	n, err := p.entries(2)
	for ; err == nil && n > 0; n-- {
		var size uint32
		if size, err = p.segment(); err == nil && each != nil {
			each(size)
		}
	}
	return err
}

// segment reads one data segment: active, passive, or active with a memory index.
func (p *patcher) segment() (uint32, error) {
	flags, err := p.u32()
	if err != nil {
		return 0, err
	}
	if flags > 2 {
		return 0, p.errorf("unknown data segment %d", flags)
	}
	if flags == 2 {
		if _, err := p.u32(); err != nil {
			return 0, err
		}
	}
	if flags != 1 {
		if err := p.constant(); err != nil {
			return 0, err
		}
	}
	size, err := p.u32()
	if err != nil {
		return 0, err
	}
	return size, p.skip(uint64(size))
}
