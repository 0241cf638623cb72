package suites_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// log is evidence under construction.
type log struct {
	t   testing.TB
	all []results.Evidence
}

func (l *log) add(key results.Key, kind results.Kind, data any) uint64 {
	l.t.Helper()
	raw, err := results.Marshal(data)
	if err != nil {
		l.t.Fatal(err)
	}
	n := uint64(len(l.all) + 1)
	l.all = append(l.all, results.Evidence{
		Seq: n, At: time.Duration(n), Source: results.FromScenario, Check: key.Check, Case: key.Case, Under: key.Under, Kind: kind, Data: raw,
	})
	return n
}

// begin is what every run starts with.
func begin(t testing.TB, claimed ...string) *log {
	l := &log{t: t}
	l.add(suites.FrameKey, results.Ready, map[string]any{"endpoints": map[string]string{}})
	l.add(suites.FrameKey, results.Claimed, target.Claims{Name: "t", Features: claimed})
	return l
}

// drive adds a whole case whose judge is told to return f.
func (l *log) drive(key results.Key, f suites.Finding) uint64 {
	n := l.add(key, results.Measured, f)
	l.add(key, results.Stalled, suites.Stall{})
	l.add(key, results.Ended, nil)
	return n
}

func (l *log) end() { l.add(suites.FrameKey, results.Exited, target.Exit{Asked: true}) }

var (
	passing = suites.Finding{Status: results.Pass}
	failing = suites.Finding{Status: results.Fail, Reason: "bad", Observed: "it was bad"}
)

// judgeSuite has one check of each shape that the judge tells apart.
func judgeSuite(t testing.TB) *suites.Suite {
	t.Helper()
	return built(t, frame(t),
		area("claims", check("claims/rpc.framed", needs(features.RPCFramed))),
		area("x",
			check("x/plain"),
			check("x/needs", needs(features.RPCFramed)),
			check("x/two", needs(features.RPCFramed, features.RPCBehave)),
			check("x/fault", under(pause)),
			check("x/control", func(c *suites.Check) {
				c.Control = &suites.Control{Drive: drive, Judge: func(es []results.Evidence) (bool, string) {
					for _, e := range es {
						if e.Kind == results.Received {
							return true, "answered"
						}
					}
					return false, "no answer"
				}}
			}),
			check("x/uncited", func(c *suites.Check) {
				c.Judge = func(suites.Trace) suites.Finding { return passing }
			}),
			check("x/stalled", func(c *suites.Check) {
				c.Judge = func(t suites.Trace) suites.Finding {
					return suites.Failing("bad", "", t.Stall.String(), []uint64{t.Evidence[0].Seq})
				}
			}),
		))
}

// runOf plans every key of the suite, as a run with probing does.
func runOf(t testing.TB, s *suites.Suite) results.Run {
	t.Helper()
	sel := selection()
	sel.Probing = true
	plan, err := s.Plan(sel)
	if err != nil {
		t.Fatal(err)
	}
	return results.Run{ID: "0123456789abcdef", Plan: plan.Planned, Probing: true}
}

var (
	plain   = results.Key{Check: "x/plain"}
	needing = results.Key{Check: "x/needs"}
	faulted = results.Key{Check: "x/fault", Under: "proc/pause=0.4"}
	control = results.Key{Check: "x/control"}
	claim   = results.Key{Check: "claims/rpc.framed"}
)

// verdictOf judges everything and picks one.
func verdictOf(t *testing.T, s *suites.Suite, run results.Run, evidence []results.Evidence, key results.Key) results.Verdict {
	t.Helper()
	all := s.Judge(run, evidence)
	if len(all) != len(run.Plan) {
		t.Fatalf("%d verdicts for %d planned cases", len(all), len(run.Plan))
	}
	for i, v := range all {
		if v.Key() != run.Plan[i].Key() {
			t.Fatalf("verdict %d is on %s, planned was %s", i, v.Key(), run.Plan[i].Key())
		}
	}
	for i, p := range run.Plan {
		if p.Key() == key {
			alone := s.JudgeCase(run, p, evidence)
			if diff := cmp.Diff(all[i], alone); diff != "" {
				t.Errorf("judged alone, %s differs (-all +alone):\n%s", key, diff)
			}
			return all[i]
		}
	}
	t.Fatalf("%s is not planned", key)
	return results.Verdict{}
}

