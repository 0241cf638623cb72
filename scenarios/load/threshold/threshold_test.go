package threshold

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/results/histogram"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Expression{
		"p(95)<200":          {Aggregation: "p", Percentile: 95, Operator: "<", Bound: 200},
		" p( 99.9 ) <= 1e3 ": {Aggregation: "p", Percentile: 99.9, Operator: "<=", Bound: 1000},
		"rate<0.01":          {Aggregation: "rate", Operator: "<", Bound: 0.01},
		"avg < 100":          {Aggregation: "avg", Operator: "<", Bound: 100},
		"count>1000":         {Aggregation: "count", Operator: ">", Bound: 1000},
		"count==0":           {Aggregation: "count", Operator: "==", Bound: 0},
		"med!=-.5":           {Aggregation: "med", Operator: "!=", Bound: -0.5},
		"max===5":            {Aggregation: "max", Operator: "===", Bound: 5},
		"min>=0":             {Aggregation: "min", Operator: ">=", Bound: 0},
	} {
		got, err := Parse(text)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Expression{})); diff != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, diff)
		}
		if got.String() != text {
			t.Errorf("%q is written back as %q", text, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "p(95)", "p(95)200", "p95<200", "p(101)<1", "p(-1)<1", "p()<1", "p(nan)<1", "mean<3", "avg<", "avg<x", "avg<0x10",
		"avg<1_0", "avg<inf", "avg<nan", "avg=3", "avg=>3", "avg<3 extra", "<3", "p(95<3", "avg!3", "p(9)5)<3", string(make([]byte, 500)),
	} {
		if e, err := Parse(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.20q gives %+v, %v", text, e, err)
		}
	}
}

// observed is 1 to 1000 ms, of which 10 requests failed.
func observed() Observations {
	h := histogram.New()
	for i := range int64(1000) {
		h.Record((i + 1) * 1e6)
	}
	return Observations{Response: h, Service: h, Lateness: histogram.New(), Requests: 1000, Failed: 10, Lasted: 10 * time.Second}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		metric, text string
		held         bool
	}{
		{"response", "p(95)<952", true},
		{"response", "p(95)<949", false},
		{"http_req_duration", "p(99)<992", true},
		{"http_req_duration{scenario:main}", "p(99)<988", false},
		{"iteration_duration", "avg<501", true},
		{"service", "avg<500", false},
		{"response", "med<=500.5", true},
		{"response", "max>999", true},
		{"response", "min<1.1", true},
		{"failed", "rate<=0.01", true},
		{"http_req_failed", "rate<0.01", false},
		{"checks", "rate>=0.99", true},
		{"requests", "count>=1000", true},
		{"iterations", "rate==100", true},
		{"dropped_iterations", "count==0", true},
		{"lateness", "p(99)<10", false}, // nothing was recorded: nothing holds
		{"lateness", "p(99)!=10", false},
	}
	for _, tt := range tests {
		e, err := Parse(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		s := Set{tt.metric: {{Expression: e}}}
		if err := s.Check(); err != nil {
			t.Errorf("%s %s: %v", tt.metric, tt.text, err)
		}
		got, err := s.Judge(observed())
		if err != nil || len(got) != 1 || got[0].Held != tt.held {
			t.Errorf("%s %s: %+v, %v, want held %v", tt.metric, tt.text, got, err, tt.held)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, s := range []Set{
		{"http_req_blocked": {rule(t, "avg<1")}}, {"response": {rule(t, "rate<1")}}, {"response": {rule(t, "value<1")}},
		{"failed": {rule(t, "count<1")}}, {"requests": {rule(t, "p(95)<1")}}, {"response": {}},
	} {
		if err := s.Check(); !errors.Is(err, ErrSyntax) {
			t.Errorf("%v: %v", s, err)
		}
	}
}

func rule(t *testing.T, text string) Rule {
	t.Helper()
	e, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Rule{Expression: e}
}

func TestRuleJSON(t *testing.T) {
	const text = `{"a":["p(95)<200",{"threshold":"rate<0.1","abortOnFail":true,"delayAbortEval":"10s"}]}`
	var s Set
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if r := s["a"]; len(r) != 2 || r[0].String() != "p(95)<200" || !r[1].AbortOnFail || r[1].DelayAbortEval != "10s" {
		t.Errorf("read %+v", s)
	}
	for _, bad := range []string{`{"a":[3]}`, `{"a":["x"]}`, `{"a":[{"threshold":"avg<1","abort":true}]}`, `{"a":[{"threshold":"avg<1","delayAbortEval":"soon"}]}`} {
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"p(95)<200", "rate<0.01", " avg >= 1e3", "count===0", "p(99.99)!=-1", "p(<)"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if math.IsNaN(e.Bound) || e.Percentile < 0 || e.Percentile > 100 || e.Operator == "" || e.Aggregation == "" {
			t.Errorf("%q is read as %+v", text, e)
		}
		if again, err := Parse(e.String()); err != nil || again != e {
			t.Errorf("%q is %+v, then %+v, %v", text, e, again, err)
		}
		if e.Holds(math.NaN()) {
			t.Errorf("%q holds for no number", text)
		}
	})
}
