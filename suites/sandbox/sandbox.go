// Package sandbox judges WebAssembly sandboxes: what a module may import and export, quotas, isolation
// between tenants, the life cycle of modules and cold starts. What needs no tenants is judged also by the
// command run-wasm, which any runtime can offer. A file holds a check or a small family. Judges open no
// socket and read no clock.
package sandbox

import (
	"embed"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
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

// Area returns the sandbox catalogue and the checks on it.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("sandbox", catalogue)
	return suites.Area{Name: "sandbox", Requirements: rows, Checks: slices.Clone(checks), Sources: sources}, err
}

// Claims returns the probes of the features that sandbox checks need.
func Claims() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("claims", claimsCatalogue)
	return suites.Area{Name: "claims", Requirements: rows, Checks: slices.Clone(claims)}, err
}

// add registers a check of the HTTP API. Duplicates are refused by suites.New.
func add(c suites.Check) bool {
	c.Needs = append([]features.Feature{features.SandboxAPI}, c.Needs...)
	return addCommon(c)
}

// addMixed registers a check whose cases name what they need: those that begin with run- the command
// run-wasm, the others the HTTP API.
func addMixed(c suites.Check) bool {
	for i, k := range c.Cases {
		need := features.SandboxAPI
		if byRun(k.ID) {
			need = features.SandboxRun
		}
		c.Cases[i].Needs = append([]features.Feature{need}, k.Needs...)
	}
	return addCommon(c)
}

func addCommon(c suites.Check) bool {
	if c.Control == nil {
		c.Control = control()
	}
	checks = append(checks, common(c))
	return true
}

func addClaim(c suites.Check) bool {
	claims = append(claims, common(c))
	return true
}

// common fills in what all checks of this package share.
func common(c suites.Check) suites.Check {
	c.Endpoint = scenario.Endpoint
	for _, r := range []string{reasonNotSet, reasonNoAnswer} {
		if !slices.Contains(c.Reasons, r) {
			c.Reasons = append(c.Reasons, r)
		}
	}
	if c.Cost.Time == 0 {
		c.Cost.Time = 200 * time.Millisecond
	}
	c.Explain = explain
	return c
}

// byRun tells whether a case is driven by the command run-wasm.
func byRun(kase string) bool { return kase == runCase || strings.HasPrefix(kase, runCase+"-") }

const runCase = "run"

// Reasons that several checks give.
const (
	reasonNotSet      = "not-set-up"   // a tenant or a good module was refused
	reasonNoAnswer    = "no-answer"    // the target did not answer as its API says
	reasonTaken       = "taken"        // what must be refused was published
	reasonWrongStatus = "wrong-status" // refused with another status than 403
	reasonWrongStep   = "wrong-step"   // refused at another step
	reasonUnnamed     = "unnamed"      // refused without saying what for
	reasonServed      = "served"       // a refused module answers calls
	reasonWrongResult = "wrong-result"
	reasonWrongClass  = "wrong-class" // a trap of another class
	reasonNoTrap      = "no-trap"     // a call that must trap returned
	reasonOverrun     = "overrun"     // more processor time than the bound
	reasonNotCounted  = "not-counted" // the accounts of the target do not show what was used
	reasonNotServed   = "not-served"  // an ordinary call afterwards was not answered
	reasonReused      = "reused"      // an instance that had to be discarded
	reasonNoBite      = "no-bite"     // Inconclusive: what the case is about did not happen
)

// kill names defects of which each must give the reason in any case.
func kill(reason string, defects ...string) []suites.Kill { return killIn("", reason, defects...) }

func killIn(kase, reason string, defects ...string) []suites.Kill {
	var out []suites.Kill
	for _, d := range defects {
		out = append(out, suites.Kill{Defect: d, Reason: reason, Case: kase})
	}
	return out
}

func kills(lists ...[]suites.Kill) []suites.Kill { return slices.Concat(lists...) }
