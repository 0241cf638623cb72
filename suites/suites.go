// Package suites holds the opinions of assay: requirements, checks that cover them, and the judge that
// turns evidence into verdicts. Judging opens no socket and reads no clock: a verdict is a function of
// the recorded evidence alone.
package suites

import (
	"context"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// Check is one experiment and its judge. A check covers requirements, runs once a case in fair weather
// and once a case under each fault, and names the planted defects that must turn it red.
type Check struct {
	ID       string             // permanent slug: rpc/wire/seq-echo
	Title    string             // one line for people
	Covers   []string           // requirement ids
	Needs    []features.Feature // claimed features without which the check says nothing
	Cases    []Case             // none: one case without a name
	Control  *Control           // must succeed first on the same target, else the check fails
	Under    []chaos.Spec       // faults that it must hold under
	Only     bool               // only under the faults, not in fair weather
	Cost     Cost
	Stops    bool // the drive ends the target with Env.Terminate
	Locality Locality
	// Here says why this host can not run the check (a device or a program is missing), or nothing. It may
	// be nil, and is asked once, when a run is planned.
	Here    func() string
	Reasons []string                                    // the closed set of reasons for Fail and Inconclusive
	Drive   func(context.Context, *scenarios.Env) error // an error means that the harness broke
	Judge   func(Trace) Finding
	Explain func(results.Evidence) string // decodes traffic for reports; may be nil
	// Endpoint is the endpoint of the target that the check drives: where a fault strikes.
	Endpoint string
	// Probe is one small exchange with the target at an address, for a fault's witness; a check that
	// runs under faults must have one. It returns how long the answer took.
	Probe func(ctx context.Context, env *scenarios.Env, addr string) (time.Duration, error)
	Kills []Kill
	frame bool // judged from the run's own evidence, not driven
}

// Case is one variant of a check.
type Case struct {
	ID    string // permanent within the check
	Title string
	Needs []features.Feature // beyond those of the check
}

// Control is the positive control of a check: proof that silence or refusal means something.
type Control struct {
	Drive func(context.Context, *scenarios.Env) error
	Judge func([]results.Evidence) (ok bool, observed string)
}

// Cost is what a profile picks by.
type Cost struct {
	Time      time.Duration // expected, for one case
	Exclusive bool          // nothing else may run beside it
}

// Locality says what must be within reach to observe a check.
type Locality uint8

// The localities.
const (
	Anywhere  Locality = iota // an address is enough
	SameHost                  // the target's process must run on this host
	OwnedHost                 // and must have been started by the harness
)

// Kill names a planted defect and the reason that it must produce in a case.
type Kill struct {
	Defect string
	Reason string
	Case   string // empty: any case
	Under  string // fault that must be on; empty: fair weather
}

// Trace is what a judge sees.
type Trace struct {
	Key      results.Key
	Evidence []results.Evidence // of the case's last attempt, without the control
	Claims   target.Claims
	Stall    time.Duration // the longest stall of the harness itself during the case
}

// Noisy tells that a timing bound can not be judged, because the harness itself stalled for more than a
// fifth of it.
func (t Trace) Noisy(bound time.Duration) bool { return bound < 5*t.Stall }

// Timing compares a measured time with bounds, given that the harness may have noticed its beginning and
// its end late by as much as its own longest stall.
type Timing uint8

// The outcomes of Within.
const (
	Inside Timing = iota
	TooEarly
	TooLate
	Unsure
)

// Within tells whether a measured time lies within bounds, beyond doubt.
func (t Trace) Within(measured, lower, upper time.Duration) Timing {
	switch {
	case measured+t.Stall < lower:
		return TooEarly
	case measured-t.Stall > upper:
		return TooLate
	case measured-t.Stall >= lower && measured+t.Stall <= upper:
		return Inside
	}
	return Unsure
}

// Finding is what a judge returns.
type Finding struct {
	Status   results.Status
	Reason   string // empty for Pass, else from the check's closed set
	Expected string
	Observed string
	Cites    []uint64
	Figures  []results.Figure
}

// Reasons that the frame itself gives; no check may use them.
const (
	ReasonControl      = "control-failed"
	ReasonClaimAbsent  = "claim-absent"
	ReasonNotReady     = "target-not-ready"
	ReasonNotWitnessed = "fault-not-witnessed"
	ReasonResidue      = "fault-left-residue"
	ReasonHostNoise    = "host-noise"
	ReasonHarness      = "harness-error"
	ReasonUnfinished   = "not-finished"
	ReasonJudge        = "judge-error"
	ReasonStale        = "known-failing-passes"
)

// Passing builds a Finding that says yes.
func Passing(expected, observed string, cites []uint64) Finding {
	return Finding{Status: results.Pass, Expected: expected, Observed: observed, Cites: cites}
}

// Failing builds a Finding that says no, for a reason of the check's closed set.
func Failing(reason, expected, observed string, cites []uint64) Finding {
	return Finding{Status: results.Fail, Reason: reason, Expected: expected, Observed: observed, Cites: cites}
}

// TooNoisy builds the Finding for a timing bound that the host's noise makes unjudgeable.
func TooNoisy(expected, observed string, cites []uint64) Finding {
	return Finding{Status: results.Inconclusive, Reason: ReasonHostNoise, Expected: expected, Observed: observed, Cites: cites}
}

// cases lists the case ids, one empty id where the check has no cases.
func (c Check) cases() []Case {
	if len(c.Cases) == 0 {
		return []Case{{}}
	}
	return c.Cases
}

// Keys lists all that the check is judged for.
func (c Check) Keys() []results.Key {
	var out []results.Key
	for _, k := range c.cases() {
		if !c.Only {
			out = append(out, results.Key{Check: c.ID, Case: k.ID})
		}
		for _, u := range c.Under {
			out = append(out, results.Key{Check: c.ID, Case: k.ID, Under: u.String()})
		}
	}
	return out
}

// Driven tells whether the check drives the target; the frame's own checks read the run's evidence.
func (c Check) Driven() bool { return !c.frame }

// NeedsOf lists the features that a case needs.
func (c Check) NeedsOf(id string) []features.Feature {
	out := append([]features.Feature(nil), c.Needs...)
	for _, k := range c.Cases {
		if k.ID == id {
			out = append(out, k.Needs...)
		}
	}
	return out
}

// caseTitle describes a case for people.
func (c Check) caseTitle(id string) string {
	for _, k := range c.Cases {
		if k.ID == id && k.Title != "" {
			return c.Title + ": " + k.Title
		}
	}
	return c.Title
}
