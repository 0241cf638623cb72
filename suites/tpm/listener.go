package tpm

import (
	"bytes"
	"context"
	"net"
	"time"

	"github.com/assay-bench/assay/scenarios/tls"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

const (
	// handshakeWait is a client's deadline for a handshake.
	handshakeWait = 2 * time.Second
	listener      = "tpm-tls" // the name under which a session's listener is probed
)

// handshake connects to the session's listener and asks for a staple. Where the target named no address
// on this host there is none, and the judge misses it.
func (b *bench) handshake(ctx context.Context, name string) (ok bool, err error) {
	host, _, err := net.SplitHostPort(b.opened.TLS)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return false, nil
	}
	out, err := tls.Probe(ctx, within(b.env, listener, b.opened.TLS), listener, name, wire.Client{
		Offer: wire.Offer{Groups: []wire.Group{wire.X25519, wire.P256}, Status: true}, Wait: handshakeWait,
		Send: []byte(hello), Want: len(hello),
	})
	if err != nil {
		return false, err
	}
	return completed(*out), nil
}

// hello is sent after the handshake. A listener that sends it back ends the probe at once; for what a
// listener does with data nothing is required.
const hello = "assay"

// completed tells whether a handshake was completed, whatever came after it.
func completed(o wire.Outcome) bool {
	return o.Flight != nil && o.Flight.FinishedValid && (o.Ending == wire.Completed || o.Stage == "application")
}

// lookCertificate is recorded once the session's leaf, its issuer and the issuer's key could be read.
const lookCertificate = "certificate"

// answering reads the session's certificate and makes the responder answer for it. nil where the target
// handed out none that can be used.
func (b *bench) answering() (*scenario.Certificate, error) {
	c, err := scenario.ParseCertificate(b.opened)
	if err != nil {
		return nil, nil // the target's; the judge misses the look
	}
	b.responder.Answer(c, lifetime)
	return c, b.device.Note(lookCertificate, 1)
}

// stapled says where the staple of a handshake came from.
func (s *story) stapled(handshake string, stores ...string) origin {
	h, there := s.handshakes[handshake]
	if !there || !completed(h.Outcome) {
		return noHandshake
	}
	staple := h.Outcome.Flight.Staple
	if len(staple) == 0 {
		return noStaple
	}
	for _, name := range stores {
		if bytes.Equal(staple, s.sent(name)) {
			return fromStore
		}
	}
	for _, a := range s.answered {
		if a.SHA256 == scenario.Digest(staple) {
			return fromResponder
		}
	}
	return fromElsewhere
}

// origin is where a staple came from.
type origin string

const (
	noHandshake   origin = "no handshake"
	noStaple      origin = "no staple"
	fromStore     origin = "the staple that was stored"
	fromResponder origin = "the responder's staple"
	fromElsewhere origin = "a staple from elsewhere"
)