func TestJudge(t *testing.T) {
	injected := func(witnessed bool) chaos.Injected {
		return chaos.Injected{Fault: "proc/pause", Unit: "s", Asked: 0.4, Observed: 0.1, Witnessed: witnessed}
	}
	tests := []struct {
		name   string
		key    results.Key
		record func(*log)
		status results.Status
		reason string
		cites  []uint64
	}{
		{"pass", plain, func(l *log) { l.drive(plain, passing) }, results.Pass, "", []uint64{3}},
		{"fail", plain, func(l *log) { l.drive(plain, failing) }, results.Fail, "bad", []uint64{3}},
		{"nothing driven", plain, func(*log) {}, results.Unproven, "not-finished", nil},
		{"unfinished", plain, func(l *log) { l.add(plain, results.Measured, passing) }, results.Unproven, "not-finished", []uint64{3}},
		{"unfinished second attempt", plain, func(l *log) {
			l.drive(plain, passing)
			l.add(plain, results.Attempted, nil)
			l.add(plain, results.Measured, passing)
		}, results.Unproven, "not-finished", []uint64{7}},
		{"drive erred", plain, func(l *log) {
			l.add(plain, results.Measured, passing)
			l.add(plain, results.Errored, suites.Failure{Reason: "drive", Detail: "no file"})
			l.add(plain, results.Ended, nil)
		}, results.Broken, "harness-error", []uint64{4}},
		{"a later attempt counts", plain, func(l *log) {
			l.drive(plain, failing)
			l.add(plain, results.Attempted, nil)
			l.drive(plain, passing)
		}, results.Pass, "", []uint64{7}},
		{"a later attempt counts, not the better one", plain, func(l *log) {
			l.drive(plain, passing)
			l.add(plain, results.Attempted, nil)
			l.drive(plain, failing)
		}, results.Fail, "bad", []uint64{7}},
		{"an earlier error is void", plain, func(l *log) {
			l.add(plain, results.Errored, nil)
			l.add(plain, results.Ended, nil)
			l.add(plain, results.Attempted, nil)
			l.drive(plain, passing)
		}, results.Pass, "", []uint64{6}},
		{"noise", plain, func(l *log) {
			l.drive(plain, suites.Finding{Status: results.Inconclusive, Reason: "host-noise"})
		}, results.Inconclusive, "host-noise", []uint64{3}},
		{"inconclusive for a reason of the check", plain, func(l *log) {
			l.drive(plain, suites.Finding{Status: results.Inconclusive, Reason: "bad"})
		}, results.Inconclusive, "bad", []uint64{3}},
		{"a reason outside the set", plain, func(l *log) {
			l.drive(plain, suites.Finding{Status: results.Fail, Reason: "worse"})
		}, results.Broken, "judge-error", []uint64{3}},
		{"a fail without reason", plain, func(l *log) { l.drive(plain, suites.Finding{Status: results.Fail}) }, results.Broken, "judge-error", []uint64{3}},
		{"a reason of the frame", plain, func(l *log) {
			l.drive(plain, suites.Finding{Status: results.Fail, Reason: "host-noise"})
		}, results.Broken, "judge-error", []uint64{3}},
		{"a judge that decides nothing", plain, func(l *log) { l.drive(plain, suites.Finding{}) }, results.Broken, "judge-error", []uint64{3}},
		{"a judge that says unfinished", plain, func(l *log) {
			l.drive(plain, suites.Finding{Reason: "not-finished"})
		}, results.Broken, "judge-error", []uint64{3}},
		{"a judge that says not claimed", plain, func(l *log) {
			l.drive(plain, suites.Finding{Status: results.NotClaimed})
		}, results.Broken, "judge-error", []uint64{3}},
		{"a pass that cites nothing", results.Key{Check: "x/uncited"}, func(l *log) {
			l.drive(results.Key{Check: "x/uncited"}, passing)
		}, results.Broken, "judge-error", nil},

		{"control failed", control, func(l *log) {
			l.add(control, results.Sent, nil)
			l.add(control, suites.Controlled, nil)
			l.add(control, results.Received, nil) // behind the mark it proves nothing
			l.drive(control, passing)
		}, results.Fail, "control-failed", []uint64{3}},
		{"control succeeded", control, func(l *log) {
			l.add(control, results.Received, nil)
			l.add(control, suites.Controlled, nil)
			l.drive(control, passing)
		}, results.Pass, "", []uint64{5}},
		{"no control was driven", control, func(l *log) {
			l.add(control, results.Received, nil)
			l.drive(control, passing)
		}, results.Fail, "control-failed", nil},

		{"unclaimed", results.Key{Check: "x/two"}, func(l *log) {
			l.drive(claim, passing)
			l.drive(results.Key{Check: "x/two"}, passing)
		}, results.NotClaimed, "", []uint64{2}},
		{"claimed and there", needing, func(l *log) {
			l.drive(claim, passing)
			l.drive(needing, passing)
		}, results.Pass, "", []uint64{6}},
		{"claimed and absent", needing, func(l *log) {
			l.drive(needing, passing)
			l.drive(claim, failing)
		}, results.Fail, "claim-absent", []uint64{6}},
		{"the probe itself fails for its own reason", claim, func(l *log) { l.drive(claim, failing) }, results.Fail, "bad", []uint64{3}},
		{"an unproven probe decides nothing", needing, func(l *log) { l.drive(needing, passing) }, results.Pass, "", []uint64{3}},

		{"fault witnessed", faulted, func(l *log) {
			l.add(faulted, results.Injected, injected(true))
			l.add(faulted, results.Residue, []string{})
			l.drive(faulted, passing)
		}, results.Pass, "", []uint64{5}},
		{"fault not witnessed", faulted, func(l *log) {
			l.add(faulted, results.Injected, injected(false))
			l.drive(faulted, failing)
		}, results.Inconclusive, "fault-not-witnessed", []uint64{3}},
		{"fault witnessed at first only", faulted, func(l *log) {
			l.add(faulted, results.Injected, injected(true))
			l.add(faulted, results.Injected, injected(false))
			l.drive(faulted, passing)
		}, results.Inconclusive, "fault-not-witnessed", []uint64{4}},
		{"no witness spoke", faulted, func(l *log) { l.drive(faulted, failing) }, results.Inconclusive, "fault-not-witnessed", []uint64{3, 4, 5}},
		{"residue", faulted, func(l *log) {
			l.add(faulted, results.Injected, injected(true))
			l.add(faulted, results.Residue, []string{"a cgroup"})
			l.drive(faulted, passing)
		}, results.Broken, "fault-left-residue", []uint64{4}},
		{"unreadable residue", faulted, func(l *log) {
			l.add(faulted, results.Injected, injected(true))
			l.add(faulted, results.Residue, 7)
			l.drive(faulted, passing)
		}, results.Broken, "fault-left-residue", []uint64{4}},
		{"unreadable witness", faulted, func(l *log) {
			l.add(faulted, results.Injected, "x")
			l.drive(faulted, passing)
		}, results.Broken, "judge-error", []uint64{3}},
		{"fair weather needs no witness", results.Key{Check: "x/fault"}, func(l *log) {
			l.drive(results.Key{Check: "x/fault"}, passing)
		}, results.Pass, "", []uint64{3}},

		{"not ready after a restart", plain, func(l *log) {
			l.add(suites.FrameKey, results.Errored, suites.Failure{Reason: "timeout"})
			l.drive(plain, passing)
		}, results.Fail, "target-not-ready", []uint64{3}},
		{"driven before the target went away for good", plain, func(l *log) {
			l.drive(plain, passing)
			l.add(suites.FrameKey, results.Errored, suites.Failure{Reason: "timeout"})
		}, results.Pass, "", []uint64{3}},
		{"ready again", plain, func(l *log) {
			l.add(suites.FrameKey, results.Errored, suites.Failure{Reason: "timeout"})
			l.add(suites.FrameKey, results.Ready, nil)
			l.drive(plain, passing)
		}, results.Pass, "", []uint64{5}},

		{"target ready", results.Key{Check: "target/ready"}, func(*log) {}, results.Pass, "", []uint64{1}},
		{"stays up", results.Key{Check: "target/stays-up"}, func(l *log) { l.end() }, results.Pass, "", []uint64{3}},
		{"stays up, unfinished", results.Key{Check: "target/stays-up"}, func(*log) {}, results.Unproven, "not-finished", nil},
		{"did not stay up", results.Key{Check: "target/stays-up"}, func(l *log) {
			l.add(suites.FrameKey, results.Exited, target.Exit{State: "signal: killed"})
			l.end()
		}, results.Fail, "exited", []uint64{3}},
	}
	s := judgeSuite(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := begin(t, "rpc.framed")
			tt.record(l)
			v := verdictOf(t, s, runOf(t, s), l.all, tt.key)
			if v.Status != tt.status || v.Reason != tt.reason {
				t.Errorf("%s %q, want %s %q (observed: %s)", v.Status, v.Reason, tt.status, tt.reason, v.Why.Observed)
			}
			if diff := cmp.Diff(tt.cites, v.Cites, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("cites (-want +got):\n%s", diff)
			}
			if err := v.Validate(uint64(len(l.all))); err != nil {
				t.Error(err)
			}
			if want := "assay run " + suites.Pattern(tt.key); v.Why.Reproduce != want {
				t.Errorf("reproduce %q, want %q", v.Why.Reproduce, want)
			}
		})
	}
}

