package pqtls

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Record layer and handshake numbers (RFC 9846 sections 4 and 5.1).
const (
	recordAlert     = 21
	recordHandshake = 22
	typeClientHello = 1
	recordHeader    = 5
	messageHeader   = 4
	maxRecord       = 1<<14 + 2048 // as crypto/tls takes them before encryption starts
	maxHello        = 1 << 16      // as crypto/tls
	maxRaw          = 2 * maxHello // with record headers, so that tiny records do not add up
)

// Alerts that the wrapper sends (RFC 9846 section 6).
const (
	alertHandshakeFailure = 40
	alertMissingExtension = 109
)

// helloConn reads the first handshake message before crypto/tls does, answers what crypto/tls would
// answer wrongly, and hands everything else on unchanged. The corrections, found by experiment with Go
// 1.27.2:
//
//   - supported_groups without key_share: crypto/tls asks for a retry; RFC 9846 section 9.2 demands
//     missing_extension.
//   - key_share without supported_groups: crypto/tls sends handshake_failure; section 9.2 demands
//     missing_extension.
//   - no signature_algorithms and no pre_shared_key: crypto/tls sends missing_extension as section 9.2
//     demands, but only after it asked for a retry where it wants another share.
//   - TLS 1.2 at a server that has nothing but an ML-DSA certificate: crypto/tls sends internal_error,
//     which blames the server; RFC 5246 section 7.4.1.3 describes handshake_failure.
//   - alerts before the version is agreed: crypto/tls writes them in records of version 0x0301; section
//     5.1 demands 0x0303 for all records but an initial ClientHello.
//
// Right without help: a share of zero bytes, trailing bytes and a second key_share (decode_error),
// malformed shares and second hellos (illegal_parameter), no common group (handshake_failure), TLS 1.2
// with groups of TLS 1.3 alone (handshake_failure, provided that the fallback certificate is a
// classical one: see certificateFor), mldsa65 alone at a classical server (handshake_failure).
//
// Strict where section 5.1 says ignore, and left so: a second hello in a record of version 0x0301 gets
// protocol_version.
//
// Wrong and out of reach: early data that was not asked for gets unsupported_extension, where section
// 4.3.10 wants the extension ignored. The transcript covers the hello, so it can not be edited here.
//
// Tried: GetConfigForClient. Lost: whatever it returns as an error becomes internal_error.
type helloConn struct {
	net.Conn
	mldsaOnly bool // the server has no certificate for TLS 1.2

	replay  []byte // read and not handed on yet
	readErr error  // why reading stopped, returned after replay
	looked  bool   // the first message has been read
	refused bool   // an alert has been sent by the wrapper

	settled atomic.Bool   // the handshake is over: nothing is watched any more
	alert   atomic.Uint32 // last plaintext fatal alert sent, plus one; 0 none
}

// refusal is the read error of a hello that the wrapper answered.
type refusal uint8

// Error names the alert.
func (r refusal) Error() string { return "pqtls: hello refused with " + alertName(uint8(r)) }

// Read hands on what has been looked at, then reads from the connection.
func (c *helloConn) Read(p []byte) (int, error) {
	if !c.looked {
		c.looked = true
		if err := c.look(); err != nil {
			return 0, err
		}
	}
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		c.replay = c.replay[n:]
		return n, nil
	}
	c.replay = nil
	if c.readErr != nil {
		return 0, c.readErr
	}
	return c.Conn.Read(p)
}

// Write hands on and notes a plaintext alert, whose record version it corrects.
func (c *helloConn) Write(p []byte) (int, error) {
	if c.settled.Load() || len(p) != recordHeader+2 || p[0] != recordAlert {
		return c.Conn.Write(p)
	}
	if p[5] == 2 { // fatal
		c.alert.Store(uint32(p[6]) + 1)
	}
	fixed := [recordHeader + 2]byte(p)
	fixed[1], fixed[2] = 3, 3
	return c.Conn.Write(fixed[:])
}

