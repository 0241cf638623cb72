package wire

import (
	"encoding/binary"

	"github.com/cloudwego/gopkg/protocol/thrift"
)

// Filler supplies the bytes of a message whose length is not known beforehand.
type Filler interface {
	// Fill returns the message from its first byte on, at least n bytes of it, or an error, which the
	// scanner passes on unchanged. An earlier result is invalid afterwards.
	Fill(n int) ([]byte, error)
}

// scanner walks over a Thrift binary message without building anything. It proves that every length
// and count fits, that nesting is bounded, and where the message ends, so that the decoders behind
// it need no limits of their own. The same code walks a complete frame (fill is nil) and a stream.
type scanner struct {
	buf   []byte
	pos   int
	limit int // the message ends at or before this offset
	depth int // levels open now
	rules *Rules
	fill  Filler

	nameAt   int // offset of the method name, once read
	badCount int // offset of the count that could not fit, once Scan failed with ReasonContainer
}

// need makes sure that n more bytes are in buf.
func (s *scanner) need(n int) error {
	if n <= len(s.buf)-s.pos {
		return nil
	}
	if n > s.limit-s.pos {
		return s.overrun(n)
	}
	if s.fill == nil {
		return refuse(ReasonTruncated, "%d bytes wanted at offset %d of %d", n, s.pos, len(s.buf))
	}
	buf, err := s.fill.Fill(s.pos + n)
	if err != nil {
		return err
	}
	s.buf = buf
	return nil
}

func (s *scanner) overrun(n int) error {
	if s.fill != nil {
		return refuse(ReasonTooLarge, "the message needs more than %d bytes", s.limit)
	}
	return refuse(ReasonTruncated, "%d bytes wanted at offset %d of %d", n, s.pos, s.limit)
}

func (s *scanner) skip(n int) error {
	if err := s.need(n); err != nil {
		return err
	}
	s.pos += n
	return nil
}

// size reads an i32 that must not be negative.
func (s *scanner) size() (int, error) {
	if err := s.need(4); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(s.buf[s.pos:]))
	if n < 0 {
		return 0, refuse(ReasonMalformed, "negative size %d at offset %d", n, s.pos)
	}
	s.pos += 4
	return int(n), nil
}

func (s *scanner) open() error {
	if s.depth++; s.depth > s.rules.MaxDepth {
		return refuse(ReasonNesting, "more than %d levels at offset %d", s.rules.MaxDepth, s.pos)
	}
	return nil
}

func (s *scanner) structure() error {
	if err := s.open(); err != nil {
		return err
	}
	for {
		if err := s.need(1); err != nil {
			return err
		}
		t := thrift.TType(s.buf[s.pos])
		s.pos++
		if t == thrift.STOP {
			s.depth--
			return nil
		}
		if err := s.skip(2); err != nil { // the field id
			return err
		}
		if err := s.value(t); err != nil {
			return err
		}
	}
}

func (s *scanner) value(t thrift.TType) error {
	if n := fixedSize(t); n > 0 {
		return s.skip(n)
	}
	switch t {
	case thrift.STRING:
		n, err := s.size()
		if err != nil {
			return err
		}
		return s.skip(n)
	case thrift.STRUCT:
		return s.structure()
	case thrift.LIST, thrift.SET:
		return s.list()
	case thrift.MAP:
		return s.mapping()
	}
	return refuse(ReasonMalformed, "unknown type %d at offset %d", t, s.pos)
}

func (s *scanner) list() error {
	if err := s.need(5); err != nil {
		return err
	}
	element := thrift.TType(s.buf[s.pos])
	s.pos++
	return s.elements(element, thrift.STOP)
}

func (s *scanner) mapping() error {
	if err := s.need(6); err != nil {
		return err
	}
	key, val := thrift.TType(s.buf[s.pos]), thrift.TType(s.buf[s.pos+1])
	s.pos += 2
	return s.elements(key, val)
}

// elements walks over the count and the entries of a container. Lists have no second type.
func (s *scanner) elements(a, b thrift.TType) error {
	at := s.pos
	n, err := s.size()
	if err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	least := smallest(a) + smallest(b)
	if n > 0 && least == 0 {
		return refuse(ReasonMalformed, "container of unknown type %d at offset %d", a, at)
	}
	if n > 0 && n > (s.limit-s.pos)/least {
		s.badCount = at
		return refuse(ReasonContainer, "%d entries of at least %d bytes in %d bytes at offset %d", n, least, s.limit-s.pos, at)
	}
	if fixedSize(a) > 0 && (b == thrift.STOP || fixedSize(b) > 0) {
		err = s.skip(n * least)
	} else {
		err = s.entries(n, a, b)
	}
	s.depth--
	return err
}

func (s *scanner) entries(n int, a, b thrift.TType) error {
	for range n {
		if err := s.value(a); err != nil {
			return err
		}
		if b == thrift.STOP {
			continue
		}
		if err := s.value(b); err != nil {
			return err
		}
	}
	return nil
}

// fixedSize is the encoded size of a type whose values all have the same, and 0 for others.
func fixedSize(t thrift.TType) int {
	switch t {
	case thrift.BOOL, thrift.BYTE:
		return 1
	case thrift.I16:
		return 2
	case thrift.I32:
		return 4
	case thrift.I64, thrift.DOUBLE:
		return 8
	}
	return 0
}

// smallest is the least number of bytes that a value can have, 0 for types that do not exist.
func smallest(t thrift.TType) int {
	switch t {
	case thrift.STRING:
		return 4
	case thrift.STRUCT:
		return 1
	case thrift.LIST, thrift.SET:
		return 5
	case thrift.MAP:
		return 6
	}
	return fixedSize(t)
}
