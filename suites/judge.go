package suites

import (
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
)

// FrameKey is the key of evidence on the target and the run as a whole.
var FrameKey = results.Key{Check: "target"}

// Controlled marks the end of the positive control within a case's evidence.
const Controlled results.Kind = "controlled"

// Failure is the data of Errored evidence and of a target that did not become ready.
type Failure struct {
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Stall is the data of Stalled evidence.
type Stall struct {
	Longest time.Duration `json:"longest"` // the longest gap of a steady ticker of the harness
}

// Judge turns evidence into verdicts, one for each planned case, in the plan's order. It is a pure
// function of its arguments.
func (s *Suite) Judge(run results.Run, evidence []results.Evidence) []results.Verdict {
	j := judgement{suite: s, run: run, byKey: map[results.Key][]results.Evidence{}}
	for _, e := range evidence {
		j.byKey[e.Key()] = append(j.byKey[e.Key()], e)
	}
	j.readFrame()
	j.probes = map[string]results.Verdict{}
	for _, p := range run.Plan {
		if strings.HasPrefix(p.Check, claimPrefix) {
			j.probes[p.Check] = j.verdict(p)
		}
	}
	out := make([]results.Verdict, 0, len(run.Plan))
	for _, p := range run.Plan {
		if v, ok := j.probes[p.Check]; ok {
			out = append(out, v)
			continue
		}
		out = append(out, j.verdict(p))
	}
	return out
}

// JudgeCase judges one case of a run that goes on.
func (s *Suite) JudgeCase(run results.Run, p results.Planned, evidence []results.Evidence) results.Verdict {
	want := []results.Planned{p}
	for _, q := range run.Plan {
		if strings.HasPrefix(q.Check, claimPrefix) && q.Key() != p.Key() && contains(p.Needs, strings.TrimPrefix(q.Check, claimPrefix)) {
			want = append(want, q)
		}
	}
	run.Plan = want
	return s.Judge(run, evidence)[0]
}

// claimPrefix begins the ids of the checks that probe a claimed feature.
const claimPrefix = "claims/"

type judgement struct {
	suite    *Suite
	run      results.Run
	byKey    map[results.Key][]results.Evidence
	claims   target.Claims
	claimSeq uint64
	notReady *results.Evidence
	probes   map[string]results.Verdict
}

// readFrame takes claims and readiness from the run's own evidence.
func (j *judgement) readFrame() {
	for _, e := range j.byKey[FrameKey] {
		switch e.Kind {
		case results.Claimed:
			// the first claims hold for the whole run: a target that claims less after a restart must not
			// be able to take back what it failed
			if j.claimSeq == 0 && e.Decode(&j.claims) == nil {
				j.claimSeq = e.Seq
			}
		case results.Ready:
			j.notReady = nil
		case results.Errored:
			j.notReady = &e
		}
	}
}

func (j *judgement) verdict(p results.Planned) results.Verdict {
	v := results.Verdict{Check: p.Check, Case: p.Case, Under: p.Under}
	check, ok := j.suite.Check(p.Check)
	if !ok {
		return broken(v, ReasonJudge, "this program has no check of that name")
	}
	f := j.find(check, p)
	v.Frame = check.frame
	v.Status, v.Reason, v.Cites, v.Figures = f.Status, f.Reason, f.Cites, f.Figures
	v.Why = results.Why{Expected: f.Expected, Observed: clip(f.Observed), Reproduce: p.Reproduce}
	if v.Status == results.Fail {
		v.Expected = p.Expected
	}
	if v.Status == results.Pass && p.Expected != "" {
		v.Status, v.Reason = results.Fail, ReasonStale
		v.Why.Expected = "the case fails, as the known-failing list says: " + p.Expected
		v.Why.Observed = "it passes: remove its entry from the list"
	}
	if v.Status == results.Pass && len(v.Cites) == 0 {
		return broken(v, ReasonJudge, "the judge passed the case and cited no evidence")
	}
	if v.Status == results.Fail || v.Status == results.Inconclusive {
		v.Exchange = j.exchange(check, v)
	}
	return v
}

func (j *judgement) find(c Check, p results.Planned) Finding {
	if c.frame {
		return j.closed(c, c.Judge(Trace{Key: FrameKey, Evidence: j.byKey[FrameKey], Claims: j.claims}))
	}
	if j.notReady != nil && !endedBefore(LastAttempt(j.byKey[p.Key()]), j.notReady.Seq) {
		return Finding{
			Status: results.Fail, Reason: ReasonNotReady, Cites: []uint64{j.notReady.Seq},
			Expected: "a target that becomes ready", Observed: string(j.notReady.Data),
		}
	}
	if f, decided := j.byClaims(p); decided {
		return f
	}
	all := LastAttempt(j.byKey[p.Key()])
	if f, decided := unfinished(all); decided {
		return f
	}
	control, driven := split(all)
	if c.Control != nil {
		if ok, observed := c.Control.Judge(control); !ok {
			return Finding{
				Status: results.Fail, Reason: ReasonControl, Cites: numbers(control),
				Expected: "the positive control succeeds: an ordinary call is answered", Observed: observed,
			}
		}
	}
	if p.Under != "" {
		if f, decided := byFault(driven); decided {
			return f
		}
	}
	tr := Trace{Key: p.Key(), Evidence: driven, Claims: j.claims, Stall: stallOf(all)}
	return j.closed(c, c.Judge(tr))
}

// endedBefore tells whether a case had run to its end when a target that was started again did not become
// ready: what it saw until then stands.
func endedBefore(all []results.Evidence, seq uint64) bool {
	for _, e := range all {
		if e.Kind == results.Ended && e.Seq < seq {
			return true
		}
	}
	return false
}

// closed refuses findings outside the check's closed set of reasons.
func (j *judgement) closed(c Check, f Finding) Finding {
	switch f.Status {
	case results.Pass:
		return f
	case results.Unproven:
		if c.frame && f.Reason == ReasonUnfinished { // the frame's judges see runs that were killed
			return f
		}
	case results.Fail, results.Inconclusive:
		if f.Reason == ReasonHostNoise && f.Status == results.Inconclusive {
			return f
		}
		for _, r := range c.Reasons {
			if r == f.Reason {
				return f
			}
		}
	}
	f.Observed = fmt.Sprintf("the judge returned %s for reason %q, which is not in its set: %s", f.Status, f.Reason, f.Observed)
	f.Status, f.Reason = results.Broken, ReasonJudge
	return f
}

// byClaims decides for unclaimed features and for claims whose probe failed.
func (j *judgement) byClaims(p results.Planned) (Finding, bool) {
	if j.claimSeq == 0 {
		return Finding{Status: results.Unproven, Reason: ReasonUnfinished, Observed: "the run ended before the target stated its claims"}, true
	}
	for _, need := range p.Needs {
		if !j.claims.Has(need) {
			return Finding{Status: results.NotClaimed, Observed: "feature " + need + " is not claimed", Cites: []uint64{j.claimSeq}}, true
		}
		probe, ok := j.probes[claimPrefix+need]
		if ok && j.run.Probing && probe.Status == results.Fail && p.Check != probe.Check {
			return Finding{
				Status: results.Fail, Reason: ReasonClaimAbsent, Cites: probe.Cites,
				Expected: "the claimed feature " + need + " is there",
				Observed: "its probe " + probe.Check + " failed: " + probe.Why.Observed,
			}, true
		}
	}
	return Finding{}, false
}

// unfinished decides for cases that did not run to their end, or in which the harness erred.
func unfinished(all []results.Evidence) (Finding, bool) {
	ended := false
	for _, e := range all {
		switch e.Kind {
		case results.Errored:
			return Finding{Status: results.Broken, Reason: ReasonHarness, Observed: string(e.Data), Cites: []uint64{e.Seq}}, true
		case results.Ended:
			ended = true
		}
	}
	if !ended {
		return Finding{Status: results.Unproven, Reason: ReasonUnfinished, Observed: "the run ended before this case did", Cites: numbers(all)}, true
	}
	return Finding{}, false
}

// byFault demands that a fault was seen by its witness each time that the witness looked, and that
// nothing of it is left.
func byFault(driven []results.Evidence) (Finding, bool) {
	looked := 0
	for _, e := range driven {
		switch e.Kind {
		case results.Injected:
			var inj chaos.Injected
			if err := e.Decode(&inj); err != nil {
				return Finding{Status: results.Broken, Reason: ReasonJudge, Observed: err.Error(), Cites: []uint64{e.Seq}}, true
			}
			looked++
			if !inj.Witnessed {
				return Finding{
					Status: results.Inconclusive, Reason: ReasonNotWitnessed, Cites: []uint64{e.Seq},
					Expected: fmt.Sprintf("the fault %s of %g %s is seen by an independent witness", inj.Fault, inj.Asked, inj.Unit),
					Observed: fmt.Sprintf("%g %s (%s)", inj.Observed, inj.Unit, inj.Detail),
				}, true
			}
		case results.Residue:
			var left []string
			if err := e.Decode(&left); err != nil || len(left) > 0 {
				return Finding{Status: results.Broken, Reason: ReasonResidue, Observed: string(e.Data), Cites: []uint64{e.Seq}}, true
			}
		}
	}
	if looked == 0 {
		return Finding{
			Status: results.Inconclusive, Reason: ReasonNotWitnessed, Cites: numbers(driven),
			Expected: "the fault is seen by an independent witness", Observed: "no witness spoke",
		}, true
	}
	return Finding{}, false
}

// LastAttempt drops what a later attempt made void.
func LastAttempt(all []results.Evidence) []results.Evidence {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Kind == results.Attempted {
			return all[i+1:]
		}
	}
	return all
}

