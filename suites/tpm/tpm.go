// Package tpm judges what a target does with a TPM: a cache sealed under PCR values, quotes, and both
// while the TPM misbehaves. The TPM is the harness's own. A file holds a check or a small family. Judges
// open no socket and read no clock.
package tpm

import (
	"embed"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
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

// Area returns the TPM catalogue and the checks on it.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("tpm", catalogue)
	return suites.Area{Name: "tpm", Requirements: rows, Checks: slices.Clone(checks), Sources: sources}, err
}

// Claims returns the probes of the features that TPM checks need.
func Claims() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("claims", claimsCatalogue)
	return suites.Area{Name: "claims", Requirements: rows, Checks: slices.Clone(claims)}, err
}

// add registers a check of the cache, addQuote one of quotes, addClaim the probe of a feature.
// Duplicates are refused by suites.New.
func add(c suites.Check) bool {
	c.Needs = append(c.Needs, features.TPMCache)
	if c.Control == nil {
		c.Control = cacheControl()
	}
	checks = append(checks, common(c))
	return true
}

func addQuote(c suites.Check) bool {
	c.Needs = append(c.Needs, features.TPMQuote)
	c.Control = quoteControl()
	checks = append(checks, common(c))
	return true
}

func addClaim(c suites.Check) bool {
	claims = append(claims, common(c))
	return true
}

// common fills in what all checks of this package share.
func common(c suites.Check) suites.Check {
	c.Endpoint, c.Locality, c.Here = scenario.Endpoint, suites.SameHost, scenario.Here
	c.Reasons = append(c.Reasons, reasonNoSession)
	c.Judge = calm(c.Judge)
	if c.Cost.Time == 0 {
		c.Cost.Time = 200 * time.Millisecond
	}
	if c.Explain == nil {
		c.Explain = explain
	}
	return c
}

// Reasons that several checks give.
const (
	reasonNoSession  = "no-session" // the target opened no session, or stopped answering
	reasonNotStored  = "not-stored" // a response was not stored
	reasonNotServed  = "not-served" // a good entry did not come back
	reasonAltered    = "altered"    // what came back is not what was stored
	reasonServed     = "served"     // the cache served what it must not
	reasonWrongCode  = "wrong-code" // the cache did not serve, and did not say why as it must
	reasonNotRebuilt = "not-rebuilt"
	reasonNoBite     = "no-bite" // Inconclusive: the target did not come across the fault
)

// kill names defects of which each must give the reason.
func kill(reason string, defects ...string) []suites.Kill { return killIn("", reason, defects...) }

func killIn(kase, reason string, defects ...string) []suites.Kill {
	var out []suites.Kill
	for _, d := range defects {
		out = append(out, suites.Kill{Defect: d, Reason: reason, Case: kase})
	}
	return out
}
