package perf

import (
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/suites"
)

// valid is the result of a run that went well.
func valid() load.Result {
	return load.Result{
		Counts: load.Counts{Scheduled: 100, OK: 100}, Valid: true,
		Quantiles: map[string]load.Quantiles{load.ResponseOK: {P50: 1e6, P99: 2e6}, load.Lateness: {P99: 1e4}},
	}
}

func TestJudgeEcho(t *testing.T) {
	with := func(change func(*load.Result)) load.Result {
		r := valid()
		change(&r)
		return r
	}
	tests := []struct {
		name   string
		data   any
		status results.Status
		reason string
	}{
		{"all answered", valid(), results.Pass, ""},
		{"one timed out", with(func(r *load.Result) { r.Counts.OK, r.Counts.Timeout = 99, 1 }), results.Fail, "calls-lost"},
		{"one failed", with(func(r *load.Result) { r.Counts.OK, r.Counts.Error = 99, 1 }), results.Fail, "calls-failed"},
		{"a late generator", with(func(r *load.Result) { r.Valid, r.Reasons = false, []load.Reason{load.ReasonLateness} }), results.Inconclusive, suites.ReasonHostNoise},
		{"lost by a late generator all the same", with(func(r *load.Result) { r.Valid, r.Counts.OK, r.Counts.Timeout = false, 50, 50 }), results.Fail, "calls-lost"},
		{"nothing scheduled", with(func(r *load.Result) { r.Counts = load.Counts{} }), results.Fail, "calls-lost"},
		{"no load", Failure{NoLoad: "connection refused"}, results.Fail, "no-load"},
		{"not a result", []int{1}, results.Fail, "no-load"},
	}
	for _, tt := range tests {
		raw, err := results.Marshal(tt.data)
		if err != nil {
			t.Fatal(err)
		}
		f := judgeEcho(suites.Trace{Evidence: []results.Evidence{{Seq: 3, Kind: results.Measured, Data: raw}}})
		if f.Status != tt.status || f.Reason != tt.reason {
			t.Errorf("%s: %s %q (%s), want %s %q", tt.name, f.Status, f.Reason, f.Observed, tt.status, tt.reason)
		}
		if len(f.Cites) != 1 || f.Cites[0] != 3 {
			t.Errorf("%s cites %v", tt.name, f.Cites)
		}
	}
	if f := judgeEcho(suites.Trace{}); f.Status == results.Pass {
		t.Error("an empty trace passes")
	}
}
