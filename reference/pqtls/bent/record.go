package bent

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// Record types, RFC 9846 section 5.1.
const (
	typeCCS       = 20
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

const (
	maxPlain     = 1 << 14
	maxCipher    = maxPlain + 256
	maxHandshake = 64 << 10
	maxEmpty     = 32 // consecutive records without content
)

// records is the record layer of one connection. Reading belongs to one goroutine; writing is
// guarded, for a KeyUpdate is answered by the reader.
type records struct {
	conn    net.Conn
	br      *bufio.Reader
	in      *half  // nil: plaintext
	hand    []byte // handshake bytes that are not yet taken
	pieces  int    // records that the last message came in
	seen    uint16 // version of the record in which the last message began
	onEmpty error  // the answer to an empty handshake record
	skip    int    // bytes of early data that may still be dropped
	started bool   // a handshake message was read: ChangeCipherSpec may follow
	done    bool   // the handshake is over

	mu      sync.Mutex
	out     *half
	version uint16 // of the records written
	pad     int    // zero bytes added to each protected record
	pending []byte
}

func newRecords(conn net.Conn, version uint16) *records {
	return &records{
		conn: conn, br: bufio.NewReaderSize(conn, 5+maxCipher), version: version,
		onEmpty: refuse(alertUnexpectedMessage, "empty handshake record"),
	}
}

// raw reads one record as it is on the wire.
func (r *records) raw() (typ byte, version uint16, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return 0, 0, nil, err
	}
	typ, version = head[0], binary.BigEndian.Uint16(head[1:])
	n := int(binary.BigEndian.Uint16(head[3:]))
	switch {
	case typ < typeCCS || typ > typeData:
		return 0, 0, nil, refuse(alertUnexpectedMessage, "record of type %d", typ)
	case n > maxCipher || n > maxPlain && typ != typeData:
		return 0, 0, nil, refuse(alertRecordOverflow, "record of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r.br, body); err != nil {
		return 0, 0, nil, err
	}
	return typ, version, body, nil
}

// record reads the next record with content: ChangeCipherSpec and rejected early data are dropped,
// an alert is an error (io.EOF for close_notify).
func (r *records) record() (typ byte, version uint16, body []byte, err error) {
	for range maxEmpty {
		typ, version, body, err = r.raw()
		if err != nil {
			return 0, 0, nil, err
		}
		dropped, opened, err := r.unprotect(&typ, version, body)
		if err != nil {
			return 0, 0, nil, err
		}
		if dropped {
			continue
		}
		if typ == typeAlert {
			return 0, 0, nil, received(opened)
		}
		return typ, version, opened, nil
	}
	return 0, 0, nil, refuse(alertUnexpectedMessage, "too many records to ignore")
}

// received is the error that an alert makes. Warnings of TLS 1.3 do not exist: all but close_notify end it.
func received(body []byte) error {
	switch {
	case len(body) != 2:
		return malformed("alert")
	case body[1] == alertCloseNotify:
		return io.EOF
	}
	return &AlertError{Code: body[1]}
}

// unprotect opens a record under the present keys and sets the type of its content.
func (r *records) unprotect(typ *byte, version uint16, body []byte) (dropped bool, plain []byte, err error) {
	switch {
	case *typ == typeCCS:
		if r.done || !r.started || len(body) != 1 || body[0] != 1 {
			return false, nil, refuse(alertUnexpectedMessage, "unexpected ChangeCipherSpec")
		}
		return true, nil, nil
	case r.in == nil && *typ == typeData && r.skip >= len(body) && r.skip > 0:
		r.skip -= len(body)
		return true, nil, nil
	case r.in == nil && *typ == typeData:
		return false, nil, refuse(alertUnexpectedMessage, "application data before the handshake")
	case r.in == nil:
		return false, body, nil
	case *typ == typeAlert && !r.done && len(body) == 2:
		return false, body, nil // the peer failed before it had keys
	case *typ != typeData:
		return false, nil, refuse(alertUnexpectedMessage, "plaintext record of type %d", *typ)
	}
	plain, err = r.open(version, body)
	if err != nil {
		if r.skip > 0 && r.skip >= len(body) {
			r.skip -= len(body)
			return true, nil, nil
		}
		return false, nil, err
	}
	r.skip = 0
	return false, plain[:len(plain)-1], innerType(typ, plain[len(plain)-1])
}

func innerType(typ *byte, inner byte) error {
	if inner != typeAlert && inner != typeHandshake && inner != typeData {
		return refuse(alertUnexpectedMessage, "protected record of type %d", inner)
	}
	*typ = inner
	return nil
}

// open decrypts a record and strips its padding. The last byte of the result is the content's type.
func (r *records) open(version uint16, body []byte) ([]byte, error) {
	head := []byte{typeData, byte(version >> 8), byte(version), byte(len(body) >> 8), byte(len(body))}
	seq := r.in.seq
	plain, err := r.in.aead.Open(nil, r.in.nonce(), body, head)
	if err != nil {
		r.in.seq = seq // rejected early data does not count
		return nil, refuse(alertBadRecordMAC, "record does not decrypt")
	}
	n := len(plain)
	for n > 0 && plain[n-1] == 0 {
		n--
	}
	switch {
	case n == 0:
		return nil, refuse(alertUnexpectedMessage, "record of padding only")
	case n > maxPlain+1:
		return nil, refuse(alertRecordOverflow, "content of %d bytes", n-1)
	}
	return plain[:n], nil
}

// message reads the next handshake message, whole and with its header.
func (r *records) message() ([]byte, error) {
	r.pieces = 0
	for {
		if msg, err := r.take(); msg != nil || err != nil {
			r.started = true
			return msg, err
		}
		typ, version, body, err := r.record()
		switch {
		case err != nil:
			return nil, err
		case typ != typeHandshake:
			return nil, refuse(alertUnexpectedMessage, "record of type %d inside the handshake", typ)
		case len(body) == 0:
			return nil, r.onEmpty
		}
		if r.pieces == 0 {
			r.seen = version
		}
		r.pieces++
		r.hand = append(r.hand, body...)
	}
}

// take returns a whole message of those read, nil if there is none yet.
func (r *records) take() ([]byte, error) {
	if len(r.hand) < 4 {
		return nil, nil
	}
	n := int(r.hand[1])<<16 | int(r.hand[2])<<8 | int(r.hand[3])
	if n > maxHandshake {
		return nil, refuse(alertDecodeError, "handshake message of %d bytes", n)
	}
	if len(r.hand) < 4+n {
		return nil, nil
	}
	msg := r.hand[: 4+n : 4+n]
	r.hand = r.hand[4+n:]
	return msg, nil
}

// read changes the keys of the incoming direction. No message may span the change.
func (r *records) read(h *half) error {
	if len(r.hand) > 0 {
		return refuse(alertUnexpectedMessage, "handshake bytes beyond a change of keys")
	}
	r.in = h
	return nil
}

// write changes the keys of the outgoing direction.
func (r *records) write(h *half) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = h
}

