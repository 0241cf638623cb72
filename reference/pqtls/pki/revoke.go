package pki

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// maxRecords bounds the register of issued leaves; expired ones make room.
const maxRecords = 1 << 16

// crlLife is the time from thisUpdate to nextUpdate of a revocation list.
const crlLife = 24 * time.Hour

// State is what an authority knows of a serial number.
type State uint8

// The states, which are those of an OCSP response (RFC 6960 section 2.2).
const (
	Unknown State = iota // not issued here, or long expired
	Good
	Revoked
)

// Status is the state of a leaf; At and Reason (RFC 5280 section 5.3.1) belong to Revoked.
type Status struct {
	State  State
	At     time.Time
	Reason int
}

type record struct {
	serial   *big.Int
	notAfter time.Time
	status   Status
}

func (a *Authority) register(leaf *x509.Certificate) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.issued) >= maxRecords {
		now := a.opts.Now()
		maps.DeleteFunc(a.issued, func(_ string, r *record) bool { return r.notAfter.Before(now) })
	}
	if len(a.issued) >= maxRecords {
		return fmt.Errorf("pki: %d leaves are valid, no more are issued", maxRecords)
	}
	a.issued[serialKey(leaf.SerialNumber)] = &record{leaf.SerialNumber, leaf.NotAfter, Status{State: Good}}
	return nil
}

func serialKey(serial *big.Int) string { return serial.Text(16) }

// Revoke marks a leaf as revoked since at. Revoking twice keeps the first time; a serial number that
// was not issued here is an error.
func (a *Authority) Revoke(serial *big.Int, reason int, at time.Time) error {
	if reason < 0 || reason > 10 || reason == 7 { // RFC 5280 section 5.3.1
		return fmt.Errorf("pki: revocation reason %d is not defined", reason)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.issued[serialKey(serial)]
	if !ok {
		return fmt.Errorf("pki: revoke %x: %w", serial, errNoIssuer)
	}
	if r.status.State != Revoked {
		r.status = Status{State: Revoked, At: at, Reason: reason}
	}
	return nil
}

// Status returns what is known of a serial number.
func (a *Authority) Status(serial *big.Int) Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.issued[serialKey(serial)]; ok {
		return r.status
	}
	return Status{}
}

// CRL returns a fresh revocation list of the intermediate, in DER. Its number grows with each call.
func (a *Authority) CRL() ([]byte, error) {
	ca, err := a.cas()
	if err != nil {
		return nil, err
	}
	entries, number := a.revoked()
	now := a.opts.Now()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		RevokedCertificateEntries: entries, Number: big.NewInt(number),
		ThisUpdate: now, NextUpdate: now.Add(crlLife),
	}, ca.intermediate, ca.intermediateKey)
	if err != nil {
		return nil, fmt.Errorf("pki: revocation list: %w", err)
	}
	return der, nil
}

// revoked returns the revoked leaves in the order of their serial numbers, and the list's number.
func (a *Authority) revoked() ([]x509.RevocationListEntry, int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.crl++
	var entries []x509.RevocationListEntry
	for _, r := range a.issued {
		if r.status.State == Revoked {
			entries = append(entries, x509.RevocationListEntry{
				SerialNumber: r.serial, RevocationTime: r.status.At, ReasonCode: r.status.Reason})
		}
	}
	slices.SortFunc(entries, func(x, y x509.RevocationListEntry) int { return x.SerialNumber.Cmp(y.SerialNumber) })
	return entries, a.crl
}
