package tls

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Bounds on what a peer may send.
const (
	maxPlain     = 1 << 14
	maxProtected = maxPlain + 256
	maxMessage   = 256 << 10
	maxRead      = 1 << 20
	maxApp       = 64 << 10
)

const (
	defaultWait = 4 * time.Second
	briefWait   = 300 * time.Millisecond // for a close or a late alert
)

// Content types of a record, RFC 9846 section 5.1.
const (
	recordChange      = 20
	recordAlert       = 21
	recordHandshake   = 22
	recordApplication = 23
)

// sealedAlert is the length of a protected alert without padding: two bytes, the type, the tag.
const sealedAlert = 2 + 1 + 16

// stop ends a connection; it carries the ending as the outcome will say it.
type stop struct {
	ending Ending
	alert  *Alert
	detail string
}

func (s *stop) Error() string { return string(s.ending) + ": " + s.detail }

func garbled(format string, args ...any) error {
	return &stop{ending: Garbled, detail: fmt.Sprintf(format, args...)}
}

// stopOf gives the stop that ended a connection. Any other error is a fault of this end's plan.
func stopOf(err error) *stop {
	var s *stop
	if errors.As(err, &s) {
		return s
	}
	return &stop{ending: Broken, detail: err.Error()}
}

type record struct {
	header  [5]byte
	payload []byte
}

func (r record) kind() uint8     { return r.header[0] }
func (r record) version() uint16 { return uint16(r.header[1])<<8 | uint16(r.header[2]) }

// event is one handshake message, or the content of one application record.
type event struct {
	kind uint8
	data []byte
}

// link is the record layer over a connection: deadlines, counters, protection, and messages put
// together again from records.
type link struct {
	ctx     context.Context
	conn    net.Conn
	from    *bufio.Reader // conn
	wait    time.Duration
	in, out *half
	version uint16 // in the header of what is written

	up, down, turns int
	wrote, lastRead bool
	writeErr        error

	pending   []byte  // of a handshake message
	held      *record // read, to be read again
	versions  []uint16
	padding   int
	protected int    // protected records read, alerts apart
	warned    *Alert // an alert that ended nothing
	unread    bool   // a protected record did not decrypt
}

// newLink watches ctx until release is called.
func newLink(ctx context.Context, conn net.Conn, wait time.Duration) (l *link, release func()) {
	if wait <= 0 {
		wait = defaultWait
	}
	l = &link{ctx: ctx, conn: conn, from: bufio.NewReader(conn), wait: wait, version: version12}
	past := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return l, func() { past() }
}

// arm gives the reads that follow until d from now. A deadline that the connection refuses shows in the
// read itself.
func (l *link) arm(d time.Duration) {
	_ = l.conn.SetReadDeadline(time.Now().Add(d))
	if l.ctx.Err() != nil {
		_ = l.conn.SetDeadline(time.Unix(1, 0))
	}
}

// write never fails: a peer that takes nothing may have said why, so the reads that follow tell.
func (l *link) write(b []byte) {
	if l.writeErr != nil || len(b) == 0 {
		return
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.wait))
	if l.ctx.Err() != nil {
		_ = l.conn.SetDeadline(time.Unix(1, 0))
	}
	l.turn(false)
	n, err := l.conn.Write(b)
	l.up += n
	if err != nil {
		l.writeErr = fmt.Errorf("%d of %d bytes written: %w", n, len(b), err)
	}
}

func (l *link) turn(reading bool) {
	if l.wrote && l.lastRead != reading {
		l.turns++
	}
	l.wrote, l.lastRead = true, reading
}

// frame puts a payload in as many records as it needs, protected where keys are set.
func (l *link) frame(kind uint8, payload []byte) []byte {
	var out []byte
	for first := true; first || len(payload) > 0; first = false {
		n := min(len(payload), maxPlain)
		if l.out != nil {
			out = append(out, l.out.seal(l.version, kind, payload[:n])...)
		} else {
			out = append(out, plainRecord(kind, l.version, payload[:n])...)
		}
		payload = payload[n:]
	}
	return out
}

func plainRecord(kind uint8, version uint16, payload []byte) []byte {
	return appendVec16(append16([]byte{kind}, version), payload)
}

// changeCipherSpec is the dummy record of middlebox compatibility, RFC 9846 appendix E.4.
func (l *link) changeCipherSpec() []byte { return plainRecord(recordChange, l.version, []byte{1}) }

func (l *link) sendAlert(code AlertCode) {
	level := byte(alertFatal)
	if code == closeNotify || code == userCanceled {
		level = alertWarning
	}
	l.write(l.frame(recordAlert, []byte{level, byte(code)}))
}

// fill reads exactly len(b) bytes.
func (l *link) fill(b []byte) error {
	if l.down+len(b) > maxRead {
		return garbled("the peer sent more than %d bytes", maxRead)
	}
	n, err := io.ReadFull(l.from, b)
	l.down += n
	if n > 0 {
		l.turn(true)
	}
	if err != nil {
		return l.readStop(n, err)
	}
	return nil
}

func (l *link) readStop(n int, err error) error {
	s := &stop{}
	switch {
	case l.ctx.Err() != nil:
		s.ending, s.detail = Silent, l.ctx.Err().Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.ending = Silent
	case errors.Is(l.writeErr, syscall.ECONNRESET): // the write took the error, the read sees only the end
		s.ending = Reset
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
		s.ending = EOF
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		s.ending = Reset
	default:
		s.ending, s.detail = Reset, err.Error()
	}
	if l.writeErr != nil {
		s.detail = strings.TrimPrefix(s.detail+"; "+l.writeErr.Error(), "; ")
	}
	return s
}

