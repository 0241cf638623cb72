package gate_test

import (
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
	"math/rand/v2"
)

// withThreshold is the sample policy with one absolute bound.
func withThreshold(metric, text string) string {
	return policyText + "    thresholds: {" + metric + ": [\"" + text + "\"]}\n"
}

// An absolute bound counts epochs, not requests: a share that is the same in every epoch is decided, one that comes from a few
// epochs is not, and no number of requests makes up for epochs.
//
// Rows: gate/slo/clustered.
func TestAbsoluteBounds(t *testing.T) {
	const latency, failures = "http_req_duration: p(99)<25", "http_req_failed: rate<0.01"
	for name, c := range map[string]struct {
		metric, text string
		sample       sample
		status       results.Status
		reason       string
		exit         results.Exit
	}{
		"all within": {"http_req_duration", "p(99)<25", sample{over: every(1, 0)}, results.Pass, "", results.ExitPass},
		"two of 500": {"http_req_duration", "p(99)<25", sample{over: every(1, 2)}, results.Pass, "", results.ExitPass},
		"ten of 500": {"http_req_duration", "p(99)<25", sample{over: every(1, 10)}, results.Fail, "threshold", results.ExitFail},
		// Of all requests 0.8 % are over, of single epochs 16 %.
		"one epoch in twenty":      {"http_req_duration", "p(99)<25", sample{over: every(20, 80)}, results.Inconclusive, "undecided", results.ExitInconclusive},
		"failures":                 {"http_req_failed", "rate<0.01", sample{failing: [2]func(int) int{nil, every(1, 10)}}, results.Fail, "threshold", results.ExitFail},
		"few failures":             {"http_req_failed", "rate<0.01", sample{failing: [2]func(int) int{nil, every(2, 1)}}, results.Pass, "", results.ExitPass},
		"failures of the baseline": {"http_req_failed", "rate<0.01", sample{failing: [2]func(int) int{every(1, 50), nil}}, results.Pass, "", results.ExitPass},
	} {
		t.Run(name, func(t *testing.T) {
			c.sample.noise = 0.007
			check := latency
			if c.metric == "http_req_failed" {
				check = failures
			}
			v, exit := judged(t, withThreshold(c.metric, c.text), check, c.sample)
			if v.Status != c.status || v.Reason != c.reason || exit != c.exit {
				t.Errorf("%s %q, exit %d: %s", v.Status, v.Reason, exit, v.Why.Observed)
			}
			if n := figure(t, v, "epochs"); n < 20 {
				t.Errorf("%v epochs", n)
			}
			if !strings.Contains(v.Why.Expected, "on this run and this host") {
				t.Errorf("expected %q", v.Why.Expected)
			}
		})
	}
}

// 100,000 requests in three epochs decide nothing. Rows: gate/slo/clustered.
func TestManyRequestsInFewEpochsAreInconclusive(t *testing.T) {
	policy := withThreshold("http_req_duration", "p(99)<25")
	s := sample{noise: 0.007, over: every(1, 0), each: 33_400, random: rand.New(rand.NewPCG(1, 1))}
	run, all := evidence(t, policy, &s, gate.Options{NoPreflight: true})
	// Cut after three epochs, and end there, as the limit of a run does.
	cut := append(all[:4:4], ended(t, all[4]))
	v, _ := gate.Verdicts("digest", run, []byte(policy), cut)
	for _, x := range v.Verdicts {
		if x.Case != "http_req_duration: p(99)<25" {
			continue
		}
		if x.Status != results.Inconclusive || !strings.Contains(x.Why.Observed, "of 100200 requests in 3 epochs") || v.Exit != results.ExitInconclusive {
			t.Errorf("%s, exit %d: %s", x.Status, v.Exit, x.Why.Observed)
		}
		return
	}
	t.Fatal("no verdict on the bound")
}

// ended is the evidence of a run that stopped at its time limit.
func ended(t *testing.T, after results.Evidence) results.Evidence {
	t.Helper()
	raw, err := results.Marshal(map[string]string{"end": string(gate.TimeLimit)})
	if err != nil {
		t.Fatal(err)
	}
	return results.Evidence{Seq: after.Seq, Source: results.FromHost, Check: "gate", Kind: results.Ended, Data: raw}
}

// A count that the histogram does not hold is seen.
func TestTamperedCountOverTheLimitIsSeen(t *testing.T) {
	policy := withThreshold("http_req_duration", "p(99)<25")
	s := sample{noise: 0.007, over: every(1, 10), random: rand.New(rand.NewPCG(1, 1))}
	run, all := evidence(t, policy, &s, gate.Options{})
	edit(t, all, func(e *duet.Epoch) { e.Arms[duet.Candidate].Over["25ms"] = 0 })
	if v, exit := gateVerdict(t, policy, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("%s, exit %d: %s", v.Status, exit, v.Why.Observed)
	}
}

func TestThresholdsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ metric, text, says string }{
		"not an expression": {"http_req_duration", "p99 under 25", "threshold refused"},
		"unknown metric":    {"http_req_speed", "p(99)<25", "unknown metric"},
		"a mean":            {"http_req_duration", "avg<25", "only percentiles"},
		"from below":        {"http_req_duration", "p(99)>25", "from above"},
		"a count":           {"http_reqs", "count>100", "from above"},
		"no time":           {"http_req_duration", "p(99)<0", "above 0 ms"},
		"no request at all": {"http_req_duration", "p(100)<25", "a share between 0 and 1"},
		"no failure at all": {"http_req_failed", "rate<=0", "a share between 0 and 1"},
		"twice":             {"http_req_duration", `p(99)<25", "p(99)<25`, "there twice"},
	} {
		if _, err := gate.ParsePolicy([]byte(withThreshold(c.metric, c.text))); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