// look reads the first message and answers it if crypto/tls would do so wrongly.
func (c *helloConn) look() error {
	body, ok := c.readHello()
	if !ok {
		return nil
	}
	h, err := parseHello(body)
	if err != nil {
		return nil // crypto/tls refuses it
	}
	code, wrong := c.correction(h)
	if !wrong {
		return nil
	}
	c.replay, c.refused = nil, true
	c.readErr = refusal(code)
	if _, err := c.Write([]byte{recordAlert, 3, 3, 0, 2, 2, code}); err != nil {
		c.readErr = fmt.Errorf("pqtls: send %s: %w", alertName(code), err)
	}
	return c.readErr
}

// correction returns the alert for a hello that crypto/tls would answer otherwise.
func (c *helloConn) correction(h hello) (code uint8, wrong bool) {
	if !h.tls13() {
		return alertHandshakeFailure, c.mldsaOnly && h.tls12()
	}
	if h.hasGroups != h.hasShares || !h.hasPSK && !(h.hasSchemes && h.hasGroups) {
		return alertMissingExtension, true
	}
	return 0, false
}

// readHello reads records up to the end of the first message. It keeps every byte for replay, and
// reports false for anything but a whole ClientHello within bounds.
func (c *helloConn) readHello() (body []byte, ok bool) {
	var message []byte
	for {
		if want, known := messageLength(message); known && len(message) >= want {
			return message[messageHeader:want], message[0] == typeClientHello
		} else if known && (message[0] != typeClientHello || want > maxHello) {
			return nil, false
		}
		header, err := c.fill(recordHeader)
		if err != nil {
			return nil, false
		}
		length := int(binary.BigEndian.Uint16(header[3:]))
		if header[0] != recordHandshake || length > maxRecord || len(c.replay)+length > maxRaw {
			return nil, false
		}
		fragment, err := c.fill(length)
		if err != nil {
			return nil, false
		}
		message = append(message, fragment...)
	}
}

// messageLength returns the length of a handshake message with its header, once that is there.
func messageLength(message []byte) (int, bool) {
	if len(message) < messageHeader {
		return 0, false
	}
	return messageHeader + int(message[1])<<16 + int(message[2])<<8 + int(message[3]), true
}

// fill reads n bytes to the end of replay and returns them.
func (c *helloConn) fill(n int) ([]byte, error) {
	start := len(c.replay)
	c.replay = append(c.replay, make([]byte, n)...)
	read, err := io.ReadFull(c.Conn, c.replay[start:])
	c.replay = c.replay[:start+read]
	if err != nil {
		if err == io.ErrUnexpectedEOF {
			err = io.EOF // as crypto/tls would have seen it
		}
		c.readErr = err
		return nil, err
	}
	return c.replay[start:], nil
}

// Lingering after a refusal: closing a socket with unread data resets it, and a reset may overtake the
// alert on its way to the client.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// closeGently ends the sending direction and reads what the client still sends, within bounds.
func (c *helloConn) closeGently() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		_ = c.Conn.Close()
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // whatever ends it, the connection is closed
	_ = c.Conn.Close()
}

// sent returns the name of the plaintext fatal alert that went out, if one did.
func (c *helloConn) sent() (string, bool) {
	code := c.alert.Load()
	if code == 0 {
		return "", false
	}
	return alertName(uint8(code - 1)), true
}

// alertName returns the name of an alert (RFC 9846 section 6).
func alertName(code uint8) string {
	names := map[uint8]string{
		10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
		42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
		46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
		51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
		86: "inappropriate_fallback", 90: "user_canceled", 109: "missing_extension", 110: "unsupported_extension",
		112: "unrecognized_name", 113: "bad_certificate_status_response", 115: "unknown_psk_identity",
		116: "certificate_required", 120: "no_application_protocol",
	}
	if name, ok := names[code]; ok {
		return name
	}
	return "other_alert"
}
