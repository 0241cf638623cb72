package sandbox

import "encoding/binary"

// mutates says whether the code of a valid module may change a table or drop a segment: state that a reset
// cannot restore. What it does not understand, it takes for a change.
func mutates(wasm []byte) bool {
	const header, codeSection = 8, 10
	for c := (cursor{b: wasm, at: header}); c.more(); {
		id := c.byte()
		size := c.uint()
		if c.bad || size > uint64(len(c.b)-c.at) {
			return true
		}
		if id == codeSection {
			return (&cursor{b: c.b[c.at : c.at+int(size)]}).code()
		}
		c.skip(size)
	}
	return false
}

// cursor reads the binary format. After bad is set every read is 0.
type cursor struct {
	b   []byte
	at  int
	bad bool
}

func (c *cursor) more() bool { return !c.bad && c.at < len(c.b) }

func (c *cursor) skip(n uint64) {
	if n > uint64(len(c.b)-c.at) {
		c.bad = true
		return
	}
	c.at += int(n)
}

func (c *cursor) byte() byte {
	if !c.more() {
		c.bad = true
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

// uint reads a LEB128 number; of signed ones only the length is right.
func (c *cursor) uint() uint64 {
	if c.bad {
		return 0
	}
	v, n := binary.Uvarint(c.b[c.at:])
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.at += n
	return v
}

func (c *cursor) uints(n uint64) {
	for ; n > 0 && !c.bad; n-- {
		c.uint()
	}
}

// code reads the bodies of the code section.
func (c *cursor) code() bool {
	for bodies := c.uint(); bodies > 0 && !c.bad; bodies-- {
		size := c.uint()
		if c.bad || size > uint64(len(c.b)-c.at) {
			return true
		}
		body := cursor{b: c.b[c.at : c.at+int(size)]}
		for groups := body.uint(); groups > 0 && !body.bad; groups-- {
			body.uint()
			body.byte()
		}
		for body.more() {
			if body.instruction() {
				return true
			}
		}
		if body.bad {
			return true
		}
		c.skip(size)
	}
	return c.bad
}

// instruction reads one and says whether it changes a table or a segment.
func (c *cursor) instruction() bool {
	switch op := c.byte(); {
	case op == 0x26: // table.set
		return true
	case op >= 0x02 && op <= 0x04, op == 0x0c, op == 0x0d, op == 0x10, op == 0x12, op >= 0x20 && op <= 0x25,
		op >= 0x3f && op <= 0x42, op == 0xd0, op == 0xd2:
		c.uint()
	case op == 0x11, op == 0x13, op >= 0x28 && op <= 0x3e:
		c.uints(2)
	case op == 0x0e: // br_table: the labels and the default
		n := c.uint()
		c.uints(n)
		c.uint()
	case op == 0x1c: // select with types
		c.uints(c.uint())
	case op == 0x43:
		c.skip(4)
	case op == 0x44:
		c.skip(8)
	case op == 0xfc:
		return c.bulk()
	case op == 0xfd:
		c.vector()
	case op <= 0x01, op == 0x05, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	default:
		return true
	}
	return false
}

func (c *cursor) bulk() bool {
	switch sub := c.uint(); sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
	case 8, 10: // memory.init, memory.copy
		c.uints(2)
	case 11, 16: // memory.fill, table.size
		c.uint()
	default: // data.drop, table.init, elem.drop, table.copy, table.grow, table.fill
		return true
	}
	return false
}

func (c *cursor) vector() {
	switch sub := c.uint(); {
	case sub <= 11, sub == 92, sub == 93:
		c.uints(2)
	case sub == 12, sub == 13:
		c.skip(16)
	case sub >= 21 && sub <= 34:
		c.skip(1)
	case sub >= 84 && sub <= 91:
		c.uints(2)
		c.skip(1)
	}
}
