package k6

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
)

// sent numbers pieces of evidence.
func sent(t testing.TB, pieces ...any) []results.Evidence {
	t.Helper()
	var out []results.Evidence
	for i, p := range pieces {
		kind := MetricSeen
		switch p.(type) {
		case Generator:
			kind = Generated
		case End:
			kind = results.Ended
		}
		raw, err := results.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, results.Evidence{Seq: uint64(i + 1), Check: GeneratorCheck, Kind: kind, Data: raw})
	}
	return out
}

var (
	ended      = End{Duration: 2 * time.Second}
	iterations = Metric{Name: Iterations, Type: Counter, Count: 4, Sum: 4}
)

func TestGenerator(t *testing.T) {
	dropped := Metric{Name: DroppedIterations, Type: Counter, Count: 1, Sum: 7, Thresholds: []Threshold{{Expression: "count==0", Failed: true, Guard: true}}}
	late := Generator{Scenario: "s", Result: &load.Result{Reasons: []load.Reason{load.ReasonLateness}}}
	tests := []struct {
		name   string
		pieces []any
		status results.Status
		reason string
		says   string
	}{
		{"all ran", []any{iterations, ended}, results.Pass, "", "4 iterations in 2s, none dropped"},
		{"crossed thresholds are not the generator's", []any{iterations, End{ExitCode: exitThresholds, Error: "crossed"}}, results.Pass, "", ""},
		{"killed", []any{iterations}, results.Unproven, ReasonUnfinished, ""},
		{"nothing ran", []any{ended}, results.Broken, ReasonNothing, ""},
		{"dropped", []any{iterations, dropped, End{ExitCode: exitThresholds}}, results.Inconclusive, ReasonDropped, "7 iterations were not started"},
		{"threw", []any{iterations, End{Exceptions: 2, First: "oh"}}, results.Broken, ReasonScript, "2 of 4 iterations threw; the first: oh"},
		{"threw and dropped", []any{iterations, dropped, End{Exceptions: 1}}, results.Broken, ReasonScript, ""},
		{"setup threw", []any{iterations, End{ExitCode: exitException, Error: "setup"}}, results.Broken, ReasonScript, "setup"},
		{"an unknown end", []any{iterations, End{ExitCode: -1, Error: "strange"}}, results.Broken, ReasonScript, "strange"},
		{"interrupted", []any{iterations, End{ExitCode: exitAbort, Error: "signal"}}, results.Inconclusive, ReasonInterrupted, "signal"},
		{"aborted by the script", []any{iterations, End{ExitCode: exitScript, Error: "abort"}}, results.Inconclusive, ReasonInterrupted, ""},
		{"a late engine", []any{late, iterations, ended}, results.Inconclusive, ReasonInvalid, "lateness"},
		{"a valid engine", []any{Generator{Scenario: "s", Result: &load.Result{Valid: true}}, iterations, ended}, results.Pass, "", ""},
		{"no one there", []any{Generator{Scenario: "s", NoLoad: "refused"}, End{ExitCode: exitScript}}, results.Fail, ReasonNoLoad, "refused"},
		{"beyond the histogram", []any{iterations, Metric{Name: "bytes", Type: Trend, Overflow: 1}, ended}, results.Inconclusive, ReasonOverflow, ""},
		{"a generator without a result", []any{Generator{Scenario: "s"}, iterations, ended}, results.Broken, ReasonUnreadable, ""},
	}
	for _, tt := range tests {
		var run results.Run
		Plan(&run, "s.js", nil, "k6 run s.js")
		all := sent(t, tt.pieces...)
		v := Verdicts(run, all).Verdicts[0]
		if v.Status != tt.status || v.Reason != tt.reason || !strings.Contains(v.Why.Observed, tt.says) {
			t.Errorf("%s: %s %q: %s; want %s %q with %q", tt.name, v.Status, v.Reason, v.Why.Observed, tt.status, tt.reason, tt.says)
		}
		if err := v.Validate(uint64(len(all))); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// trend is a metric of a thousand times, 1 ms to 1 s.
func trend(t testing.TB, thresholds ...Threshold) Metric {
	t.Helper()
	h := histogram.New()
	m := Metric{Name: "http_req_duration", Type: Trend, Time: true, Min: 1, Max: 1000, Thresholds: thresholds}
	for ms := range int64(1000) {
		h.Record((ms + 1) * TrendScale)
		m.Count++
		m.Sum += float64(ms + 1)
	}
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Histogram = string(text)
	return m
}

func TestThreshold(t *testing.T) {
	tests := []struct {
		expression string
		failed     bool // k6's word
		status     results.Status
		reason     string
	}{
		{"p(95)<960", false, results.Pass, ""},
		{"p(95)<940", true, results.Fail, ReasonCrossed},
		{"p(95)<940", false, results.Inconclusive, ReasonResolution},
		{"p(95)<960", true, results.Inconclusive, ReasonResolution},
		{"avg<=500.5", false, results.Pass, ""},
		{"med>499", false, results.Pass, ""},
		{"min>=1", false, results.Pass, ""},
		{"max<1000", true, results.Fail, ReasonCrossed},
		{"count>3", false, results.Broken, ReasonUnjudgeable},
		{"p(95) is low", false, results.Broken, ReasonUnjudgeable},
	}
	for _, tt := range tests {
		var run results.Run
		Plan(&run, "s.js", map[string][]string{"http_req_duration": {tt.expression}}, "")
		all := sent(t, iterations, trend(t, Threshold{Expression: tt.expression, Failed: tt.failed}), ended)
		v := Verdicts(run, all).Verdicts[1]
		if v.Status != tt.status || v.Reason != tt.reason {
			t.Errorf("%s: %s %q: %s", tt.expression, v.Status, v.Reason, v.Why.Observed)
		}
		if err := CheckPlan(run, all); err != nil {
			t.Errorf("%s: %v", tt.expression, err)
		}
	}
}

func TestThresholdsOfOtherMetrics(t *testing.T) {
	with := func(m Metric, expression string, failed bool) Metric {
		m.Thresholds = []Threshold{{Expression: expression, Failed: failed}}
		return m
	}
	tests := []struct {
		m      Metric
		status results.Status
		reason string
	}{
		{with(Metric{Name: "c", Type: Counter, Sum: 10}, "rate>4", false), results.Pass, ""},
		{with(Metric{Name: "c", Type: Counter}, "count==0", false), results.Pass, ""},
		{with(Metric{Name: "r", Type: Rate, Count: 4, Trues: 3}, "rate>=0.75", false), results.Pass, ""},
		{with(Metric{Name: "r", Type: Rate}, "rate<0.1", false), results.Inconclusive, ReasonNoSamples},
		{with(Metric{Name: "g", Type: Gauge, Count: 2, Last: 3}, "value<3", true), results.Fail, ReasonCrossed},
		{with(Metric{Name: "t", Type: Trend}, "p(95)<1", false), results.Inconclusive, ReasonNoSamples},
		{with(Metric{Name: "t", Type: Trend, Count: 3, Histogram: "nonsense"}, "p(95)<1", false), results.Broken, ReasonUnjudgeable},
	}
	for _, tt := range tests {
		var run results.Run
		Plan(&run, "s.js", map[string][]string{tt.m.Name: {tt.m.Thresholds[0].Expression}}, "")
		v := Verdicts(run, sent(t, iterations, tt.m, ended)).Verdicts[1]
		if v.Status != tt.status || v.Reason != tt.reason {
			t.Errorf("%+v: %s %q: %s", tt.m, v.Status, v.Reason, v.Why.Observed)
		}
	}
}

// TestDroppedRunHasNoThresholdVerdict, and its exit code is 3.
func TestDroppedRunHasNoThresholdVerdict(t *testing.T) {
	var run results.Run
	Plan(&run, "s.js", map[string][]string{"http_req_duration": {"p(95)<960"}}, "")
	v := Verdicts(run, sent(t, iterations, Metric{Name: DroppedIterations, Type: Counter, Sum: 1}, trend(t, Threshold{Expression: "p(95)<960"}), ended))
	if v.Exit != results.ExitInconclusive || v.Verdicts[1].Status != results.Inconclusive || v.Verdicts[1].Reason != ReasonGenerator {
		t.Errorf("exit %d, threshold %s %q", v.Exit, v.Verdicts[1].Status, v.Verdicts[1].Reason)
	}
}

func TestCheckPlan(t *testing.T) {
	all := sent(t, iterations, trend(t, Threshold{Expression: "p(95)<960"}), ended)
	var run results.Run
	Plan(&run, "s.js", map[string][]string{"http_req_duration": {"p(95)<960"}}, "k6 run s.js")
	if err := CheckPlan(run, all); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*results.Run){
		"a threshold is gone":    func(r *results.Run) { r.Plan = r.Plan[:1] },
		"a row is invented":      func(r *results.Run) { r.Plan = append(r.Plan, results.Planned{Check: "k6/other"}) },
		"a clause reads softer":  func(r *results.Run) { r.Requirements[0].Level = "MAY" },
		"a threshold is another": func(r *results.Run) { r.Plan[1].Case = "http_req_duration p(95)<9600" },
	} {
		var bent results.Run
		raw, err := json.Marshal(run)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &bent); err != nil {
			t.Fatal(err)
		}
		change(&bent)
		if err := CheckPlan(bent, all); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// FuzzVerdicts: whatever the evidence is, every planned row gets a verdict that can be written, twice the
// same, and nothing passes without a citation.
func FuzzVerdicts(f *testing.F) {
	for _, e := range sent(f, iterations, trend(f, Threshold{Expression: "p(95)<960"}), Generator{Scenario: "s", Result: &load.Result{Valid: true}}, ended) {
		f.Add(string(e.Kind), []byte(e.Data), "http_req_duration", "p(95)<960")
	}
	f.Add("metric", []byte(`{"name":"t","type":"trend","count":-1,"thresholds":[{"expression":"p(1e9)<1"}]}`), "t", "p(1e9)<1")
	f.Fuzz(func(t *testing.T, kind string, data []byte, metric, expression string) {
		if !json.Valid(data) {
			return
		}
		all := append(sent(t, iterations, ended), results.Evidence{Seq: 3, Check: GeneratorCheck, Kind: results.Kind(kind), Data: data})
		var run results.Run
		Plan(&run, "s.js", map[string][]string{metric: {expression}}, "")
		v := Verdicts(run, all)
		if len(v.Verdicts) != 2 {
			t.Fatalf("%d verdicts of 2 rows", len(v.Verdicts))
		}
		for _, x := range v.Verdicts {
			if err := x.Validate(3); err != nil {
				t.Error(err)
			}
		}
		if d := cmp.Diff(v, Verdicts(run, all)); d != "" {
			t.Errorf("judged twice: %s", d)
		}
	})
}