func TestJudgeBeforeTheTargetSpoke(t *testing.T) {
	s := judgeSuite(t)
	run := runOf(t, s)
	ready := results.Key{Check: "target/ready"}
	for _, key := range []results.Key{plain, ready, claim} {
		if v := verdictOf(t, s, run, nil, key); v.Status != results.Unproven || v.Reason != suites.ReasonUnfinished {
			t.Errorf("%s without any evidence is %s %s: %s", key, v.Status, v.Reason, v.Why.Observed)
		}
	}
	for _, reason := range []string{"timeout", "exited", "garbage", "no-such-program"} {
		l := &log{t: t}
		l.add(suites.FrameKey, results.Errored, suites.Failure{Reason: reason, Detail: "it said nothing"})
		if v := verdictOf(t, s, run, l.all, ready); v.Status != results.Fail || v.Reason != reason || len(v.Cites) != 1 {
			t.Errorf("a target that is not ready (%s) is %s %s", reason, v.Status, v.Reason)
		}
		for _, key := range []results.Key{plain, faulted, claim} {
			if v := verdictOf(t, s, run, l.all, key); v.Status != results.Fail || v.Reason != suites.ReasonNotReady || len(v.Cites) != 1 {
				t.Errorf("%s of a target that is not ready is %s %s", key, v.Status, v.Reason)
			}
		}
	}
}

