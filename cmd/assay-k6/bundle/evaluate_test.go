package bundle

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// latencies are a million log-normal samples of a few milliseconds, sorted, and their metric.
func latencies(t testing.TB) ([]float64, k6.Metric) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	h := histogram.New()
	m := k6.Metric{Name: "http_req_duration", Type: k6.Trend, Time: true}
	raw := make([]float64, 1_000_000)
	for i := range raw {
		raw[i] = 2 * math.Exp(rng.NormFloat64())
		h.Record(units(raw[i]))
		m.Sum += raw[i]
	}
	m.Count = int64(len(raw))
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Histogram = string(text)
	slices.Sort(raw)
	return raw, m
}

// TestEvaluate is load/k6/hdr-threshold: 0.2 % above and below the raw value a threshold holds and fails.
func TestEvaluate(t *testing.T) {
	raw, m := latencies(t)
	for _, p := range []float64{50, 90, 95, 99, 99.9, 99.99} {
		exact := raw[int(math.Ceil(p/100*float64(len(raw))))-1]
		for _, tt := range []struct {
			bound float64
			holds bool
		}{{exact * 1.002, true}, {exact * 0.998, false}} {
			expression := fmt.Sprintf("p(%g)<%.6f", p, tt.bound)
			held, err := Evaluate(m, expression, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if held != tt.holds {
				t.Errorf("%s: held %v; the raw value is %.6f", expression, held, exact)
			}
		}
	}
}

// TestEvaluateCounters: counts and rates come from counters, not from the 10,001 quantiles.
func TestEvaluateCounters(t *testing.T) {
	tests := []struct {
		m          k6.Metric
		expression string
		holds      bool
	}{
		{k6.Metric{Type: k6.Counter, Sum: 300, Count: 3}, "count==300", true},
		{k6.Metric{Type: k6.Counter, Sum: 300, Count: 3}, "rate>149", true},
		{k6.Metric{Type: k6.Counter, Sum: 300, Count: 3}, "rate>151", false},
		{k6.Metric{Type: k6.Rate, Trues: 1, Count: 4}, "rate<=0.25", true},
		{k6.Metric{Type: k6.Gauge, Last: 7, Count: 9}, "value==7", true},
	}
	for _, tt := range tests {
		held, err := Evaluate(tt.m, tt.expression, 2*time.Second)
		if err != nil || held != tt.holds {
			t.Errorf("%s of %+v: held %v, %v", tt.expression, tt.m, held, err)
		}
	}
	if _, err := Evaluate(k6.Metric{Type: k6.Counter}, "count is 3", time.Second); err == nil {
		t.Error("an expression that is none is evaluated")
	}
	if _, err := Evaluate(k6.Metric{Type: "median"}, "count==3", time.Second); err == nil {
		t.Error("a metric of an unknown type is evaluated")
	}
}

// TestTallyAgreesWithK6 holds what the output counts against k6's own sinks, submetrics too.
func TestTallyAgreesWithK6(t *testing.T) {
	registry := metrics.NewRegistry()
	trend := registry.MustNewMetric("waiting", metrics.Trend, metrics.Time)
	tags := registry.RootTagSet()
	ta, sink, sub := newTally(), metrics.NewTrendSink(), metrics.NewTrendSink()
	ta.want("waiting{status:200}")
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 20_000 {
		s := metrics.Sample{TimeSeries: metrics.TimeSeries{Metric: trend, Tags: tags.With("status", "500")}, Value: rng.ExpFloat64() * 10}
		if i%3 == 0 {
			s.Tags = tags.With("status", "200")
			sub.Add(s)
		}
		sink.Add(s)
		ta.add(s)
	}
	all, err := ta.metrics()
	if err != nil || len(all) != 2 {
		t.Fatalf("%d metrics, %v", len(all), err)
	}
	for i, want := range []*metrics.TrendSink{sink, sub} {
		m := all[i]
		if m.Count != int64(want.Count()) || m.Min != want.Min() || m.Max != want.Max() || math.Abs(m.Sum/want.Total()-1) > 1e-9 {
			t.Errorf("%s: %d samples, min %v, max %v, sum %v; k6 has %d, %v, %v, %v", m.Name, m.Count, m.Min, m.Max, m.Sum, want.Count(), want.Min(), want.Max(), want.Total())
		}
		h, err := histogram.Decode([]byte(m.Histogram))
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			if got := float64(h.Quantile(q)) / k6.TrendScale; math.Abs(got/want.P(q)-1) > 0.002 {
				t.Errorf("%s: quantile %v is %v, k6 has %v", m.Name, q, got, want.P(q))
			}
		}
	}
}

func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		v    float64
		want int64
	}{{1, 1_000_000}, {0, 0}, {-3, -1}, {math.NaN(), -1}, {math.Inf(1), histogram.Highest + 1}, {1e300, histogram.Highest + 1}} {
		if got := units(tt.v); got != tt.want {
			t.Errorf("units(%v) = %d, want %d", tt.v, got, tt.want)
		}
	}
}

// TestBothReadersAgree holds k6's evaluator and the house's own against the same samples: what assay load
// and assay-k6 make of one threshold.
func TestBothReadersAgree(t *testing.T) {
	_, m := latencies(t)
	m.Name = "response"
	h, err := histogram.Decode([]byte(m.Histogram))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[bool]int{}
	for _, expression := range []string{
		"p(50)<2.01", "p(50)<1.99", "p(90) <= 7.21", "p(90)<=7.1", "p(95)>10.3", "p(95) > 10.5", "p(99.9)<44", "p(99.9)<43",
		"med>1.9", "med>=2.1", "p(99)!=20", "p(99)==20", "p(99)===20",
	} {
		byK6, err := Evaluate(m, expression, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e, err := threshold.Parse(expression)
		if err != nil {
			t.Fatal(err)
		}
		set := threshold.Set{"response": {{Expression: e}}}
		verdicts, err := set.Judge(threshold.Observations{Response: h, Requests: h.Count()})
		if err != nil || len(verdicts) != 1 {
			t.Fatalf("%d verdicts, %v", len(verdicts), err)
		}
		if verdicts[0].Held != byK6 {
			t.Errorf("%s: k6 %v, assay load %v (%v)", expression, byK6, verdicts[0].Held, verdicts[0].Observed)
		}
		seen[byK6]++
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("%v: this test proves nothing", seen)
	}
}
