package server

import (
	"encoding/binary"
	"io"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// request is one call as it was read. Its slices point into the connection's buffer.
type request struct {
	form   wire.Form
	header wire.Header // of the TTHeader forms
	msg    wire.Message
	size   int  // bytes to take off the connection
	intact bool // the next call begins behind size, whatever was wrong with this one
}

// readRequest reads one call of the given protocol. Broken rules are a *wire.Refusal; then
// request.msg.Named tells whether the caller can be told, and request.intact whether the connection
// can go on. Other errors are the connection's.
func (c *conn) readRequest(p wire.Protocol) (request, error) {
	switch p {
	case wire.Buffered:
		return c.readBuffered()
	case wire.Framed:
		return c.readFramed()
	case wire.TTHeader:
		return c.readTTHeader()
	case wire.OldStyle:
		return c.readOldStyle()
	}
	return request{}, &wire.Refusal{Reason: wire.ReasonProtocol, Detail: p.String()}
}

func (c *conn) readBuffered() (request, error) {
	if c.on(defect.RefuseBuffered) {
		return request{}, &wire.Refusal{Reason: wire.ReasonProtocol, Detail: "buffered"}
	}
	return c.scanRequest(request{form: wire.FormBuffered}, 0)
}

// scanRequest reads a message that only its own structure delimits.
func (c *conn) scanRequest(req request, offset int) (request, error) {
	var err error
	req.msg, err = wire.ScanMessage(streamed{c.in, offset}, c.srv.rules)
	req.size = offset + req.msg.Size
	return req, err
}

func (c *conn) readOldStyle() (request, error) {
	if !c.on(defect.NonStrictServed) {
		return request{}, &wire.Refusal{Reason: wire.ReasonOldStyle, Detail: "message without a version"}
	}
	if length := binary.BigEndian.Uint32(c.in.window()[4:]); length < 256 { // a name length behind a frame length
		return c.readFramed()
	}
	return c.readBuffered()
}

func (c *conn) readFramed() (request, error) {
	if c.on(defect.RefuseFramed) {
		return request{}, &wire.Refusal{Reason: wire.ReasonProtocol, Detail: "framed"}
	}
	req := request{form: wire.FormFramed, intact: true}
	length := binary.BigEndian.Uint32(c.in.window())
	if c.on(defect.LengthIgnored) {
		return c.scanRequest(req, 4)
	}
	if err := c.admit(length); err != nil {
		return request{}, err
	}
	req.size = 4 + int(length)
	if err := c.in.ensure(req.size); err != nil {
		return request{}, err
	}
	return c.decodeExactly(req, c.in.window()[4:req.size])
}

// decodeExactly reads a message that must fill its frame.
func (c *conn) decodeExactly(req request, frame []byte) (request, error) {
	var err error
	if req.msg, err = wire.DecodeMessage(frame, c.srv.rules); err != nil {
		return req, err
	}
	if left := len(frame) - req.msg.Size; left > 0 && !c.on(defect.TrailingBytesIgnored) {
		req.intact = false
		return req, &wire.Refusal{Reason: wire.ReasonTrailing, Detail: "bytes behind the message"}
	}
	return req, nil
}

func (c *conn) readTTHeader() (request, error) {
	req := request{form: wire.FormTTHeader, intact: true}
	if err := c.readHeader(&req); err != nil {
		return request{}, err
	}
	at := req.header.HeaderSize
	kind, err := c.sniffPayload(&req)
	if err != nil {
		return request{}, err
	}
	if refused := map[wire.Protocol]defect.Name{wire.Buffered: defect.RefuseTTHeader, wire.Framed: defect.RefuseTTHeaderFramed}[kind]; c.on(refused) {
		return request{}, &wire.Refusal{Reason: wire.ReasonProtocol, Detail: "TTHeader, " + kind.String()}
	}
	switch kind {
	case wire.Buffered:
	case wire.Framed:
		req.form, at = wire.FormTTHeaderFramed, at+4
		inner := binary.BigEndian.Uint32(c.in.window()[at-4:])
		if err := c.checkInner(inner, req.header.PayloadSize()); err != nil {
			return request{}, err
		}
	default:
		return request{}, &wire.Refusal{Reason: wire.ReasonPayload, Detail: kind.String()}
	}
	if c.on(defect.LengthIgnored) {
		return c.scanRequest(req, at)
	}
	return c.readPayload(req, at)
}

func (c *conn) readHeader(req *request) error {
	if err := c.in.ensure(wire.PreambleSize); err != nil {
		return err
	}
	preamble, err := wire.ReadPreamble(c.in.window(), c.srv.rules)
	if refusal := c.admit(preamble.Length); refusal != nil {
		return refusal
	}
	if err != nil {
		return err
	}
	if err := c.in.ensure(preamble.HeaderSize); err != nil {
		return err
	}
	req.header, err = wire.ReadHeader(preamble, c.in.window(), c.srv.rules)
	return err
}

// sniffPayload looks at no more bytes than the payload holds: a short one must not wait for the next
// frame.
func (c *conn) sniffPayload(req *request) (wire.Protocol, error) {
	at, size := req.header.HeaderSize, req.header.PayloadSize()
	if c.on(defect.LengthIgnored) {
		size = wire.SniffLen
	}
	peek := min(wire.SniffLen, size)
	if err := c.in.ensure(at + peek); err != nil {
		return wire.Unknown, err
	}
	payload := c.in.window()[at : at+peek]
	kind := wire.SniffPayload(payload)
	if kind == wire.Unknown && c.on(defect.NonStrictServed) && len(payload) == wire.SniffLen {
		return oldStylePayload(payload), nil
	}
	return kind, nil
}

// oldStylePayload tells whether an old-style message has a frame length in front of its name length.
func oldStylePayload(b []byte) wire.Protocol {
	if binary.BigEndian.Uint32(b[4:]) < 256 {
		return wire.Framed
	}
	return wire.Buffered
}

// checkInner compares the frame length inside a TTHeader frame with what LENGTH leaves for it, before
// either is waited for.
func (c *conn) checkInner(inner uint32, payload int) error {
	if int64(inner) == int64(payload)-4 || c.on(defect.LengthIgnored) {
		return nil
	}
	return &wire.Refusal{Reason: wire.ReasonLengthMismatch, Detail: "frame length and LENGTH disagree"}
}

func (c *conn) readPayload(req request, message int) (request, error) {
	req.size = req.header.HeaderSize + req.header.PayloadSize()
	if err := c.in.ensure(req.size); err != nil {
		return request{}, err
	}
	frame := c.in.window()[:req.size]
	checksum := req.header.CheckPayload(frame[req.header.HeaderSize:])
	req, err := c.decodeExactly(req, frame[message:])
	if checksum != nil {
		req.intact = false // nothing in the payload can be trusted
		return req, checksum
	}
	if reasonOf(err) == wire.ReasonTruncated && !req.form.HasFrame() {
		req.intact = false // LENGTH has no second witness: it may be the liar
	}
	return req, err
}

// admit judges a length before anything is allocated for it.
func (c *conn) admit(length uint32) error {
	if c.on(defect.PreallocLength) {
		touch(min(int(length), 64<<20))
	}
	err := c.srv.rules.CheckLength(length)
	if err != nil && c.on(defect.NoLengthLimit) {
		return c.swallow(int64(length))
	}
	return err
}

// swallow is the planted defect NoLengthLimit: it waits for the bytes of any length, in a small
// buffer.
func (c *conn) swallow(n int64) error {
	for n > 0 {
		if err := c.in.ensure(1); err != nil {
			return err
		}
		n -= int64(c.in.buffered())
		c.in.consume(c.in.buffered())
	}
	return io.ErrUnexpectedEOF
}