func TestJudgeWithoutProbing(t *testing.T) {
	s := judgeSuite(t)
	run := runOf(t, s)
	run.Probing = false
	l := begin(t, "rpc.framed")
	l.drive(claim, failing)
	l.drive(needing, passing)
	if v := verdictOf(t, s, run, l.all, needing); v.Status != results.Pass {
		t.Errorf("without probing a failed probe decides: %s %s", v.Status, v.Reason)
	}
}

func TestFirstClaimsHold(t *testing.T) {
	s := judgeSuite(t)
	l := begin(t, "rpc.framed")
	l.add(suites.FrameKey, results.Ready, nil) // started again, and now it claims nothing
	l.add(suites.FrameKey, results.Claimed, target.Claims{Name: "t"})
	l.drive(needing, failing)
	if v := verdictOf(t, s, runOf(t, s), l.all, needing); v.Status != results.Fail || v.Reason != "bad" {
		t.Errorf("a target that takes its claims back is %s %s", v.Status, v.Reason)
	}
}

func TestJudgeUnknownCheck(t *testing.T) {
	s := judgeSuite(t)
	run := results.Run{Plan: []results.Planned{{Check: "x/renamed"}}}
	if v := verdictOf(t, s, run, begin(t).all, results.Key{Check: "x/renamed"}); v.Status != results.Broken || v.Reason != suites.ReasonJudge {
		t.Errorf("a check that this program lacks is %s %s", v.Status, v.Reason)
	}
}

