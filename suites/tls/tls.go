// Package tls judges TLS evidence: key exchange, hellos, certificates, resumption and OCSP, of servers and
// of clients. A file holds a check, or the frame that several share. Its judges open no socket and read no
// clock.
package tls

import (
	"embed"

	"github.com/assay-bench/assay/suites"
)

//go:embed catalogue.yaml
var catalogue []byte

//go:embed claims.yaml
var claimsCatalogue []byte

//go:embed *.go
var sources embed.FS

var (
	checks []suites.Check
	claims []suites.Check
)

// add registers a check of this area; addClaim the probe of a feature. Duplicates are refused by
// suites.New.
func add(c suites.Check) bool      { checks = append(checks, c); return true }
func addClaim(c suites.Check) bool { claims = append(claims, c); return true }

// Area returns the TLS catalogue and the checks on it.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("tls", catalogue)
	return suites.Area{Name: "tls", Requirements: rows, Checks: append([]suites.Check(nil), checks...), Sources: sources}, err
}

// Claims returns the probes of the features that TLS checks need.
func Claims() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("claims", claimsCatalogue)
	return suites.Area{Name: "claims", Requirements: rows, Checks: append([]suites.Check(nil), claims...)}, err
}
