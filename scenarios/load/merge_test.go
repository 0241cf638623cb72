package load

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/results/histogram"
)

// sampled plays the share of a segment on a clock of its own: arrival id starts
// and ends as sample says. Everything but the time is the engine's own work.
func sampled(t testing.TB, s Schedule, g Segment, sample func(id int64) (late, service int64, out outcome)) *Result {
	t.Helper()
	now := int64(1)
	opt, err := Options{Segment: g, HostLimit: 1, LatenessBound: time.Hour, Clock: Clock{Source: "test"}, now: func() int64 { return now }}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Survey()
	if err != nil {
		t.Fatal(err)
	}
	share := opt.Segment.stripe()
	e := newEngine(s, share, share.count(p.Count), opt)
	if err := e.begin(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan *page, len(e.table.pages))
	e.makePages(ready)
	from := e.owned()
	for j := range e.n {
		offset, _ := from.next()
		for int64(len(e.ledger.done)+1)*second <= offset {
			e.ledger.collect(int64(len(e.ledger.done)+1) * second)
		}
		late, service, out := sample(share.global(j))
		e.handed.Add(1)
		e.pacerLateness.Record(late / 2)
		e.table.stamp(j, e.t0+offset+late)
		kind := ""
		if out == outcomeError {
			kind = fmt.Sprint("kind ", share.global(j)%3)
		}
		e.finish(e.recorder(), j, e.t0+offset+late+service, out, kind)
	}
	e.endAt = e.t0 + int64(s.Length())
	r, err := e.result(p, Host{Boot: "test", Known: true})
	if err != nil {
		t.Fatal(err)
	}
	r.Mode, r.Start = "test", time.Unix(1, 0).UTC()
	r.judge(gate{opt: opt, handed: e.n})
	return r
}

// skewed gives node-dependent samples: slow for one of ten arrivals.
func skewed(id int64) (late, service int64, out outcome) {
	r := rand.New(rand.NewPCG(uint64(id), 9))
	late, service = r.Int64N(50_000), 1+int64(r.ExpFloat64()*3e6)
	if id%10 == 4 {
		service *= 40
	}
	if id%97 == 0 {
		out = outcomeError
	}
	return late, service, out
}

var unequal = []int{5, 3, 2}

func shards(t testing.TB, s Schedule) (nodes []*Result) {
	t.Helper()
	for node := range unequal {
		nodes = append(nodes, sampled(t, s, Segment{Node: node + 1, Of: len(unequal), Shares: unequal}, skewed))
	}
	return nodes
}

var threeSeconds = Schedule{Kind: Poisson, Rate: 5_000, Duration: 3 * time.Second, Seed: 5}

// load/merge/hdr, load/record/three-histograms: three
// unequal shards, written and read back, are what one process measures.
func TestMergeEqualsOneProcess(t *testing.T) {
	whole := sampled(t, threeSeconds, Segment{}, skewed)
	var nodes []*Result
	for _, n := range slices.Backward(shards(t, threeSeconds)) { // in any order
		raw, err := n.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(n, back); d != "" {
			t.Errorf("through a file (-want +got):\n%s", d)
		}
		nodes = append(nodes, back)
	}
	merged, err := Merge(nodes...)
	if err != nil {
		t.Fatal(err)
	}
	if !merged.Valid || len(merged.Nodes) != len(unequal) {
		t.Errorf("valid %v, reasons %v, %d nodes", merged.Valid, merged.Reasons, len(merged.Nodes))
	}
	ignore := cmpopts.IgnoreFields(Result{}, "Segment", "Clock", "Notes", "Nodes", "Host")
	if d := cmp.Diff(whole, merged, ignore); d != "" {
		t.Errorf("merged shards are not the whole (-whole +merged):\n%s", d)
	}
	for _, name := range Histograms() {
		a, b := decoded(t, whole.Histograms[name]), decoded(t, merged.Histograms[name])
		if !a.Equal(b) {
			t.Errorf("%s: the merged histogram differs", name)
		}
	}
	sumIntervals(t, merged)
}