func TestJudgeSeesTheLongestStall(t *testing.T) {
	s := judgeSuite(t)
	key := results.Key{Check: "x/stalled"}
	l := begin(t)
	l.add(key, results.Stalled, suites.Stall{Longest: time.Hour})
	l.add(key, results.Attempted, nil)
	l.add(key, results.Measured, nil)
	l.add(key, results.Stalled, suites.Stall{Longest: 3 * time.Millisecond})
	l.add(key, results.Stalled, suites.Stall{Longest: 2 * time.Millisecond})
	l.add(key, results.Ended, nil)
	if v := verdictOf(t, s, runOf(t, s), l.all, key); v.Why.Observed != "3ms" {
		t.Errorf("the judge saw a stall of %s, want that of the last attempt", v.Why.Observed)
	}
}

func TestJudgeKnownFailing(t *testing.T) {
	s := judgeSuite(t)
	tests := []struct {
		name     string
		record   func(*log)
		status   results.Status
		reason   string
		expected string
		exit     results.Exit
	}{
		{"fails as expected", func(l *log) { l.drive(plain, failing) }, results.Fail, "bad", "issue 7", results.ExitPass},
		{"stale", func(l *log) { l.drive(plain, passing) }, results.Fail, suites.ReasonStale, "", results.ExitFail},
		{"inconclusive stays", func(l *log) {
			l.drive(plain, suites.Finding{Status: results.Inconclusive, Reason: "bad"})
		}, results.Inconclusive, "bad", "", results.ExitInconclusive},
		{"broken stays", func(l *log) { l.drive(plain, suites.Finding{}) }, results.Broken, suites.ReasonJudge, "", results.ExitHarness},
		{"unfinished stays", func(*log) {}, results.Unproven, suites.ReasonUnfinished, "", results.ExitHarness},
	}
	for _, tt := range tests {
		run := results.Run{Plan: []results.Planned{{Check: "x/plain", Expected: "issue 7"}}}
		l := begin(t)
		tt.record(l)
		v := verdictOf(t, s, run, l.all, plain)
		if v.Status != tt.status || v.Reason != tt.reason || v.Expected != tt.expected {
			t.Errorf("%s: %s %q, expected %q", tt.name, v.Status, v.Reason, v.Expected)
		}
		if got := results.ExitOf([]results.Verdict{v, {Status: results.Pass}}, func(results.Verdict) bool { return true }); got != tt.exit {
			t.Errorf("%s: exit %d, want %d", tt.name, got, tt.exit)
		}
	}
}

// whole is a run in which everything happens.
func whole(t testing.TB) *log {
	l := begin(t, "rpc.framed")
	l.drive(claim, failing)
	l.drive(plain, failing)
	l.add(plain, results.Attempted, nil)
	l.drive(plain, passing)
	l.drive(needing, passing)
	l.add(control, results.Sent, nil)
	l.add(control, suites.Controlled, nil)
	l.drive(control, passing)
	l.add(faulted, results.Injected, chaos.Injected{Witnessed: true})
	l.drive(faulted, failing)
	l.add(results.Key{Check: "x/uncited"}, results.Errored, nil)
	l.end()
	return l
}

