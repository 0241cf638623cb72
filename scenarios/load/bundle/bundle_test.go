package bundle

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

type calls func(id uint64) error

func (c calls) Call(_ context.Context, id uint64) error { return c(id) }

// measured is a small run of the engine, made valid or invalid by hand.
func measured(t *testing.T, call calls, reasons ...load.Reason) *load.Result {
	t.Helper()
	s := load.Schedule{Kind: load.Const, Rate: 1000, Duration: 20 * time.Millisecond}
	r, err := load.Run(t.Context(), s, &load.Pool{Callers: []load.Caller{call}}, load.Options{HostLimit: 1, LatenessBound: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r.Valid, r.Reasons = len(reasons) == 0, append([]load.Reason{}, reasons...)
	return r
}

func set(t *testing.T, texts map[string]string) threshold.Set {
	t.Helper()
	s := threshold.Set{}
	for metric, text := range texts {
		e, err := threshold.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s[metric] = []threshold.Rule{{Expression: e}}
	}
	return s
}

// recorded runs the judge as a reader of a bundle would: run.json and evidence alone.
func recorded(t *testing.T, loads ...Load) (results.Run, []results.Evidence) {
	t.Helper()
	var run results.Run
	var thresholds threshold.Set
	rec := results.NewRecorder(io.Discard, results.ClockSince(time.Now()))
	for _, l := range loads {
		thresholds = l.Thresholds
		if _, err := rec.Record(results.Key{Check: GeneratorCheck}, results.FromScenario, Loaded, l); err != nil {
			t.Fatal(err)
		}
	}
	Plan(&run, thresholds, "assay load x")
	return run, rec.All()
}

func fine(uint64) error { return nil }

func TestVerdicts(t *testing.T) {
	broken := func(uint64) error { return errors.New("refused") }
	slow := func(uint64) error { time.Sleep(2 * time.Millisecond); return nil }
	held, crossed := set(t, map[string]string{"response": "p(99)<60000"}), set(t, map[string]string{"response": "p(50)<0.0000001"})
	for _, tt := range []struct {
		name    string
		loads   []Load
		exit    results.Exit
		reasons map[string]string // by check
	}{
		{"valid", []Load{NewLoad(measured(t, fine), nil)}, results.ExitPass, nil},
		{"threshold holds", []Load{NewLoad(measured(t, fine), held)}, results.ExitPass, nil},
		{"threshold is crossed", []Load{NewLoad(measured(t, slow), crossed)}, results.ExitFail, map[string]string{ThresholdCheck: ReasonCrossed}},
		{"invalid", []Load{NewLoad(measured(t, slow, load.ReasonLateness, load.ReasonHost), crossed)}, results.ExitInconclusive,
			map[string]string{GeneratorCheck: "lateness", ThresholdCheck: ReasonGenerator}},
		{"nothing answered", []Load{NewLoad(measured(t, broken), nil)}, results.ExitFail, map[string]string{AnsweredCheck: ReasonNothingAnswered}},
		{"nothing answered by a late generator", []Load{NewLoad(measured(t, broken, load.ReasonLateness), nil)}, results.ExitFail,
			map[string]string{AnsweredCheck: ReasonNothingAnswered, GeneratorCheck: "lateness"}},
		{"interrupted before an answer", []Load{NewLoad(measured(t, broken, load.ReasonInterrupted), nil)}, results.ExitInconclusive,
			map[string]string{AnsweredCheck: "interrupted", GeneratorCheck: "interrupted"}},
		{"no result", nil, results.ExitHarness, map[string]string{AnsweredCheck: ReasonUnfinished, GeneratorCheck: ReasonUnfinished}},
		{"the last step breaks, the one before holds", []Load{NewLoad(measured(t, fine), held), NewLoad(measured(t, broken), held)}, results.ExitPass, nil},
		{"no step holds", []Load{NewLoad(measured(t, slow), crossed), NewLoad(measured(t, slow), crossed)}, results.ExitFail,
			map[string]string{ThresholdCheck: ReasonCrossed}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run, evidence := recorded(t, tt.loads...)
			v := Verdicts(run, evidence)
			if v.Exit != tt.exit || len(v.Verdicts) != len(run.Plan) {
				t.Errorf("exit %d, want %d: %+v", v.Exit, tt.exit, v.Verdicts)
			}
			for _, x := range v.Verdicts {
				if x.Reason != tt.reasons[x.Check] {
					t.Errorf("%s has reason %q, want %q", x.Key(), x.Reason, tt.reasons[x.Check])
				}
				if err := x.Validate(uint64(len(evidence))); err != nil {
					t.Error(err)
				}
			}
			if len(tt.loads) > 0 {
				if err := CheckPlan(run, evidence); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A bundle whose plan leaves a threshold out, or whose evidence is damaged, is found out.
func TestTampering(t *testing.T) {
	l := NewLoad(measured(t, fine), set(t, map[string]string{"response": "p(99)<60000", "failed": "rate<1"}))
	run, evidence := recorded(t, l)
	short := run
	short.Plan = slices.Clone(run.Plan[:len(run.Plan)-1])
	if CheckPlan(short, evidence) == nil {
		t.Error("a threshold may be left out of the plan")
	}
	l.Texts[load.ResponseAll] = l.Texts[load.ResponseAll][:10]
	run, evidence = recorded(t, l)
	v := Verdicts(run, evidence)
	if i := slices.IndexFunc(v.Verdicts, func(x results.Verdict) bool { return x.Check == ThresholdCheck }); v.Verdicts[i].Status != results.Broken {
		t.Errorf("a damaged distribution gives %+v", v.Verdicts[i])
	}
	evidence[0].Data = []byte(`{"result":null}`)
	if v := Verdicts(run, evidence); v.Exit != results.ExitHarness {
		t.Errorf("evidence without a result gives exit %d", v.Exit)
	}
}

func TestKnee(t *testing.T) {
	for _, tt := range []struct {
		rates   []float64
		latency []int64
		at      int
		ok      bool
	}{
		{[]float64{1, 2, 3, 4, 5}, []int64{10, 10, 11, 12, 100}, 3, true},
		{[]float64{100, 200, 400, 800}, []int64{10, 10, 90, 100}, 1, true},
		{[]float64{1, 2, 3, 4}, []int64{10, 90, 95, 100}, 0, false}, // bends downwards
		{[]float64{1, 2, 3}, []int64{1, 2, 3}, 0, false},
		{[]float64{1, 2}, []int64{1, 9}, 0, false},
		{[]float64{1, 2, 3}, []int64{5, 5, 5}, 0, false},
		{nil, nil, 0, false},
	} {
		if at, ok := Knee(tt.rates, tt.latency); ok != tt.ok || (ok && at != tt.at) {
			t.Errorf("%v %v: knee at %d, %v; want %d, %v", tt.rates, tt.latency, at, ok, tt.at, tt.ok)
		}
	}
}

func TestLatencyBound(t *testing.T) {
	for want, texts := range map[time.Duration]map[string]string{
		2 * time.Millisecond:  {"response": "p(95)<200", "service": "avg<=900", "failed": "rate<0.01", "lateness": "p(99)<1"},
		0:                     {"response": "p(95)>200", "requests": "count<5"},
		500 * time.Nanosecond: {"http_req_duration": "med<0.05"},
	} {
		if got := LatencyBound(set(t, texts)); got != want {
			t.Errorf("%v: %v, want %v", texts, got, want)
		}
	}
}

func TestDigest(t *testing.T) {
	if d := Digest(); len(d) != 64 || strings.Trim(d, "0123456789abcdef") != "" {
		t.Errorf("digest %q", d)
	}
}
