// Package router judges AI routers: by the OpenAI chat API in front of upstreams that the harness owns, and by
// assay's HTTP and gRPC API of policies, decisions, feedback, models and versions. A file holds a check or a
// small family. Judges open no socket and read no clock; what a router says of its arithmetic they compute
// again from the vectors that it gave.
package router

import (
	"embed"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	scenario "github.com/assay-bench/assay/scenarios/router"
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

// Area returns the router catalogue and the checks on it.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("router", catalogue)
	return suites.Area{Name: "router", Requirements: rows, Checks: slices.Clone(checks), Sources: sources}, err
}

// Claims returns the probes of the features that router checks need.
func Claims() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("claims", claimsCatalogue)
	return suites.Area{Name: "claims", Requirements: rows, Checks: slices.Clone(claims)}, err
}

// add registers a check of the HTTP API. Duplicates are refused by suites.New.
func add(c suites.Check) bool {
	c.Needs = append([]features.Feature{features.RouterAPI}, c.Needs...)
	c.Endpoint = scenario.Endpoint
	if c.Control == nil {
		c.Control = apiControl()
	}
	checks = append(checks, common(c, reasonNotSet, reasonNoAnswer))
	return true
}

// addChat registers a check of the chat API. Each has the router for itself: a hook configures all of it.
func addChat(c suites.Check) bool {
	c.Needs = append([]features.Feature{features.RouterOpenAI}, c.Needs...)
	c.Endpoint = scenario.ChatEndpoint
	c.Cost.Exclusive = true
	if c.Control == nil {
		c.Control = chatControl()
	}
	checks = append(checks, common(c, reasonNotConfigured, reasonNoAnswer))
	return true
}

func addClaim(c suites.Check) bool {
	claims = append(claims, common(c))
	return true
}

// common fills in what all checks of this package share.
func common(c suites.Check, reasons ...string) suites.Check {
	for _, r := range reasons {
		if !slices.Contains(c.Reasons, r) {
			c.Reasons = append(c.Reasons, r)
		}
	}
	if len(c.Covers) == 0 {
		c.Covers = []string{c.ID}
	}
	if c.Cost.Time == 0 {
		c.Cost.Time = 40 * time.Millisecond
	}
	c.Explain = explain
	return c
}

// Reasons that several checks give.
const (
	reasonAbsent        = "absent"         // a claimed feature is not there
	reasonNotSet        = "not-set-up"     // a router, policy or other preparation was refused
	reasonNotConfigured = "not-configured" // the router could not be told of the upstreams
	reasonNoAnswer      = "no-answer"      // the target did not answer as its API says
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
