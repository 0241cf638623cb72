package ttheader

import "encoding/binary"

// Decode reads one frame that must fill the bytes given. Every error is an *Error; beside it the frame
// holds what was read before the fault, for a report. Of a repeated key the last value counts, and Layout
// shows the repetition.
func Decode(b []byte) (Frame, error) {
	f, end, err := decodeFixed(b)
	if err != nil {
		return f, err
	}
	if f.Layout.Length != uint32(len(b)-4) {
		return f, refuse(BadLength, 0, "LENGTH %d, but %d bytes follow", f.Layout.Length, len(b)-4)
	}
	if err := f.decodeInfo(b[:end]); err != nil {
		return f, err
	}
	f.Payload = b[end:]
	return f, nil
}

// Split tells whether b begins with a whole frame: n is the frame's size including LENGTH, or 0 if more
// bytes are needed. What can be refused is refused as soon as its bytes are there; in particular nothing
// above max bytes is waited for. Blocks are not looked at.
func Split(b []byte, max int) (n int, err error) {
	if len(b) < 6 {
		return 0, nil
	}
	if got := binary.BigEndian.Uint16(b[4:]); got != magic {
		return 0, refuse(BadMagic, 4, "%#04x, want %#04x", got, magic)
	}
	length := int64(binary.BigEndian.Uint32(b))
	if length < fixedSize-4+wordSize {
		return 0, refuse(BadLength, 0, "LENGTH %d is below that of the smallest frame, %d", length, fixedSize-4+wordSize)
	}
	if length+4 > int64(max) {
		return 0, refuse(BadLength, 0, "frame of %d bytes, limit %d", length+4, max)
	}
	if len(b) < fixedSize {
		return 0, nil
	}
	words := int64(binary.BigEndian.Uint16(b[12:]))
	if words == 0 || fixedSize-4+words*wordSize > length {
		return 0, refuse(BadSize, 12, "%d words in a frame of LENGTH %d", words, length)
	}
	if int64(len(b)) < length+4 {
		return 0, nil
	}
	return int(length) + 4, nil
}

// decodeFixed reads the first 14 bytes and returns where the payload begins.
func decodeFixed(b []byte) (f Frame, end int, err error) {
	if len(b) < 6 {
		return f, 0, refuse(Short, len(b), "%d bytes, want at least %d", len(b), fixedSize+wordSize)
	}
	f.Layout.Length = binary.BigEndian.Uint32(b)
	if got := binary.BigEndian.Uint16(b[4:]); got != magic {
		return f, 0, refuse(BadMagic, 4, "%#04x, want %#04x", got, magic)
	}
	if len(b) < fixedSize {
		return f, 0, refuse(Short, len(b), "%d bytes, want at least %d", len(b), fixedSize+wordSize)
	}
	f.Header.Flags = binary.BigEndian.Uint16(b[6:])
	f.Header.Seq = int32(binary.BigEndian.Uint32(b[8:]))
	f.Layout.Words = binary.BigEndian.Uint16(b[12:])
	end = fixedSize + int(f.Layout.Words)*wordSize
	if f.Layout.Words == 0 {
		return f, 0, refuse(BadSize, 12, "0 words")
	}
	if end > len(b) {
		return f, 0, refuse(BadSize, 12, "header ends at %d, the bytes at %d", end, len(b))
	}
	return f, end, nil
}

// Peek reads as much of the header as the bytes given hold, whatever LENGTH says: for a report about a
// frame that did not arrive whole or is refused. The error is that of Decode where the header is whole.
func Peek(b []byte) (Frame, error) {
	f, end, err := decodeFixed(b)
	if err != nil {
		return f, err
	}
	if err := f.decodeInfo(b[:end]); err != nil {
		return f, err
	}
	f.Payload = b[end:]
	return f, nil
}

// decodeInfo reads protocol id, transforms and blocks; b ends where the header does.
func (f *Frame) decodeInfo(b []byte) error {
	f.Header.ProtocolID = b[fixedSize]
	switch f.Header.ProtocolID {
	case ThriftBinary, KitexProtobuf, ThriftStruct, ProtobufStruct:
	default: // compact (0x02) and compact v2 (0x03) have no codec in this family
		return refuse(BadProtocol, fixedSize, "%#02x", f.Header.ProtocolID)
	}
	if n := int(b[fixedSize+1]); n > 0 {
		f.Header.Transforms = b[fixedSize+2 : min(fixedSize+2+n, len(b))]
		return refuse(BadTransform, fixedSize+1, "%d claimed", n)
	}
	r := reader{b: b, at: fixedSize + 2}
	for r.at < len(b) {
		id := b[r.at]
		r.at++
		if id == InfoPadding {
			f.Layout.Padding++
			continue
		}
		if err := f.block(&r, id); err != nil {
			return err
		}
	}
	return nil
}

func (f *Frame) block(r *reader, id byte) error {
	f.Layout.Blocks = append(f.Layout.Blocks, id)
	switch id {
	case InfoStrings:
		return f.strings(r)
	case InfoInts:
		return f.ints(r)
	case InfoACL:
		token, err := r.text()
		f.Header.ACLToken = token
		return err
	}
	return refuse(UnknownInfo, r.at-1, "%#02x", id)
}

func (f *Frame) strings(r *reader) error {
	n, err := r.u16()
	if err != nil {
		return err
	}
	if f.Header.StrKeys == nil {
		f.Header.StrKeys = map[string]string{}
	}
	for range n {
		key, err := r.text()
		if err != nil {
			return err
		}
		value, err := r.text()
		if err != nil {
			return err
		}
		f.Header.StrKeys[key] = value
		f.Layout.StrOrder = append(f.Layout.StrOrder, key)
	}
	return nil
}

func (f *Frame) ints(r *reader) error {
	n, err := r.u16()
	if err != nil {
		return err
	}
	if f.Header.IntKeys == nil {
		f.Header.IntKeys = map[uint16]string{}
	}
	for range n {
		key, err := r.u16()
		if err != nil {
			return err
		}
		value, err := r.text()
		if err != nil {
			return err
		}
		f.Header.IntKeys[key] = value
		f.Layout.IntOrder = append(f.Layout.IntOrder, key)
	}
	return nil
}

// reader walks over a header; at never passes len(b).
type reader struct {
	b  []byte
	at int
}

func (r *reader) u16() (uint16, error) {
	if len(r.b)-r.at < 2 {
		return 0, refuse(BadInfo, r.at, "a 16-bit number passes the end of the header at %d", len(r.b))
	}
	v := binary.BigEndian.Uint16(r.b[r.at:])
	r.at += 2
	return v, nil
}

func (r *reader) text() (string, error) {
	n, err := r.u16()
	if err != nil {
		return "", err
	}
	if len(r.b)-r.at < int(n) {
		return "", refuse(BadInfo, r.at-2, "a string of %d bytes passes the end of the header at %d", n, len(r.b))
	}
	s := string(r.b[r.at : r.at+int(n)])
	r.at += int(n)
	return s, nil
}
