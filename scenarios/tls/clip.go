package tls

import (
	"strings"

	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// Bounds on what one record of a connection holds, so that no peer can make evidence that is too long
// to be written. They lie far beyond what a conforming peer sends; the raw bytes are recorded apart.
const (
	maxCertificates = 1 << 20 // bytes of all certificates, or of a staple
	maxApp          = 64 << 10
	maxListed       = 4096 // entries of a list
	maxShares       = 1024
	maxText         = 4 << 10
)

func clipOutcome(o *wire.Outcome) {
	o.Detail = clipText(o.Detail, maxText)
	o.App = clip(o.App, maxApp)
	o.Records = clip(o.Records, maxListed)
	o.Tickets = clip(o.Tickets, maxShares)
	o.KeyLog = clip(o.KeyLog, maxShares)
	if s := o.Server; s != nil {
		s.Extensions = clip(s.Extensions, maxListed)
	}
	if f := o.Flight; f != nil {
		f.ALPN = clipText(f.ALPN, maxText)
		f.Certificates = clipChain(f.Certificates)
		f.Staple = clip(f.Staple, maxCertificates)
		f.Messages = clip(f.Messages, maxListed)
	}
	if l := o.Legacy; l != nil {
		l.Certificates = clipChain(l.Certificates)
		l.Messages = clip(l.Messages, maxListed)
	}
}

func clipHeard(h *wire.Heard) {
	h.Detail = clipText(h.Detail, maxText)
	h.App = clip(h.App, maxApp)
	h.Records = clip(h.Records, maxListed)
	h.KeyLog = clip(h.KeyLog, maxShares)
	h.Certificates = clipChain(h.Certificates)
	for _, s := range []*wire.HelloSeen{h.Hello, h.Second} {
		if s != nil {
			clipHello(s)
		}
	}
}

func clipHello(s *wire.HelloSeen) {
	s.ServerName = clipText(s.ServerName, maxText)
	s.ALPN = clip(s.ALPN, maxShares)
	for i := range s.ALPN {
		s.ALPN[i] = clipText(s.ALPN[i], 255)
	}
	s.Versions = clip(s.Versions, maxListed)
	s.Suites = clip(s.Suites, maxListed)
	s.Groups = clip(s.Groups, maxListed)
	s.Shares = clip(s.Shares, maxShares)
	s.Schemes = clip(s.Schemes, maxListed)
	s.Modes = clip(s.Modes, maxListed)
	s.Extensions = clip(s.Extensions, maxListed)
}

func clip[T any](s []T, most int) []T { return s[:min(len(s), most)] }

// clipText keeps what JSON keeps, so that evidence reads back as it was written.
func clipText(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
}

// clipChain keeps the certificates that fit, from the leaf up.
func clipChain(chain [][]byte) [][]byte {
	total := 0
	for i, c := range chain {
		if total += len(c); total > maxCertificates || i == maxShares {
			return chain[:i]
		}
	}
	return chain
}