// queue adds content to the next flight.
func (r *records) queue(typ byte, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(typ, content)
}

func (r *records) add(typ byte, content []byte) {
	limit := maxPlain - r.pad
	for {
		n := min(len(content), limit)
		r.seal(typ, content[:n])
		if content = content[n:]; len(content) == 0 {
			return
		}
	}
}

func (r *records) seal(typ byte, content []byte) {
	head := func(typ byte, n int) []byte {
		return []byte{typ, byte(r.version >> 8), byte(r.version), byte(n >> 8), byte(n)}
	}
	if r.out == nil || typ == typeCCS {
		r.pending = append(append(r.pending, head(typ, len(content))...), content...)
		return
	}
	inner := append(append([]byte(nil), content...), typ)
	inner = append(inner, make([]byte, r.pad)...)
	header := head(typeData, len(inner)+r.out.aead.Overhead())
	r.pending = append(r.pending, header...)
	r.pending = r.out.aead.Seal(r.pending, r.out.nonce(), inner, header)
}

// flush writes what is queued.
func (r *records) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushLocked()
}

func (r *records) flushLocked() error {
	if len(r.pending) == 0 {
		return nil
	}
	_, err := r.conn.Write(r.pending)
	r.pending = r.pending[:0]
	return err
}

// send writes content at once.
func (r *records) send(typ byte, content []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(typ, content)
	return r.flushLocked()
}

// alert sends an alert; what was queued before it goes out too.
func (r *records) alert(code uint8) error {
	level := byte(2)
	if code == alertCloseNotify {
		level = 1
	}
	return r.send(typeAlert, []byte{level, code})
}
