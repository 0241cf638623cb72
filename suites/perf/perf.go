// Package perf judges latency scenarios. A scenario is driven by an open loop, its latency counts from
// the intended start of each call, and a generator that was late makes it Inconclusive, not slow.
package perf

import (
	"embed"

	"github.com/assay-bench/assay/suites"
)

//go:embed catalogue.yaml
var catalogue []byte

//go:embed *.go
var sources embed.FS

var checks []suites.Check

// add registers a check of this area. Duplicates are refused by suites.New.
func add(c suites.Check) bool { checks = append(checks, c); return true }

// Area returns the catalogue of the latency scenarios and the checks on it.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("perf", catalogue)
	return suites.Area{Name: "perf", Requirements: rows, Checks: append([]suites.Check(nil), checks...), Sources: sources}, err
}