// next record as it is on the wire.
func (l *link) record() (record, error) {
	if l.held != nil {
		r := *l.held
		l.held = nil
		return r, nil
	}
	var r record
	if err := l.fill(r.header[:1]); err != nil {
		return r, err
	}
	if err := l.fill(r.header[1:]); err != nil {
		return r, inRecord(err, len(r.header))
	}
	n := int(r.header[3])<<8 | int(r.header[4])
	if k := r.kind(); k < recordChange || k > recordApplication {
		return r, garbled("no TLS record: it begins % x", r.header)
	}
	if n > maxProtected || (r.kind() != recordApplication && n > maxPlain) {
		return r, garbled("record of type %d: %d bytes are too many", r.kind(), n)
	}
	if v := r.version(); !slices.Contains(l.versions, v) && len(l.versions) < 16 {
		l.versions = append(l.versions, v)
	}
	r.payload = make([]byte, n)
	if err := l.fill(r.payload); err != nil {
		return r, inRecord(err, n)
	}
	return r, nil
}

// inRecord says of an end that it came where n bytes of a record were due.
func inRecord(err error, n int) error {
	s := stopOf(err)
	if s.ending != Garbled {
		s.detail = strings.TrimSuffix(fmt.Sprintf("inside a record of %d bytes; %s", n, s.detail), "; ")
	}
	return s
}

// next gives the next handshake message or application record; all else is an error, and an alert is one.
func (l *link) next() (event, error) {
	for {
		m, ok, err := l.assembled()
		if ok || err != nil {
			return event{recordHandshake, m}, err
		}
		r, err := l.record()
		if err != nil {
			return event{}, err
		}
		kind, payload, err := l.content(r)
		if err != nil {
			return event{}, err
		}
		switch kind {
		case recordChange:
		case recordAlert:
			if err := l.alerted(payload, r.kind() == recordApplication); err != nil {
				return event{}, err
			}
		case recordHandshake:
			l.pending = append(l.pending, payload...)
		case recordApplication:
			return event{recordApplication, payload}, nil
		}
	}
}

// assembled takes a whole handshake message off what is pending.
func (l *link) assembled() ([]byte, bool, error) {
	if len(l.pending) < 4 {
		return nil, false, nil
	}
	n := int(l.pending[1])<<16 | int(l.pending[2])<<8 | int(l.pending[3])
	if n > maxMessage {
		return nil, false, garbled("handshake message of type %d: %d bytes are too many", l.pending[0], n)
	}
	if len(l.pending) < 4+n {
		return nil, false, nil
	}
	m := l.pending[: 4+n : 4+n]
	l.pending = l.pending[4+n:]
	return m, true, nil
}

// content checks and, where keys are set, decrypts a record.
func (l *link) content(r record) (uint8, []byte, error) {
	switch {
	case r.kind() == recordChange:
		if len(r.payload) != 1 || r.payload[0] != 1 {
			return 0, nil, garbled("change_cipher_spec: % x", r.payload[:min(len(r.payload), 8)])
		}
		return recordChange, nil, nil
	case r.kind() == recordApplication:
		return l.decrypted(r)
	case r.kind() == recordHandshake && l.in != nil:
		return 0, nil, garbled("a plain handshake record where protected ones are due")
	}
	return r.kind(), r.payload, nil
}

func (l *link) decrypted(r record) (uint8, []byte, error) {
	if l.in == nil {
		return 0, nil, l.unreadable(r, "a protected record before there are keys")
	}
	kind, payload, padding, err := l.in.open(r)
	if errors.Is(err, errUndecryptable) {
		return 0, nil, l.unreadable(r, fmt.Sprintf("protected record %d of %d bytes does not decrypt", l.in.seq, len(r.payload)))
	}
	if err != nil {
		return 0, nil, garbled("%v", err)
	}
	l.padding += padding
	if len(payload) > maxPlain {
		return 0, nil, garbled("protected record: %d bytes of content are too many", len(payload))
	}
	if kind < recordAlert || kind > recordApplication {
		return 0, nil, garbled("protected record: content type %d", kind)
	}
	if kind != recordAlert {
		l.protected++
	}
	return kind, payload, nil
}

// unreadable tells what a record is that cannot be decrypted: one of an alert's length is taken for one.
func (l *link) unreadable(r record, detail string) error {
	l.unread = true
	if len(r.payload) == sealedAlert {
		return &stop{ending: Alerted, alert: &Alert{Encrypted: true, Unread: true}, detail: detail}
	}
	l.protected++
	return &stop{ending: Unreadable, detail: detail}
}

// alerted judges an alert. In TLS 1.3 all are fatal but close_notify and user_canceled; an
// unrecognized_name may come as a warning from a server that also speaks 1.2 (RFC 6066 section 3).
func (l *link) alerted(b []byte, encrypted bool) error {
	if len(b) != 2 {
		return garbled("alert of %d bytes", len(b))
	}
	a := seenAlert(b[0], AlertCode(b[1]), encrypted)
	switch {
	case a.Code == closeNotify:
		return &stop{ending: EOF, alert: a, detail: "close_notify"}
	case a.Level == alertWarning && (a.Code == userCanceled || a.Code == unrecognizedName):
		l.warned = a
		return nil
	}
	return &stop{ending: Alerted, alert: a}
}

// settled says that no part of a handshake message is pending, as it must be when keys change.
func (l *link) settled() error {
	if n := len(l.pending); n > 0 {
		return garbled("%d bytes of a handshake message before a change of keys", n)
	}
	return nil
}

// linger reads what the peer still says until it closes or d is over, and gives the ending of that.
func (l *link) linger(d time.Duration) error {
	l.arm(d)
	for {
		if _, err := l.next(); err != nil {
			return err
		}
	}
}
