package wire

import (
	"encoding/binary"
	"errors"

	"github.com/cloudwego/gopkg/protocol/thrift"

	"github.com/assay-bench/assay/reference/defect"
)

// Message types of Thrift binary.
const (
	TypeCall      = int32(thrift.CALL)
	TypeReply     = int32(thrift.REPLY)
	TypeException = int32(thrift.EXCEPTION)
	TypeOneway    = int32(thrift.ONEWAY)
)

// maxName bounds a method name in bytes: it is echoed in every reply.
const maxName = 4096

// Message is one Thrift binary message. Its slices point into the bytes it was read from.
type Message struct {
	Type  int32
	Name  []byte
	Seq   int32
	Body  []byte // the argument or result struct
	Size  int    // bytes of the whole message
	Named bool   // Type, Name and Seq are valid, also when the body was refused
}

// DecodeMessage reads the message at the start of b and proves that its struct is well formed. The
// message may be shorter than b: compare Size. After an error Named tells whether a reply can be
// addressed.
func DecodeMessage(b []byte, rules Rules) (Message, error) {
	s := scanner{buf: b, limit: len(b), rules: &rules}
	m, err := s.message()
	if refusedFor(err, ReasonContainer) && rules.Defects.On(defect.ContainerClosesServed) {
		return decodeEmptied(b, s.badCount, rules)
	}
	return m, err
}

// ScanMessage reads a message of unknown length from f, at most rules.MaxFrame bytes. Errors of f
// are returned unchanged; broken rules are a *Refusal.
func ScanMessage(f Filler, rules Rules) (Message, error) {
	s := scanner{limit: rules.MaxFrame, rules: &rules, fill: f}
	return s.message()
}

func refusedFor(err error, reason Reason) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason == reason
}

func (s *scanner) message() (Message, error) {
	m, err := s.head()
	if err != nil {
		return m, err
	}
	body := s.pos
	err = s.structure()
	// Filling may have moved the buffer: take the slices only now.
	m.Name = s.buf[s.nameAt : s.nameAt+len(m.Name)]
	m.Body, m.Size = s.buf[body:s.pos], s.pos
	return m, err
}

func (s *scanner) head() (Message, error) {
	if err := s.need(4); err != nil {
		return Message{}, err
	}
	version := binary.BigEndian.Uint32(s.buf[s.pos:])
	if version>>16 != magicThrift {
		if s.rules.Defects.On(defect.NonStrictServed) {
			return s.oldStyleHead()
		}
		return Message{}, refuse(ReasonOldStyle, "version %#08x", version)
	}
	s.pos += 4
	name, err := s.name()
	if err != nil {
		return Message{}, err
	}
	seq, err := s.i32()
	if err != nil {
		return Message{}, err
	}
	return Message{Type: int32(version & 0xff), Name: name, Seq: seq, Named: true}, nil
}

// oldStyleHead reads name, type and seq id in the order used before Thrift messages had versions.
func (s *scanner) oldStyleHead() (Message, error) {
	name, err := s.name()
	if err != nil {
		return Message{}, err
	}
	if err := s.need(1); err != nil {
		return Message{}, err
	}
	kind := int32(s.buf[s.pos])
	s.pos++
	seq, err := s.i32()
	if err != nil {
		return Message{}, err
	}
	return Message{Type: kind, Name: name, Seq: seq, Named: true}, nil
}

func (s *scanner) name() ([]byte, error) {
	n, err := s.size()
	if err != nil {
		return nil, err
	}
	if n > maxName {
		return nil, refuse(ReasonMessageHead, "method name of %d bytes", n)
	}
	s.nameAt = s.pos
	if err := s.skip(n); err != nil {
		return nil, err
	}
	return s.buf[s.nameAt:s.pos], nil
}

func (s *scanner) i32() (int32, error) {
	if err := s.need(4); err != nil {
		return 0, err
	}
	v, n, err := thrift.Binary.ReadI32(s.buf[s.pos:])
	s.pos += n
	return v, err
}

// decodeEmptied is the planted defect ContainerClosesServed: the impossible container becomes empty;
// if the message then still does not end with b, everything behind the container is taken as stops.
func decodeEmptied(b []byte, count int, rules Rules) (Message, error) {
	binary.BigEndian.PutUint32(b[count:], 0)
	s := scanner{buf: b, limit: len(b), rules: &rules}
	if m, err := s.message(); err == nil && m.Size == len(b) {
		return m, nil
	}
	clear(b[count:])
	s = scanner{buf: b, limit: len(b), rules: &rules}
	m, err := s.message()
	m.Size = len(b)
	return m, err
}