// sumIntervals checks that the intervals add up to the totals.
func sumIntervals(t *testing.T, r *Result) {
	t.Helper()
	for _, name := range intervalKinds {
		total := histogram.New()
		for _, v := range r.Intervals {
			if v.Count == 0 {
				continue
			}
			if err := total.Merge(decoded(t, v.Histograms[name])); err != nil {
				t.Fatal(err)
			}
		}
		if !total.Equal(decoded(t, r.Histograms[name])) || total.Count() == 0 {
			t.Errorf("%s: intervals add up to %d, the total is %d", name, total.Count(), r.Quantiles[name].Count)
		}
	}
}

func decoded(t testing.TB, text []byte) *histogram.Histogram {
	t.Helper()
	h, err := histogram.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// load/merge/no-average: merged percentiles are those of the pooled samples, where
// the mean of the shards' percentiles is far off.
func TestMergedPercentileIsThatOfTheSamples(t *testing.T) {
	const n = 4
	var nodes []*Result
	var pooled []int64
	average := 0.0
	for node := range n {
		r := sampled(t, constant(10_000, time.Second), Segment{Node: node + 1, Of: n}, func(id int64) (int64, int64, outcome) {
			_, service, _ := skewed(id)
			service *= 1 + int64(node)*int64(node)*int64(node)
			pooled = append(pooled, service)
			return 0, service, outcomeOK
		})
		average += float64(r.Quantiles[ResponseOK].P99) / n
		nodes = append(nodes, r)
	}
	merged, err := Merge(nodes...)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(pooled)
	want := float64(pooled[len(pooled)*99/100-1])
	if got := float64(merged.Quantiles[ResponseOK].P99); math.Abs(got-want) > want/1000 {
		t.Errorf("p99 %g, of the pooled samples %g", got, want)
	}
	if math.Abs(average-want) < want/10 {
		t.Errorf("the mean of the p99s is %g, close to %g: this test proves nothing", average, want)
	}
}

// load/merge/refuse
func TestMergeRefuses(t *testing.T) {
	s := constant(3000, time.Second)
	cases := map[string]func(nodes []*Result) []*Result{
		"none given":                   func([]*Result) []*Result { return nil },
		"segment 2/3 is missing":       func(n []*Result) []*Result { return []*Result{n[0], n[2]} },
		"segment 3/3 is missing":       func(n []*Result) []*Result { return n[:2] },
		"segment 1/3:5,3,2 appears tw": func(n []*Result) []*Result { return append(n, n[0]) },
		"geometry is":                  func(n []*Result) []*Result { n[1].Geometry.Digits = 2; return n },
		"version is":                   func(n []*Result) []*Result { n[1].Version = "other"; return n },
		"seed is 7":                    func(n []*Result) []*Result { n[1].Schedule.Seed = 7; return n },
		"schedule digest is":           func(n []*Result) []*Result { n[1].Schedule.Digest = "00"; return n },
		"schedule is":                  func(n []*Result) []*Result { n[1].Schedule.Rate++; return n },
		"mode is":                      func(n []*Result) []*Result { n[1].Mode = "async"; return n },
		"lateness bound is 1s":         func(n []*Result) []*Result { n[1].LatenessAsked = second; return n },
		"segment is 2/3":               func(n []*Result) []*Result { n[1].Segment.Shares = nil; return n },
		"its share of 3000":            func(n []*Result) []*Result { n[1].Counts.Scheduled++; return n },
		"closed model":                 func(n []*Result) []*Result { n[1].Model, n[1].Label = ModelClosed, ClosedLabel; return n },
		"merged already":               func(n []*Result) []*Result { n[1].Nodes = []Node{{}}; return n },
		"the drain limits differ":      func(n []*Result) []*Result { n[1].Intervals[0].Width++; return n },
		"corrupt histogram":            func(n []*Result) []*Result { n[1].Histograms[Service] = nil; return n },
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for want, edit := range cases {
		r, err := Merge(edit(shards(t, s))...)
		if r != nil || !errors.Is(err, ErrMerge) || !strings.Contains(err.Error(), want) {
			t.Errorf("result %v, error %v, want %q", r != nil, err, want)
		}
	}
}

// load/merge/invalid-node, and the clock of the gate
func TestMergedValidity(t *testing.T) {
	cases := map[string]struct {
		edit func(nodes []*Result)
		want []Reason
	}{
		"all valid":     {func([]*Result) {}, nil},
		"one late":      {func(n []*Result) { n[1].Invalidate(ReasonLateness) }, []Reason{ReasonLateness}},
		"two reasons":   {func(n []*Result) { n[0].Invalidate(ReasonHost); n[2].Invalidate(ReasonUnsent) }, []Reason{ReasonUnsent, ReasonHost}},
		"started later": {func(n []*Result) { n[1].Start = n[1].Start.Add(2 * time.Hour) }, []Reason{ReasonClock}},
		"other machine": {func(n []*Result) { n[1].Host.Boot = "other" }, []Reason{ReasonClock}},
		"other machine, known clock": {func(n []*Result) {
			n[1].Host.Boot = "other"
			for _, r := range n {
				r.Clock = Clock{Known: true, Bound: time.Millisecond}
			}
		}, nil},
		"other machine, bad clock": {func(n []*Result) {
			n[1].Host.Boot = "other"
			for _, r := range n {
				r.Clock = Clock{Known: true, Bound: time.Hour}
			}
		}, []Reason{ReasonClock}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for name, c := range cases {
		nodes := shards(t, constant(300, time.Second))
		c.edit(nodes)
		r, err := Merge(nodes...)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(append([]Reason{}, c.want...), r.Reasons); d != "" || r.Valid != (len(c.want) == 0) {
			t.Errorf("%s: valid %v, reasons (-want +got):\n%s", name, r.Valid, d)
		}
		if invalid := len(r.Notes); invalid == 0 && len(c.want) > 0 && c.want[0] != ReasonClock {
			t.Errorf("%s: no note names the invalid node", name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	raw, err := sampled(t, constant(100, time.Second), Segment{}, skewed).Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(string(raw), old) {
			t.Fatalf("the file has no %s", old)
		}
		return strings.Replace(string(raw), old, new, 1)
	}
	cases := map[string]string{
		"unexpected end":         "",
		`format ""`:              "{}",
		`format "assay-load/v2"`: edit("assay-load/v1", "assay-load/v2"),
		"unknown field":          edit(`"stray_replies"`, `"strays"`),
		"invalid character":      string(raw) + "{}",
		"geometry":               edit(`"digits": 3`, `"digits": 2`),
		"do not agree":           edit(`"ok": `, `"ok": 1`),
		"a count of -":           edit(`"unsent": `, `"unsent": -1`),
		"unknown reason":         edit(`"reasons": []`, `"reasons": ["tired"]`),
		"valid is true":          edit(`"reasons": []`, `"reasons": ["host"]`),
		"unknown model":          edit(`"open"`, `"ajar"`),
		"histogram unsent_wait":  edit(`"unsent_wait": "`, `"unsent_wait": "A`),
		"interval 0: begins":     edit(`"start_ns": 0`, `"start_ns": 1`),
		"5 histograms, want 6":   edit(`"unsent_wait": "`, `"service": "`),
		"lateness judged by":     edit(`"lateness_judged": "lateness"`, `"lateness_judged": "luck"`),
		"segment 1 of 2000":      edit(`"of": 1`, `"of": 2000`),
		"a schedule of":          edit(`"elapsed_ns": `, `"elapsed_ns": -`),
	}
	for want, text := range cases {
		r, err := Decode([]byte(text))
		if r != nil || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("result %v, error %.300v, want %q", r != nil, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	raw, err := sampled(f, constant(100, time.Second), Segment{}, skewed).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":"assay-load/v1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("what was read can not be read again: %v", err)
		}
		if r.Model == ModelOpen {
			_, _ = Merge(r, r) // must not panic
		}
	})
}