// split separates the positive control from the rest.
func split(all []results.Evidence) (control, driven []results.Evidence) {
	for i, e := range all {
		if e.Kind == Controlled {
			return all[:i], all[i+1:]
		}
	}
	return nil, all
}

func stallOf(all []results.Evidence) time.Duration {
	var longest time.Duration
	for _, e := range all {
		var st Stall
		if e.Kind == results.Stalled && e.Decode(&st) == nil {
			longest = max(longest, st.Longest)
		}
	}
	return longest
}

func numbers(es []results.Evidence) []uint64 {
	const most = 64 // a verdict cites; the bundle has the rest
	var out []uint64
	for _, e := range es {
		if len(out) == most {
			break
		}
		out = append(out, e.Seq)
	}
	return out
}

// exchange decodes the cited evidence for reports.
func (j *judgement) exchange(c Check, v results.Verdict) []results.Exchange {
	cited := map[uint64]bool{}
	for _, n := range v.Cites {
		cited[n] = true
	}
	var out []results.Exchange
	for _, e := range append(j.byKey[v.Key()], j.byKey[FrameKey]...) {
		if !cited[e.Seq] || len(out) == maxExchange {
			continue
		}
		x := results.Exchange{Seq: e.Seq, At: e.At, From: e.Source, Kind: e.Kind}
		var step struct {
			Bytes results.Bytes `json:"bytes"`
		}
		if e.Decode(&step) == nil && step.Bytes.Len > 0 {
			b, _ := step.Bytes.Whole()
			x.Len, x.Hex = step.Bytes.Len, fmt.Sprintf("%x", b[:min(len(b), maxExchangeBytes)])
		}
		if c.Explain != nil {
			x.Decoded = clip(c.Explain(e))
		}
		if x.Decoded == "" && x.Len == 0 {
			x.Decoded = clip(string(e.Data))
		}
		out = append(out, x)
	}
	return out
}

// Bounds on what a verdict repeats of the evidence.
const (
	maxExchange      = 24
	maxExchangeBytes = 2 << 10
	maxText          = 4 << 10
)

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + fmt.Sprintf(" … (%d bytes in all)", len(s))
}

func broken(v results.Verdict, reason, observed string) results.Verdict {
	v.Status, v.Reason = results.Broken, reason
	v.Why.Observed = observed
	return v
}
