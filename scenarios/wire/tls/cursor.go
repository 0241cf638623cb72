package tls

// cursor reads big-endian fields. After the first short field it is bad for good and gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) number(n int) int {
	v := 0
	for _, b := range c.take(n) {
		v = v<<8 | int(b)
	}
	return v
}

func (c *cursor) u8() uint8     { return uint8(c.number(1)) }
func (c *cursor) u16() uint16   { return uint16(c.number(2)) }
func (c *cursor) u32() uint32   { return uint32(c.number(4)) }
func (c *cursor) vec8() []byte  { return c.take(c.number(1)) }
func (c *cursor) vec16() []byte { return c.take(c.number(2)) }
func (c *cursor) vec24() []byte { return c.take(c.number(3)) }

// more says that a list goes on.
func (c *cursor) more() bool { return !c.bad && len(c.b) > 0 }

// whole says that everything was read and nothing is left.
func (c *cursor) whole() bool { return !c.bad && len(c.b) == 0 }

func append16(b []byte, v uint16) []byte { return append(b, byte(v>>8), byte(v)) }

func append32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func appendVec8(b, v []byte) []byte { return append(append(b, byte(len(v))), v...) }

func appendVec16(b, v []byte) []byte { return append(append16(b, uint16(len(v))), v...) }

func appendVec24(b, v []byte) []byte {
	return append(append(b, byte(len(v)>>16), byte(len(v)>>8), byte(len(v))), v...)
}

// message puts the header of a handshake message before its body.
func message(kind uint8, body []byte) []byte { return appendVec24([]byte{kind}, body) }

// numbers reads a list of 16-bit values that fills b.
func numbers[T ~uint16](b []byte) ([]T, bool) {
	if len(b)%2 != 0 {
		return nil, false
	}
	out := make([]T, 0, len(b)/2)
	for c := (cursor{b: b}); c.more(); {
		out = append(out, T(c.u16()))
	}
	return out, true
}

func appendNumbers[T ~uint16](b []byte, list []T) []byte {
	for _, v := range list {
		b = append16(b, uint16(v))
	}
	return b
}
