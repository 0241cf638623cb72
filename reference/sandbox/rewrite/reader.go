package rewrite

import (
	"fmt"
	"unicode/utf8"
)

// FormatError says where the bytes of a module stop making sense.
type FormatError struct {
	Section string // "header", "type", "code", …
	Offset  int    // in the module, in bytes
	Reason  string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("section %s, offset %d: %s", e.Section, e.Offset, e.Reason)
}

// reader reads a part of a module. It is a value: a copy reads on from the same place.
type reader struct {
	b        []byte // the whole module, so that positions are offsets
	pos, end int
	name     string // of the section
}

func (r *reader) errorf(format string, args ...any) error {
	return &FormatError{Section: r.name, Offset: r.pos, Reason: fmt.Sprintf(format, args...)}
}

// rest returns what is not read yet.
func (r *reader) rest() []byte { return r.b[r.pos:r.end] }

func (r *reader) byte() (byte, error) {
	if r.pos >= r.end {
		return 0, r.errorf("unexpected end")
	}
	c := r.b[r.pos]
	r.pos++
	return c, nil
}

// skip moves over n bytes.
func (r *reader) skip(n uint64) error {
	if n > uint64(r.end-r.pos) {
		return r.errorf("%d bytes wanted, %d left", n, r.end-r.pos)
	}
	r.pos += int(n)
	return nil
}

// u32 reads an unsigned LEB128 number of at most 32 bits and 5 bytes.
func (r *reader) u32() (uint32, error) {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c, err := r.byte()
		if err != nil {
			return 0, err
		}
		if shift == 28 && c > 0x0f {
			return 0, r.errorf("number of more than 32 bits")
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v, nil
		}
	}
	return 0, r.errorf("number of more than 5 bytes")
}

// signed reads a signed LEB128 number of at most the given length in bytes.
func (r *reader) signed(length int) (int64, error) {
	var v int64
	shift := 0
	for range length {
		c, err := r.byte()
		if err != nil {
			return 0, err
		}
		v |= int64(c&0x7f) << shift
		shift += 7
		if c < 0x80 {
			if c&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v, nil
		}
	}
	return 0, r.errorf("number of more than %d bytes", length)
}

// count reads the length of a vector whose entries have at least the given size, so that nothing is
// allocated for entries that can not be there.
func (r *reader) count(size int, most uint32) (int, error) {
	n, err := r.u32()
	if err != nil {
		return 0, err
	}
	if uint64(n)*uint64(size) > uint64(r.end-r.pos) {
		return 0, r.errorf("%d entries do not fit into %d bytes", n, r.end-r.pos)
	}
	if n > most {
		return 0, r.errorf("%d entries, at most %d are read", n, most)
	}
	return int(n), nil
}

// text reads a name.
func (r *reader) text() (string, error) {
	n, err := r.u32()
	if err != nil {
		return "", err
	}
	from := r.pos
	if err := r.skip(uint64(n)); err != nil {
		return "", err
	}
	if !utf8.Valid(r.b[from:r.pos]) {
		return "", r.errorf("a name that is not UTF-8")
	}
	return string(r.b[from:r.pos]), nil
}

func (r *reader) atEnd() error {
	if r.pos != r.end {
		return r.errorf("%d bytes left over", r.end-r.pos)
	}
	return nil
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, name string) []byte {
	return append(appendU32(b, uint32(len(name))), name...)
}