func TestJudgeIsPure(t *testing.T) {
	s := judgeSuite(t)
	run, l := runOf(t, s), whole(t)
	want := marshal(t, s.Judge(run, l.all))
	if again := marshal(t, s.Judge(run, l.all)); again != want {
		t.Errorf("judged twice:\n%s\n%s", want, again)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	moved := 0
	for range 50 {
		mixed := interleaved(rng, l.all)
		for i := range mixed {
			if mixed[i].Seq != l.all[i].Seq {
				moved++
			}
		}
		if got := marshal(t, s.Judge(run, mixed)); got != want {
			t.Fatalf("the order of different cases decides:\n%s\n%s", want, got)
		}
	}
	if moved == 0 {
		t.Fatal("nothing was moved: this test proves nothing")
	}
}

// interleaved merges the evidence of the cases in another order; within a case it stays.
func interleaved(rng *rand.Rand, all []results.Evidence) (out []results.Evidence) {
	queues := map[results.Key][]results.Evidence{}
	var order []results.Key
	for _, e := range all {
		queues[e.Key()] = append(queues[e.Key()], e)
		order = append(order, e.Key())
	}
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, key := range order {
		out = append(out, queues[key][0])
		queues[key] = queues[key][1:]
	}
	return out
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	raw, err := results.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestVerdictCarriesTheExchange(t *testing.T) {
	key := results.Key{Check: "x/plain"}
	s := built(t, area("x", check("x/plain", func(c *suites.Check) {
		c.Judge = func(t suites.Trace) suites.Finding {
			var cites []uint64
			for _, e := range t.Evidence {
				cites = append(cites, e.Seq)
			}
			return suites.Failing("bad", "good", strings.Repeat("é", 5000), cites)
		}
		c.Explain = func(e results.Evidence) string {
			if e.Kind == results.Received {
				return strings.Repeat("x", 10000)
			}
			return ""
		}
	})))
	l := begin(t)
	l.add(key, results.Received, map[string]any{"bytes": results.BytesOf(make([]byte, 5000))})
	for range 100 {
		l.add(key, results.Sent, map[string]any{"how": "so"})
	}
	l.add(key, results.Ended, nil)
	v := verdictOf(t, s, results.Run{Plan: []results.Planned{{Check: "x/plain", Covers: []string{"x/plain"}}}}, l.all, key)
	switch {
	case len(v.Exchange) != 24:
		t.Errorf("%d pieces are repeated in the verdict", len(v.Exchange))
	case v.Exchange[0].Len != 5000 || len(v.Exchange[0].Hex) != 4096:
		t.Errorf("len %d, %d digits of hex", v.Exchange[0].Len, len(v.Exchange[0].Hex))
	case len(v.Exchange[0].Decoded) > 5000 || !strings.Contains(v.Exchange[0].Decoded, "10000 bytes in all"):
		t.Errorf("%d bytes decoded", len(v.Exchange[0].Decoded))
	case v.Exchange[1].Decoded != `{"how":"so"}`:
		t.Errorf("data without traffic is shown as %q", v.Exchange[1].Decoded)
	case len(v.Why.Observed) > 5000 || strings.ContainsRune(v.Why.Observed, '\uFFFD'):
		t.Errorf("observed has %d bytes", len(v.Why.Observed))
	}
}

func TestLastAttempt(t *testing.T) {
	l := &log{t: t}
	if got := suites.LastAttempt(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
	l.add(plain, results.Measured, 1)
	if got := suites.LastAttempt(l.all); len(got) != 1 {
		t.Errorf("of one attempt: %v", got)
	}
	l.add(plain, results.Attempted, nil)
	l.add(plain, results.Measured, 2)
	l.add(plain, results.Attempted, nil)
	l.add(plain, results.Measured, 3)
	if got := suites.LastAttempt(l.all); len(got) != 1 || got[0].Seq != 5 {
		t.Errorf("of three attempts: %v", got)
	}
}
